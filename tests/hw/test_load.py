"""The load unit against a 2-D copy, with random gaps on bursts and beats; rule T12's latencies."""

import random

import pytest
from bench import get, simulate
from test_walker import bursts_of
from units import payload, start

from systolith_hw.config import CoreConfig
from systolith_hw.isa import Load, Memory
from systolith_hw.memory.load import LoadUnit

CORES = [CoreConfig(rows=2, cols=2, port_bytes=port, dma_depth=4) for port in (1, 4, 32)]


def random_load(rng, core):
    port = core.port_bytes
    return Load(memory=Memory(rng.randrange(4)), dram_address=port * rng.randrange(4096),
                dram_stride=port * rng.randrange(300), local_address=port * rng.randrange(1024 // port),
                local_stride=port * rng.randrange(40), rows=rng.randint(1, 6), post=rng.getrandbits(4),
                row_bytes=port * rng.choice([1, 2, 7, rng.randint(1, 200)]))


def walk(op, port):
    """In beats."""
    return op.dram_address // port, op.dram_stride // port, op.rows, op.row_bytes // port


def places(op, port):
    """Where each beat of a load lands, in the order of the beats: (memory, address in beats)."""
    for row in range(op.rows):
        for beat in range(op.row_bytes // port):
            yield int(op.memory), (op.local_address + row * op.local_stride) // port + beat


@pytest.mark.parametrize("core", CORES, ids=lambda core: f"port_{core.port_bytes}")
@pytest.mark.parametrize(("gap", "pause"), [(0, 0), (3, 0), (0, 3)])
def test_copies(core, gap, pause):
    dut, rng = LoadUnit(core=core), random.Random(core.port_bytes)
    ops = [random_load(rng, core) for _ in range(12)]
    beats = [(place, rng.getrandbits(8 * core.port_bytes), op, index, end)
             for index, op in enumerate(ops)
             for place, end in zip(places(op, core.port_bytes),
                                   [0] * (op.rows * op.row_bytes // core.port_bytes - 1) + [1], strict=True)]
    issued = [0]

    async def issue(ctx):
        for index, op in enumerate(ops):
            await start(ctx, dut.unit, core, op, index=index)

    async def addresses(ctx):
        for op in ops:
            for address, count, stop, end in bursts_of(core, *walk(op, core.port_bytes)):
                burst = await get(ctx, dut.bursts, pause=rng.randint(0, pause))
                assert (burst.address, burst.beats_less_one + 1, burst.transfer_end, burst.end) == (
                    address, count, stop, end)
                issued[0] += count

    async def data(ctx):
        for number, (_, value, op, index, end) in enumerate(beats):
            for _ in range(rng.randint(0, gap)):
                await ctx.tick()
            while issued[0] <= number:
                await ctx.tick()
            ctx.set(dut.beat_valid, 1)
            ctx.set(dut.beat_data, value)
            ctx.set(dut.beat_response, 0)
            assert (ctx.get(dut.unit.complete), ctx.get(dut.unit.index)) == (end, index)
            assert ctx.get(dut.unit.post) == (op.post if end else 0)
            assert not ctx.get(dut.error)
            ctx.set(dut.beat_response, 2)
            assert ctx.get(dut.error)
            await ctx.tick()
            ctx.set(dut.beat_valid, 0)
            assert not ctx.get(dut.error)

    async def writes(ctx):
        for place, value, *_ in beats:
            written = await ctx.tick().sample(dut.w_memory, dut.w_address, dut.w_data).until(dut.w_en)
            assert written == (*place, value)

    simulate(dut, issue, addresses, data, writes)


def test_latencies():
    """Rule T12: request at S + 2, free at s + 1, the write two cycles after the beat at the port."""
    core = CORES[1]
    dut = LoadUnit(core=core)
    op = Load(memory=Memory.WEIGHT, dram_address=0, local_address=16, row_bytes=4, post=5)

    async def bench(ctx):
        ctx.set(dut.unit.instruction, payload(core, op))
        ctx.set(dut.unit.start, 1)
        ctx.set(dut.bursts.ready, 1)
        seen = []
        for _ in range(5):
            seen.append((ctx.get(dut.unit.free), ctx.get(dut.bursts.valid)))
            await ctx.tick()
            ctx.set(dut.unit.start, 0)
        assert seen == [(1, 0), (0, 0), (0, 1), (1, 0), (1, 0)]
        # The beat is registered once between port and unit; the post of this cycle is visible in the next.
        ctx.set(dut.beat_valid, 1)
        assert ctx.get(dut.unit.post) == 5
        await ctx.tick()
        assert (ctx.get(dut.w_en), ctx.get(dut.w_memory), ctx.get(dut.w_address)) == (1, 1, 4)

    simulate(dut, bench)


def test_room_for_dma_depth_instructions():
    core = CORES[1]
    dut = LoadUnit(core=core)

    async def bench(ctx):
        ctx.set(dut.bursts.ready, 1)
        op = Load(memory=Memory.DATA, dram_address=0, local_address=0, row_bytes=4)
        for index in range(core.dma_depth):
            assert ctx.get(dut.unit.room)
            await start(ctx, dut.unit, core, op, index=index)
        assert not ctx.get(dut.unit.room)
        ctx.set(dut.beat_valid, 1)
        await ctx.tick()
        assert ctx.get(dut.unit.room)

    simulate(dut, bench)
