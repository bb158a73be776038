"""Counters against a list of integers."""

import random

from bench import simulate

from systolith_hw.control.counters import COUNTERS, Counters
from systolith_hw.isa import QUEUES, STALL_CAUSES


def test_order():
    """Busy and the causes of each queue, queue after queue (rule T6)."""
    assert tuple((queue, cause) for queue in ("load", "matmul", "vector", "store") for cause in (
        "busy", "empty", "wait_load", "wait_matmul", "wait_vector", "wait_store", "in_flight")) == COUNTERS
    assert len(COUNTERS) == len(QUEUES) * (1 + len(STALL_CAUSES))


def test_counts():
    dut, rng = Counters(), random.Random(1)

    async def bench(ctx):
        cycles, counts = 0, [0] * len(COUNTERS)
        for _ in range(500):
            assert ctx.get(dut.cycles) == cycles
            assert [ctx.get(dut.counts[n]) for n in range(len(COUNTERS))] == counts
            run, clear, events = rng.random() < 0.7, rng.random() < 0.02, rng.getrandbits(len(COUNTERS))
            ctx.set(dut.run, run)
            ctx.set(dut.clear, clear)
            ctx.set(dut.events, events)
            await ctx.tick()
            cycles = 0 if clear else cycles + run
            counts = [0 if clear else count + (run and events >> n & 1) for n, count in enumerate(counts)]

    simulate(dut, bench)
