"""Counting semaphores against a list of integers."""

import random

from bench import simulate

from systolith_hw.control.semaphores import Semaphores


def test_counts():
    dut, rng = Semaphores(), random.Random(3)

    async def bench(ctx):
        counts = [0] * 16
        for _ in range(600):
            up = sum(1 << n for n, count in enumerate(counts) if count)
            assert ctx.get(dut.up) == up
            post, lower = rng.getrandbits(16), rng.getrandbits(16) & rng.getrandbits(16) & up
            ctx.set(dut.post, post)
            ctx.set(dut.lower, lower)
            assert ctx.get(dut.overflow) == 0
            await ctx.tick()
            counts = [count + (post >> n & 1) - (lower >> n & 1) for n, count in enumerate(counts)]
            if rng.random() < 0.01:
                ctx.set(dut.clear, 1)
                await ctx.tick()
                ctx.set(dut.clear, 0)
                counts = [0] * 16

    simulate(dut, bench)


def test_overflow_names_the_queue():
    dut = Semaphores()

    async def bench(ctx):
        ctx.set(dut.post, 1 << 6)
        for _ in range(255):
            assert ctx.get(dut.overflow) == 0
            await ctx.tick()
        assert ctx.get(dut.overflow) == 0b0010
        ctx.set(dut.lower, 1 << 6)
        assert ctx.get(dut.overflow) == 0

    simulate(dut, bench)
