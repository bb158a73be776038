"""Bursts and transfers of 2-D copies against the rules M2 and M3, worked out beat by beat."""

import random

import pytest
from bench import get, put, simulate

from systolith_hw.config import CoreConfig
from systolith_hw.memory.walker import BurstWalker
from systolith_hw.timing import Transfer, transfers


def bursts_of(core, address, stride, rows, row_beats):
    """(address, beats, transfer_end, end) of each burst, from the address of every single beat."""
    limit, most = core.sizes.burst_beats, core.sizes.transfer_beats
    bursts = []
    for row in range(rows):
        for beat in range(row_beats):
            place = address + row * stride + beat
            if beat and place % limit:
                bursts[-1][1] += 1
            else:
                bursts.append([place, 1])
    out, issued = [], 0
    for number, (place, beats) in enumerate(bursts):
        issued += beats
        end = number == len(bursts) - 1
        stop = end or issued > most - limit
        out.append((place, beats, stop, end))
        issued = 0 if stop else issued
    return out


def random_walk(rng, core):
    row_beats = rng.choice([1, 2, 3, rng.randint(1, 40), rng.randint(1, 600)])
    return (rng.randrange(1 << 12), rng.choice([0, row_beats, rng.randrange(1 << 10)]), rng.randint(1, 12), row_beats)


@pytest.mark.parametrize(("gap", "pause"), [(0, 0), (3, 0), (0, 2)])
@pytest.mark.parametrize("port_bytes", [1, 8, 32])
def test_bursts(port_bytes, gap, pause):
    core = CoreConfig(rows=2, cols=2, port_bytes=port_bytes)
    dut, rng = BurstWalker(core=core), random.Random(port_bytes)
    walks = [random_walk(rng, core) for _ in range(12)]

    async def source(ctx):
        for address, stride, rows, row_beats in walks:
            await put(ctx, dut.i, {"address": address, "stride": stride, "rows": rows, "row_beats": row_beats}, gap=gap)

    async def sink(ctx):
        for walk in walks:
            for address, beats, transfer_end, end in bursts_of(core, *walk):
                burst = await get(ctx, dut.o, pause=pause)
                assert (burst.address, burst.beats_less_one + 1, burst.transfer_end, burst.end) == (
                    address, beats, transfer_end, end), walk

    simulate(dut, source, sink)


@pytest.mark.parametrize("port_bytes", [1, 4, 8, 16, 32])
def test_transfers_of_the_timing_contract(port_bytes):
    core, rng = CoreConfig(rows=2, cols=2, port_bytes=port_bytes), random.Random(port_bytes)
    for _ in range(50):
        address, stride, rows, row_beats = walk = random_walk(rng, core)
        expected, sizes = [], []
        for _, beats, stop, _ in bursts_of(core, *walk):
            sizes.append(beats)
            if stop:
                expected.append(Transfer(sum(sizes), len(sizes), sizes[-1]))
                sizes = []
        assert expected == list(transfers(core, dram_address=address * port_bytes, dram_stride=stride * port_bytes,
                                          rows=rows, row_bytes=row_beats * port_bytes)), walk


def test_latency():
    """Rule T12: a burst is there two cycles after the start, the next one the cycle after its take."""
    dut = BurstWalker(core=CoreConfig(rows=2, cols=2))

    async def bench(ctx):
        ctx.set(dut.i.payload, {"address": 0, "stride": 8, "rows": 3, "row_beats": 2})
        ctx.set(dut.i.valid, 1)
        ctx.set(dut.o.ready, 1)
        seen = []
        for _ in range(7):
            seen.append((ctx.get(dut.i.ready), ctx.get(dut.o.valid)))
            await ctx.tick()
            ctx.set(dut.i.valid, 0)
        assert seen == [(1, 0), (0, 0), (0, 1), (0, 1), (0, 1), (1, 0), (1, 0)]

    simulate(dut, bench)
