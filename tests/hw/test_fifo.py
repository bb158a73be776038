"""The queue: order, bounds, latency."""

import random

import pytest
from bench import get, put, simulate

from systolith_hw.memory.fifo import Fifo


@pytest.mark.parametrize(("gap", "pause"), [(0, 0), (2, 0), (0, 3)])
@pytest.mark.parametrize("depth", [2, 8])
def test_order_is_kept(depth, gap, pause):
    dut = Fifo(shape=8, depth=depth)
    values = [random.Random(depth).randrange(256) for _ in range(40)]

    async def source(ctx):
        for value in values:
            await put(ctx, dut.i, value, gap=gap)

    async def sink(ctx):
        assert [await get(ctx, dut.o, pause=pause) for _ in values] == values

    simulate(dut, source, sink)


def test_level_and_latency():
    dut = Fifo(shape=8, depth=2)

    async def bench(ctx):
        for value in (5, 6):
            ctx.set(dut.i.valid, 1)
            ctx.set(dut.i.payload, value)
            await ctx.tick()
            assert ctx.get(dut.o.valid)
            assert ctx.get(dut.o.payload) == 5
        assert ctx.get(dut.level) == 2
        assert not ctx.get(dut.i.ready)

    simulate(dut, bench)


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_depth_is_checked(depth):
    with pytest.raises(ValueError, match=f"^depth must be a power of two >= 2, not {depth}$"):
        Fifo(shape=1, depth=depth)
