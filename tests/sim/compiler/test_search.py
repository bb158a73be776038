"""What the compiler reaches: utilization in the cycle model, time of the search, the bound."""

import time

import pytest
from compiler.cases import CORES

from systolith_hw import timing
from systolith_hw.isa import Matmul
from systolith_sim.compiler import Shape, bound_cycles, plan_gemm
from systolith_sim.compiler.fits import Ends
from systolith_sim.compiler.search import best_tilings
from systolith_sim.cycle import simulate


def utilizations(core, plan):
    """MACs over peak and cycles: all cycles, and those from the first to the last row into the array."""
    result = simulate(core, plan.instructions, timeline=True)
    assert result.timeline is not None
    starts = [entry for entry in result.timeline.instructions if entry.queue == "matmul"]
    last = plan.instructions[starts[-1].index]
    assert isinstance(last, Matmul)
    rows_after = (last.k_tiles * last.n_tiles - 1) * timing.pass_cycles(core, m=last.m) + last.m
    ideal = plan.shape.macs / core.peak_macs_per_cycle
    return ideal / result.cycles, ideal / (starts[-1].start + rows_after - starts[0].start)


@pytest.mark.parametrize(("name", "size", "least", "instructions"), [
    ("base", 128, 0.97, 300), ("wide", 128, 0.90, 120),
    ("base", 512, 0.995, 1500), ("wide", 512, 0.995, 1000)])
def test_utilization(name, size, least, instructions):
    plan = plan_gemm(CORES[name], size, size, size)
    whole, busy = utilizations(CORES[name], plan)
    assert whole >= least
    assert busy >= 0.988
    assert len(plan.instructions) <= instructions


@pytest.mark.parametrize("name", ["base", "wide"])
def test_closed_form_search_is_fast(name):
    start = time.process_time()
    best_tilings(CORES[name], Shape(m=4096, k=4096, n=4096), timing.MemoryTiming(), Ends())
    assert time.process_time() - start < 1


@pytest.mark.parametrize(("shape", "most"), [
    ((5, 32, 3), 1.9), ((31, 32, 31), 1.8), ((24, 32, 1), 1.85), ((33, 33, 33), 1.6), ((1, 768, 768), 1.08),
    ((17, 129, 63), 1.3), ((1, 1, 1), 1.7), ((300, 300, 300), 1.02)])
def test_cycles_lie_between_the_bound_and_a_known_factor(shape, most):
    core = CORES["base"]
    cycles = simulate(core, plan_gemm(core, *shape).instructions).cycles
    assert bound_cycles(core, *shape) <= cycles <= most * bound_cycles(core, *shape)


@pytest.mark.parametrize("name", sorted(CORES))
@pytest.mark.parametrize("shape", [(1, 1, 1), (19, 23, 29), (64, 5, 7)])
@pytest.mark.parametrize("memory", [timing.MemoryTiming(), timing.MemoryTiming(latency=1, burst_overhead=0)])
def test_no_program_beats_the_bound(name, shape, memory):
    core = CORES[name]
    plan = plan_gemm(core, shape[0], shape[1], shape[2], memory=memory, play=False)
    assert simulate(core, plan.instructions, memory).cycles >= bound_cycles(core, *shape, memory=memory)


def test_playing_never_loses_to_the_closed_form():
    core = CORES["wide"]
    played = plan_gemm(core, 60, 70, 80)
    guessed = plan_gemm(core, 60, 70, 80, play=False)
    assert simulate(core, played.instructions).cycles <= simulate(core, guessed.instructions).cycles
