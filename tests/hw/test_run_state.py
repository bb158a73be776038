"""Running, done, faults and their order, the watchdog."""

import pytest
from bench import simulate

from systolith_hw.control.faults import FAULT_SOURCES, RunState

# (code, queue) as docs/contracts/isa.md numbers them: of several in one cycle the first is kept.
SOURCES = [(7, 0), (8, 3), (9, 4), (1, 4), (2, 3), (3, 2), (4, 2), (5, 0), (5, 1), (5, 2), (5, 3)]
WATCHDOG = 20


async def begin(ctx, dut):
    ctx.set(dut.watchdog, WATCHDOG)
    ctx.set(dut.start, 1)
    assert ctx.get(dut.began)
    await ctx.tick()
    ctx.set(dut.start, 0)
    assert (ctx.get(dut.running), ctx.get(dut.done), ctx.get(dut.faulted)) == (1, 0, 0)


def fault(ctx, dut):
    assert (ctx.get(dut.running), ctx.get(dut.done), ctx.get(dut.faulted)) == (0, 0, 1)
    return ctx.get(dut.code), ctx.get(dut.queue), ctx.get(dut.index)


def test_runs_follow_each_other():
    dut = RunState()

    async def bench(ctx):
        for _ in range(3):
            await begin(ctx, dut)
            ctx.set(dut.start, 1)
            assert not ctx.get(dut.began)
            await ctx.tick()
            ctx.set(dut.start, 0)
            ctx.set(dut.finished, 1)
            await ctx.tick()
            ctx.set(dut.finished, 0)
            assert (ctx.get(dut.running), ctx.get(dut.done), ctx.get(dut.faulted)) == (0, 1, 0)

    simulate(dut, bench)


@pytest.mark.parametrize("number", range(len(SOURCES)))
def test_faults(number):
    dut = RunState()

    async def bench(ctx):
        ctx.set(dut.raised, 1 << number)
        await ctx.tick()
        assert not ctx.get(dut.faulted), "nothing runs"
        ctx.set(dut.raised, 0)
        await begin(ctx, dut)
        # All later ones too, and the end of the program: the first in order is kept.
        ctx.set(dut.raised, (1 << len(SOURCES)) - (1 << number))
        ctx.set(dut.finished, 1)
        for place in range(len(SOURCES)):
            ctx.set(dut.indices[place], 100 + place)
        await ctx.tick()
        assert fault(ctx, dut) == (*SOURCES[number], 100 + number)
        ctx.set(dut.raised, 1)
        ctx.set(dut.start, 1)
        assert not ctx.get(dut.began), "a fault stays until the core is cleared"
        await ctx.tick().repeat(2)
        assert fault(ctx, dut) == (*SOURCES[number], 100 + number)

    assert [(int(code), ("load", "matmul", "vector", "store", "fetch").index(queue))
            for code, queue in FAULT_SOURCES] == SOURCES
    simulate(dut, bench)


@pytest.mark.parametrize(("waiting", "queue", "index"), [
    (0b1111, 0, 10), (0b1100, 2, 12), (0b1000, 3, 13), (0b0000, 4, 99)])
def test_deadlock(waiting, queue, index):
    dut = RunState()

    async def bench(ctx):
        ctx.set(dut.fetched, 99)
        ctx.set(dut.waiting, waiting)
        for place in range(4):
            ctx.set(dut.heads[place], 10 + place)
        await begin(ctx, dut)
        for pause in (WATCHDOG - 1, 1, WATCHDOG - 3):
            for _ in range(pause):
                await ctx.tick()
                assert ctx.get(dut.running)
            ctx.set(dut.progress, 1)
            await ctx.tick()
            ctx.set(dut.progress, 0)
        for _ in range(WATCHDOG):
            assert ctx.get(dut.running)
            await ctx.tick()
        await ctx.tick()
        assert fault(ctx, dut) == (6, queue, index)

    simulate(dut, bench)
