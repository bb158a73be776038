"""The matmul unit: every read, every sum's place, every post in the cycle that rules T7 to T9 name."""

import random

import pytest
from bench import simulate
from units import start

from systolith_hw.config import CoreConfig
from systolith_hw.control.matmul import MatmulUnit
from systolith_hw.isa import Matmul

CORES = [
    CoreConfig(rows=4, cols=4, port_bytes=4, acc_rows=16, data_bytes=512, weight_bytes=512),
    CoreConfig(rows=3, cols=5, port_bytes=2, acc_rows=16, data_bytes=512, weight_rows_per_cycle=2),
    CoreConfig(rows=9, cols=1, acc_rows=16, weight_bytes=512, memory_latency=3, multiplier_latency=3),
    CoreConfig(rows=1, cols=2, port_bytes=1, acc_rows=16, data_bytes=256, weight_bytes=256),
]


def random_matmul(rng, core):
    sizes = core.sizes
    return Matmul(
        accumulate=rng.random() < 0.5, signed=rng.random() < 0.5, post=rng.getrandbits(4),
        m=rng.randint(1, 9), k_tiles=rng.randint(1, 3), n_tiles=rng.randint(1, 3),
        data_address=rng.randrange(0, core.data_bytes, sizes.read_granule),
        data_stride=sizes.data_word_bytes * rng.randrange(4),
        weight_address=rng.randrange(0, core.weight_bytes, sizes.weight_granule),
        weight_stride=sizes.weight_word_bytes * rng.randrange(4),
        acc_address=rng.randrange(core.acc_banks * core.acc_rows), acc_stride=rng.randrange(16))


def expected_events(core, at, op, index):
    """What the contract says of an instruction that starts at cycle ``at``: (cycle, port, values)."""
    ml, wrpc, group = core.memory_latency, core.weight_rows_per_cycle, core.weight_rows_per_cycle * core.cols
    groups = -(-core.rows // wrpc)
    length = max(op.m, groups, ml + 2)
    through = (ml + 1) + (core.rows + core.cols + core.multiplier_latency - 1)
    rows, row = core.acc_banks * core.acc_rows, at
    for j in range(op.n_tiles):
        for t in range(op.k_tiles):
            begin = at + (j * op.k_tiles + t) * length
            for q in range(groups):
                address = op.weight_address + (t * groups + q) * op.weight_stride + j * group
                yield begin + 1 + q, "w", (address % core.weight_bytes,)
                yield begin + 1 + q + ml + 1, "group", (q,)
            yield begin + groups + 2 + ml, "swap", ()
            for i in range(op.m):
                row = begin + groups + 2 + i
                yield row, "a", ((op.data_address + t * core.rows + i * op.data_stride) % core.data_bytes,)
                yield row + ml + 1, "signed", (int(op.signed),)
                place = (op.acc_address + j * op.acc_stride + i) % rows
                yield row + through - ml, "acc", (place, int(t > 0 or op.accumulate))
        if op.post:
            yield row + through, "post", (op.post, index)
    yield row + through, "complete", (index,)


def observed(ctx, dut, cycle, signed_due):
    """The events of this cycle."""
    unit = dut.unit
    for port, enable, values in (
            ("w", dut.w_en, (dut.w_address,)), ("group", dut.w_valid, (dut.w_group,)), ("swap", dut.swap, ()),
            ("a", dut.a_en, (dut.a_address,)), ("acc", dut.acc_en, (dut.acc_address, dut.acc_accumulate)),
            ("post", unit.post, (unit.post, unit.index)), ("complete", unit.complete, (unit.index,))):
        if ctx.get(enable):
            yield cycle, port, tuple(ctx.get(value) for value in values)
    if signed_due:
        yield cycle, "signed", (ctx.get(dut.a_signed),)


@pytest.mark.parametrize("core", CORES, ids=lambda core: f"{core.rows}x{core.cols}")
@pytest.mark.parametrize("gap", [0, 7])
def test_schedule(core, gap):
    dut, rng = MatmulUnit(core=core), random.Random(core.rows)
    expected, seen, ends = [], [], []
    clock = [0]

    async def issue(ctx):
        for index in range(14):
            for _ in range(rng.randint(0, gap)):
                await ctx.tick()
            op = random_matmul(rng, core)
            await start(ctx, dut.unit, core, op, index=index)
            at = clock[0] - 1
            # Rule T8: with no gap the next one starts in the very cycle in which the unit becomes free.
            if not gap and ends:
                assert at == ends[-1]
            length = max(op.m, -(-core.rows // core.weight_rows_per_cycle), core.memory_latency + 2)
            ends.append(at + op.k_tiles * op.n_tiles * length)
            expected.extend(expected_events(core, at, op, index))
        for _ in range(150):
            await ctx.tick()

    async def watch(ctx):
        rows_in = set()
        async for _ in ctx.tick():
            clock[0] += 1
            seen.extend(observed(ctx, dut, clock[0], clock[0] in rows_in))
            if ctx.get(dut.a_en):
                rows_in.add(clock[0] + core.memory_latency + 1)
            if ends and len(ends) == 14 and clock[0] > ends[-1] + 100:
                return

    simulate(dut, watch, issue)
    assert sorted(seen) == sorted(expected)
