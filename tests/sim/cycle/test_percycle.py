"""The event model against the per-cycle core, on random programs."""

from random import Random

import pytest
from cycle.percycle import PerCycleCore
from cycle.programs import random_core, random_memory, random_program
from hypothesis import given, settings
from hypothesis import strategies as st

from systolith_hw.config import PRESETS, CoreConfig
from systolith_hw.isa import Instruction
from systolith_hw.timing import MemoryTiming
from systolith_sim.compiler.plan import plan_gemm
from systolith_sim.cycle import simulate


def compare(core: CoreConfig, program: list[Instruction], memory: MemoryTiming) -> None:
    reference = PerCycleCore(core, program, memory)
    cycles = reference.run(patience=3000)
    result = simulate(core, program, memory, timeline=True)
    case = f"{core=} {memory=} {program=}"
    assert result.timeline is not None
    for times in result.timeline.instructions:
        expected = reference.starts[times.index], reference.dones[times.index]
        assert (times.start, times.done) == expected, f"{times} {case}"
    transfers = [(times.requester, times.accept) for times in result.timeline.transfers]
    bursts = iter(reference.accepted)
    # Each transfer's first burst, in order; the bursts between are the rest of the transfer.
    assert all(any(burst == transfer for burst in bursts) for transfer in transfers), case
    assert (result.cycles, result.counters) == (cycles, reference.counters), case


@pytest.mark.parametrize("seed", range(100))
def test_random_program(seed):
    random = Random(seed)
    core, memory = random_core(random), random_memory(random)
    compare(core, random_program(random, core, length=random.choice([1, 5, 20, 60])), memory)


@pytest.mark.parametrize("name", PRESETS)
def test_preset(name):
    random = Random(name)
    compare(PRESETS[name], random_program(random, PRESETS[name], length=80), MemoryTiming())


@pytest.mark.parametrize(("name", "m", "k", "n"), [
    ("tiny", 9, 17, 5), ("base", 17, 40, 33), ("long", 1, 30, 50),
])
def test_compiled_gemm(name, m, k, n):
    core = PRESETS[name]
    compare(core, list(plan_gemm(core, m, k, n).instructions), MemoryTiming())


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 12))
def test_searched_program(random, length):
    core, memory = random_core(random), random_memory(random)
    compare(core, random_program(random, core, length=length), memory)
