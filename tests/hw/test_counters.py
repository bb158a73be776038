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
        cycles, counts, rows = 0, [0] * len(COUNTERS), []
        for _ in range(500):
            assert ctx.get(dut.cycles) == cycles
            assert [ctx.get(dut.counts[n]) for n in range(len(COUNTERS))] == counts
            assert ctx.get(dut.first_row) == (rows[0] if rows else 0)
            assert ctx.get(dut.last_row) == (rows[-1] if rows else 0)
            run, clear, events = rng.random() < 0.7, rng.random() < 0.02, rng.getrandbits(len(COUNTERS))
            row = rng.random() < 0.1
            for signal, value in ((dut.run, run), (dut.clear, clear), (dut.events, events), (dut.row, row)):
                ctx.set(signal, value)
            await ctx.tick()
            cycles = 0 if clear else cycles + run
            counts = [0 if clear else count + (run and events >> n & 1) for n, count in enumerate(counts)]
            # The first cycle of a run is cycle 1.
            rows = [] if clear else rows + [cycles] * (run and row)

    simulate(dut, bench)
