"""The memory of docs/contracts/memory.md as the engine has it: cycles, contents, errors, random stalls."""

from random import Random

import pytest
from engine.builds import exerciser
from engine.driving import Command, events, expected_events, fill, issue, random_commands, responses
from engine.exerciser import BOTH, EARLY, MISBEHAVE, NARROW, REFUSE

from systolith_hw.timing import MemoryTiming
from systolith_sim.engine import Engine, EngineError, Stalls

BYTES = 1 << 16
TIMINGS = [MemoryTiming(), MemoryTiming(latency=1, burst_overhead=0, write_latency=1),
           MemoryTiming(latency=200, burst_overhead=5, write_latency=90)]
DECERR = 3


@pytest.mark.parametrize("timing", TIMINGS, ids=["contract", "fastest", "slow"])
@pytest.mark.parametrize("port_bytes", [1, 8, 16])
def test_deterministic_cycles(port_bytes, timing):
    commands = random_commands(Random(port_bytes), count=40, port_bytes=port_bytes, memory_bytes=BYTES)
    with Engine(exerciser(port_bytes), memory_bytes=BYTES, timing=timing) as engine:
        assert issue(engine, commands)
        assert events(engine) == expected_events(commands, timing, None)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("probability", "longest"), [(0.25, 7), (0.9, 40), (1, 1)])
def test_random_cycles(probability, longest, seed):
    stalls = Stalls(seed=seed, probability=probability, longest=longest)
    commands = random_commands(Random(seed), count=40, port_bytes=8, memory_bytes=BYTES)
    with Engine(exerciser(8), memory_bytes=BYTES, stalls=stalls) as engine:
        assert issue(engine, commands)
        assert events(engine) == expected_events(commands, MemoryTiming(), stalls), f"{seed=}"


@pytest.mark.parametrize(("probability", "mean"), [(0, 0), (0.25, 1), (1, 4)])
def test_waits_have_their_mean(probability, mean):
    stalls = Stalls(seed=7, probability=probability)
    assert stalls.mean == mean
    waits = stalls.waits("w", 100_000)
    assert waits.mean() == pytest.approx(mean, rel=0.02)
    assert waits.max() <= stalls.longest


def test_channels_and_seeds_differ():
    drawn = {tuple(Stalls(seed=seed).waits(channel, 64)) for seed in range(8) for channel in ("ar", "r", "b")}
    assert len(drawn) == 24


@pytest.mark.parametrize(("change", "message"), [
    ({"seed": -1}, "seed must be in 0..4294967295, not -1"),
    ({"probability": 1.5}, "probability must be in 0..1, not 1.5"),
    ({"longest": 0}, "longest must be in 1..1048576, not 0"),
])
def test_wrong_stalls_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Stalls(**({"seed": 0} | change))


@pytest.mark.parametrize("port_bytes", [1, 8, 16])
@pytest.mark.parametrize("stalls", [None, Stalls(seed=3)], ids=["deterministic", "random"])
def test_copies_are_exact(port_bytes, stalls):
    with Engine(exerciser(port_bytes), memory_bytes=BYTES, stalls=stalls) as engine:
        before = fill(engine, port_bytes)
        span = 5 * 16 * port_bytes
        assert issue(engine, [Command(False, 16 * port_bytes * n, 16) for n in range(5)])
        assert issue(engine, [Command(True, 0x8000 + 8 * port_bytes * n, 8) for n in range(10)])
        assert (engine.memory[0x8000:0x8000 + span] == before[:span]).all()
        engine.memory[0x8000:0x8000 + span] = before[0x8000:0x8000 + span]
        assert (engine.memory == before).all()


def test_contents_follow_the_order_of_acceptance():
    with Engine(exerciser(8), memory_bytes=BYTES) as engine:
        fill(engine, 1)
        assert issue(engine, [Command(False, 0x100, 1)])
        first = engine.read_memory(0x100, 8)
        # The first read is given long after the write's beat, the second is accepted after it.
        assert issue(engine, [Command(False, 0x200, 1), Command(True, 0x200, 1), Command(False, 0x200, 1)])
        assert engine.read_memory(0x200, 8) == first
        old = fill(engine, 1)[0x200:0x208].tobytes()
        assert issue(engine, [Command(True, 0x300, 1), Command(True, 0x308, 1)])
        assert engine.read_memory(0x300, 16) == old + first


@pytest.mark.parametrize("stalls", [None, Stalls(seed=5)], ids=["deterministic", "random"])
def test_beats_outside_answer_decerr(stalls):
    with Engine(exerciser(8), memory_bytes=4096 + 16, stalls=stalls) as engine:
        fill(engine, 2)
        assert issue(engine, [Command(False, 4096, 4), Command(False, 0xFFFF_FFF8, 1), Command(False, 0, 1)])
        assert responses(engine, 6) == [0, 0, DECERR, DECERR, DECERR, 0]
        before = engine.memory.copy()
        assert issue(engine, [Command(True, 0, 2), Command(True, 4096 + 16, 5)])
        assert (engine.memory[16:] == before[16:]).all()
        assert engine.memory[:16].tobytes() == before[4096:].tobytes()


@pytest.mark.parametrize(("wrong", "commands", "message"), [
    (BOTH, [Command(True, 0, 1)], "a read and a write address in the same cycle"),
    (REFUSE, [Command(False, 0, 1)], "a read beat not taken in the cycle in which it was offered"),
    (NARROW, [Command(True, 0, 1)], "a write beat of less than the port's width"),
    (EARLY, [Command(True, 0, 2)], "wlast not at the last beat of a burst"),
    (0, [Command(False, 4, 1)], "an address that is not aligned to the port"),
    (0, [Command(False, 4096 - 8, 2)], "a burst across a 4 KiB boundary"),
])
def test_a_core_that_breaks_the_contract_is_stopped(wrong, commands, message):
    with Engine(exerciser(8), memory_bytes=BYTES) as engine:
        engine.write32(MISBEHAVE, wrong)
        with pytest.raises(EngineError, match=f"at cycle [0-9]+: {message}$"):
            issue(engine, commands)
