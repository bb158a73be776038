"""The random memory: exact for a seed, an estimate without one."""

from dataclasses import replace
from random import Random
from statistics import fmean

import pytest
from cycle.percycle import PerCycleCore
from cycle.percycle_random import RandomMemory
from cycle.programs import random_core, random_memory, random_program

from systolith_hw.config import PRESETS
from systolith_hw.timing import MemoryTiming
from systolith_sim.cycle import RandomStalls, simulate
from systolith_sim.engine.memory import Stalls


@pytest.mark.parametrize("seed", range(30))
def test_a_seed_plays_the_memory_itself(seed):
    random = Random(seed)
    core, memory = random_core(random), random_memory(random)
    program = random_program(random, core, length=random.choice([5, 20, 40]))
    waits = {"probability": random.choice([0.05, 0.5, 0.99]), "longest": random.choice([1, 4, 12])}
    reference = PerCycleCore(core, program, RandomMemory(memory, seed=seed, **waits))
    cycles = reference.run(patience=20_000)
    result = simulate(core, program, memory, stalls=RandomStalls.of(Stalls(seed=seed, **waits)))
    assert (result.cycles, result.counters) == (cycles, reference.counters), f"{core=} {memory=} {program=}"


def test_no_waits_is_the_deterministic_memory():
    core = PRESETS["tiny"]
    program = random_program(Random(1), core, length=60)
    never = RandomStalls(probability=0.0, longest=1)
    assert simulate(core, program, stalls=never, timeline=True) == simulate(core, program, timeline=True)


@pytest.mark.parametrize("name", ["tiny", "base"])
def test_the_mean_estimates_every_seed(name):
    core, random = PRESETS[name], Random(name)
    errors = []
    for seed in range(10):
        program = random_program(random, core, length=500)
        stalls = RandomStalls.of(Stalls(seed=seed))
        cycles = simulate(core, program, stalls=stalls).cycles
        assert cycles >= 20_000
        estimate = simulate(core, program, stalls=replace(stalls, source=None)).cycles
        errors.append(abs(estimate - cycles) / cycles)
    assert fmean(errors) <= 0.01


@pytest.mark.parametrize(("field", "value", "allowed"), [
    ("probability", 1.5, "0..1"), ("longest", 0, "1..1048576"),
])
def test_refused(field, value, allowed):
    with pytest.raises(ValueError, match=f"{field} must be in {allowed}, not {value}"):
        RandomStalls(**{"probability": 0.1, "longest": 3, field: value})


def test_waits_of_a_slow_memory_cost_what_they_last():
    core, program = PRESETS["tiny"], random_program(Random(2), PRESETS["tiny"], length=1)
    always = RandomStalls(probability=1.0, longest=1)
    slow, fast = (simulate(core, program, MemoryTiming(), stalls=stalls) for stalls in (always, None))
    assert slow.cycles > fast.cycles
