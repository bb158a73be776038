"""The vector unit: results against the integer contract; every event in its cycle (T10, T11)."""

import random
from functools import partial

import pytest
from bench import simulate
from units import start

from systolith_hw.config import CoreConfig
from systolith_hw.isa import Vector
from systolith_hw.vector.unit import VectorUnit

small = partial(CoreConfig, rows=2, acc_rows=16, data_bytes=512, parameter_bytes=256)
CORES = [
    small(cols=5, port_bytes=4, requant_lanes=2),
    small(cols=1, port_bytes=16, table_slots=1),
    small(cols=4, port_bytes=1, requant_lanes=4, memory_latency=3, multiplier_latency=3, table_slots=2),
]
GAP_BEFORE_END = 40


def requantized(acc, bias, mantissa, shift, zero_point):
    """Rules N4 to N6 in whole numbers."""
    product = (acc + bias) * mantissa
    quotient, remainder = divmod(product, 1 << shift)
    twice = 2 * remainder
    quotient += twice > 1 << shift or (twice == 1 << shift and quotient % 2 == 1)
    return min(127, max(-128, quotient + zero_point))


class Memories:
    """Accumulator, parameters and tables with any contents."""

    def __init__(self, core, rng):
        self.core = core
        self.rows = [[rng.choice([rng.randrange(-1 << 31, 1 << 31), rng.randrange(-999, 999)])
                      for _ in range(core.cols)] for _ in range(core.acc_banks * core.acc_rows)]
        words = core.parameter_bytes // core.sizes.parameter_word_bytes
        self.lanes = [[(rng.randrange(-1 << 31, 1 << 31) if rng.random() < 0.3 else rng.randrange(-999, 999),
                        rng.randrange(1 << 16), rng.choice([rng.randrange(64), rng.randrange(8, 24)]))
                       for _ in range(core.requant_lanes)] for _ in range(words)]
        self.tables = rng.randbytes(256 * core.table_slots)

    def parameter_word(self, word):
        return sum((bias % (1 << 32) | mantissa << 32 | shift << 48) << 64 * lane
                   for lane, (bias, mantissa, shift) in enumerate(self.lanes[word % len(self.lanes)]))

    def result(self, op, row):
        """The bytes of one row."""
        acc = self.rows[(op.acc_address + row) % len(self.rows)]
        out = []
        for column in range(op.n):
            group, lane = divmod(column, self.core.requant_lanes)
            word = op.parameter_address // self.core.sizes.parameter_word_bytes + group
            bias, mantissa, shift = self.lanes[word % len(self.lanes)][lane]
            byte = requantized(acc[column], bias, mantissa, shift, op.zero_point) % 256
            out.append(self.tables[256 * op.table + byte] if op.use_table else byte)
        return tuple(out)


def random_vector(rng, core):
    sizes = core.sizes
    return Vector(
        use_table=rng.random() < 0.5, table=rng.randrange(core.table_slots), m=rng.randint(1, 6),
        n=rng.randint(1, core.cols), post=rng.getrandbits(4), zero_point=rng.randrange(-128, 128),
        acc_address=rng.randrange(core.acc_banks * core.acc_rows),
        data_address=rng.randrange(0, core.data_bytes, sizes.write_granule),
        data_stride=sizes.data_word_bytes * rng.randrange(4),
        parameter_address=rng.randrange(0, core.parameter_bytes, sizes.parameter_word_bytes))


def expected_events(core, memories, at, op, index):
    """What the contract says of an instruction that starts at cycle ``at``."""
    g, rows = -(-op.n // core.requant_lanes), core.acc_banks * core.acc_rows
    latency = (core.memory_latency + 2) + (core.multiplier_latency + 6) + (core.memory_latency + 1) + 2
    for r in range(op.m):
        yield at + 1 + r * g, "acc", ((op.acc_address + r) % rows, index)
        # A row is written once its last group has come through; the last row's post is visible with it.
        yield at + (r + 1) * g + latency, "write", (
            (op.data_address + r * op.data_stride) % core.data_bytes, memories.result(op, r), index)
    done = at + op.m * g + latency - 1
    yield done, "complete", (op.post, index)


async def fill_tables(ctx, dut, core, memories):
    port = core.port_bytes
    ctx.set(dut.table_en, 1)
    for word in range(len(memories.tables) // port):
        ctx.set(dut.table_address, word)
        ctx.set(dut.table_data, int.from_bytes(memories.tables[word * port:(word + 1) * port], "little"))
        await ctx.tick()
    ctx.set(dut.table_en, 0)


def observed(ctx, dut):
    """The events of this cycle."""
    unit = dut.unit
    if ctx.get(dut.acc_en):
        yield "acc", (ctx.get(dut.acc_address), ctx.get(dut.acc_index))
    if ctx.get(dut.w_en):
        data = ctx.get(dut.w_data).to_bytes(len(dut.w_data) // 8, "little")
        yield "write", (ctx.get(dut.w_address), tuple(data[:ctx.get(dut.w_count)]), ctx.get(dut.w_index))
    if ctx.get(unit.complete):
        yield "complete", (ctx.get(unit.post), ctx.get(unit.index))
    else:
        assert not ctx.get(unit.post)


class Clocked:
    """The cycle, what has been seen and what is expected."""

    def __init__(self):
        self.cycle, self.last, self.seen, self.expected = 0, None, [], []


async def memories_answer(ctx, dut, core, memories, clocked):
    """Reads come ``memory_latency`` cycles later; whatever was not asked for is rubbish."""
    latency = core.memory_latency
    rubbish = [-1] * core.cols, 0
    pending = {}
    async for _ in ctx.tick():
        clocked.cycle += 1
        clocked.seen += [(clocked.cycle, *event) for event in observed(ctx, dut)]
        row, word = rubbish
        if ctx.get(dut.acc_en):
            row = memories.rows[ctx.get(dut.acc_address)]
        if ctx.get(dut.parameter_en):
            word = memories.parameter_word(ctx.get(dut.parameter_word))
        pending[clocked.cycle + latency] = row, word
        now = pending.pop(clocked.cycle, rubbish)
        ctx.set(dut.acc_data, now[0])
        ctx.set(dut.parameters, now[1])
        if clocked.last is not None and clocked.cycle > clocked.last + GAP_BEFORE_END:
            return


@pytest.mark.parametrize("core", CORES, ids=lambda core: f"2x{core.cols}")
@pytest.mark.parametrize("gap", [0, 9])
def test_results_and_schedule(core, gap):
    dut, rng = VectorUnit(core=core), random.Random(core.cols + gap)
    memories, clocked = Memories(core, rng), Clocked()

    async def issue(ctx):
        await fill_tables(ctx, dut, core, memories)
        end = None
        for index in range(25):
            for _ in range(rng.randint(0, gap)):
                await ctx.tick()
            op = random_vector(rng, core)
            await start(ctx, dut.unit, core, op, index=index)
            at = clocked.cycle - 1
            # Rule T10: with no gap the next one starts in the very cycle in which the unit becomes free.
            assert gap or end in (None, at)
            end = at + op.m * -(-op.n // core.requant_lanes)
            clocked.expected += expected_events(core, memories, at, op, index)
        clocked.last = end

    async def answer(ctx):
        await memories_answer(ctx, dut, core, memories, clocked)

    simulate(dut, answer, issue)
    assert sorted(clocked.seen) == sorted(clocked.expected)
