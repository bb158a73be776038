"""Arbitration: the oldest request first, ties in the order fetch, load, store (rule T13)."""

import random

import pytest
from bench import simulate

from systolith_hw.memory.arbiter import REQUESTERS, PortArbiter


@pytest.mark.parametrize("seed", range(5))
def test_oldest_first(seed):
    dut, rng = PortArbiter(), random.Random(seed)

    async def bench(ctx):
        since: list[int | None] = [None] * 3
        owner, grants, left = None, [0] * 3, 0
        for cycle in range(600):
            for n in range(3):
                if since[n] is None and owner != n and rng.random() < 0.2:
                    since[n] = cycle
            ends = owner is not None and left == 0
            ctx.set(dut.request, sum(1 << n for n in range(3) if since[n] is not None))
            ctx.set(dut.last, ends)
            await ctx.tick()
            if owner is None and any(time is not None for time in since):
                owner = min((n for n in range(3) if since[n] is not None), key=lambda n: (since[n], n))
                since[owner], left = None, rng.randint(0, 6)
                grants[owner] += 1
            elif ends:
                owner = None
            else:
                left -= 1
            assert ctx.get(dut.owner) == (0 if owner is None else 1 << owner), f"cycle {cycle}"
        assert min(grants) > 20, dict(zip(REQUESTERS, grants, strict=True))

    simulate(dut, bench)
