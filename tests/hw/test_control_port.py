"""The control port: every register, pulses, gaps and pauses on all five channels."""

import random

import pytest
from bench import simulate

from systolith_hw.control.counters import COUNTERS
from systolith_hw.control.port import ControlPort

IDENTIFIER, VERSION, CONTROL, STATUS, FAULT = 0x0, 0x4, 0x8, 0xC, 0x10
ADDRESS, COUNT, WATCHDOG, INTERRUPT, HOST, CYCLES, FIRST_ROW, LAST_ROW, COUNTS = (
    0x14, 0x18, 0x1C, 0x20, 0x40, 0x100, 0x104, 0x108, 0x120)


async def offer(ctx, bus, channel, gap, **fields):
    """One transfer on a channel of which we are the source."""
    for _ in range(gap):
        await ctx.tick()
    for name, value in fields.items():
        ctx.set(getattr(bus, name), value)
    ctx.set(getattr(bus, f"{channel}valid"), 1)
    await ctx.tick().until(getattr(bus, f"{channel}ready"))
    ctx.set(getattr(bus, f"{channel}valid"), 0)


async def take(ctx, bus, channel, pause, *names):
    """One transfer on a channel of which we are the sink."""
    for _ in range(pause):
        await ctx.tick()
    ctx.set(getattr(bus, f"{channel}ready"), 1)
    signals = [getattr(bus, name) for name in names]
    values = await ctx.tick().sample(*signals).until(getattr(bus, f"{channel}valid"))
    ctx.set(getattr(bus, f"{channel}ready"), 0)
    return values


class Host:
    """Accesses one after the other; each of the five channels waits at random."""

    def __init__(self, dut, *, writes, reads, seed):
        self.bus, self.writes, self.reads = dut.bus, writes, reads
        self.rngs = [random.Random(f"{seed}{channel}") for channel in range(5)]
        self.answers = []

    def wait(self, channel):
        return self.rngs[channel].choice([0, 0, 1, 4])

    async def addresses(self, ctx):
        for address, _ in self.writes:
            await offer(ctx, self.bus, "aw", self.wait(0), awaddr=address)

    async def data(self, ctx):
        for _, value in self.writes:
            await offer(ctx, self.bus, "w", self.wait(1), wdata=value, wstrb=15)

    async def responses(self, ctx):
        for _ in self.writes:
            assert await take(ctx, self.bus, "b", self.wait(2), "bresp") == (0,)

    async def requests(self, ctx):
        for address in self.reads:
            await offer(ctx, self.bus, "ar", self.wait(3), araddr=address)

    async def results(self, ctx):
        for _ in self.reads:
            value, response = await take(ctx, self.bus, "r", self.wait(4), "rdata", "rresp")
            assert response == 0
            self.answers.append(value)

    def testbenches(self):
        return self.addresses, self.data, self.responses, self.requests, self.results


@pytest.mark.parametrize("seed", range(3))
def test_written_registers(seed):
    dut, rng = ControlPort(watchdog_cycles=1000), random.Random(seed)
    places = {ADDRESS: 32, COUNT: 24, WATCHDOG: 32, INTERRUPT: 1} | {HOST + 4 * n: 32 for n in range(16)}
    order = [address for _ in range(3) for address in rng.sample(list(places), len(places))]
    # What names no writable register changes nothing.
    order += [IDENTIFIER, VERSION, STATUS, FAULT, CYCLES, 0xFFC]
    writes = [(address, rng.getrandbits(32)) for address in order]
    last = dict(writes)
    host = Host(dut, writes=writes, reads=list(places), seed=seed)

    async def write_then_read(ctx):
        await host.responses(ctx)
        await host.requests(ctx)

    simulate(dut, host.addresses, host.data, write_then_read, host.results)
    assert host.answers == [last[address] % (1 << bits) for address, bits in places.items()]


@pytest.mark.parametrize("seed", range(3))
def test_read_registers(seed):
    dut, rng = ControlPort(watchdog_cycles=1234), random.Random(seed)
    counts = [rng.getrandbits(32) for _ in COUNTERS]
    expected = {IDENTIFIER: 0x53595354, VERSION: 1, CONTROL: 0, STATUS: 0x40B0C, FAULT: 77,
                CYCLES: 99, FIRST_ROW: 7, LAST_ROW: 8,
                WATCHDOG: 1234, ADDRESS: 0, COUNT: 0, INTERRUPT: 0, HOST + 60: 0, 0x80: 0, 0x1FC: 0, 0xFFC: 0}
    # Seven counters a queue, queues 32 bytes apart.
    expected |= {COUNTS + 0x20 * (n // 7) + 4 * (n % 7): count for n, count in enumerate(counts)}
    reads = rng.choices(list(expected), k=80)
    host = Host(dut, writes=[], reads=reads, seed=seed)

    async def inputs(ctx):
        ctx.set(dut.status, 0x40B0C)
        ctx.set(dut.fault_instruction, 77)
        ctx.set(dut.cycles, 99)
        ctx.set(dut.first_row, 7)
        ctx.set(dut.last_row, 8)
        for n, count in enumerate(counts):
            ctx.set(dut.counts[n], count)

    simulate(dut, inputs, *host.testbenches())
    assert host.answers == [expected[address] for address in reads]


def test_start_and_clear_are_pulses():
    dut = ControlPort(watchdog_cycles=256)
    values = [1, 2, 3, 0, 1]
    host = Host(dut, writes=[(CONTROL, value) for value in values], reads=[], seed=0)
    pulses = []

    async def watch(ctx):
        async for _, _, start, clear in ctx.tick().sample(dut.start, dut.clear):
            if start or clear:
                pulses.append(start | clear << 1)
            if len(pulses) == 4:
                return

    simulate(dut, *host.testbenches(), watch)
    assert pulses == [value for value in values if value]
