"""The accumulator: stores, sums, read-modify-write at its latency, the vector unit's reads, conflicts."""

import random

import pytest
from bench import simulate

from systolith_hw.config import CoreConfig
from systolith_hw.memory.accumulator import Accumulator
from systolith_hw.timing import accumulate_latency

CORES = [CoreConfig(rows=4, cols=3, acc_rows=16),
         CoreConfig(rows=9, cols=1, acc_rows=16, acc_banks=4, memory_latency=3)]


@pytest.mark.parametrize("core", CORES, ids=lambda core: f"{core.rows}x{core.cols}")
def test_sums(core):
    dut, rng, latency = Accumulator(core=core), random.Random(4), core.memory_latency
    total = core.acc_banks * core.acc_rows
    rows = [[0] * core.cols for _ in range(total)]
    limit = 1 << (core.sizes.partial_sum_bits - 1)
    busy_until, arrivals, reads = [0] * total, {}, {}

    async def bench(ctx):
        for cycle in range(900):
            address = rng.randrange(total)
            free = busy_until[address] <= cycle
            en = free and rng.random() < 0.8
            accumulate = cycle > 300 and rng.random() < 0.7
            ctx.set(dut.en, en)
            ctx.set(dut.address, address)
            ctx.set(dut.accumulate, accumulate)
            if en:
                busy_until[address] = cycle + accumulate_latency(core)
                arrivals[cycle + latency] = address, accumulate
            sums = [rng.choice([-limit, limit - 1, rng.randrange(-limit, limit)]) for _ in range(core.cols)]
            ctx.set(dut.sums, sums)
            if cycle in arrivals:
                place, add = arrivals[cycle]
                rows[place] = [(old if add else 0) + new for old, new in zip(rows[place], sums, strict=True)]
            v_address = rng.randrange(total)
            bank = v_address // core.acc_rows
            v_en = busy_until[v_address] <= cycle and not (en and accumulate and bank == address // core.acc_rows)
            ctx.set(dut.v_en, v_en)
            ctx.set(dut.v_address, v_address)
            if v_en and cycle > 300:
                reads[cycle + latency] = list(rows[v_address])
            if cycle in reads:
                assert [ctx.get(dut.v_data)[n] for n in range(core.cols)] == reads[cycle], cycle
            assert not ctx.get(dut.conflict)
            await ctx.tick()

    simulate(dut, bench)
    assert len(reads) > 100


def test_conflict_is_two_readers_of_one_bank():
    dut = Accumulator(core=CORES[0])

    async def bench(ctx):
        ctx.set(dut.en, 1)
        ctx.set(dut.v_en, 1)
        for accumulate in range(2):
            for first in (0, 16):
                for second in (3, 17):
                    ctx.set(dut.accumulate, accumulate)
                    ctx.set(dut.address, first)
                    ctx.set(dut.v_address, second)
                    assert ctx.get(dut.conflict) == (accumulate and first // 16 == second // 16)

    simulate(dut, bench)
