"""The store unit against a 2-D copy, with random waits on every channel; every time of rule T14."""

import random
from collections import deque

import pytest
from bench import simulate
from test_walker import bursts_of
from units import payload

from systolith_hw.config import CoreConfig
from systolith_hw.isa import Store
from systolith_hw.memory.store import StoreUnit
from systolith_hw.timing import read_latency

CORES = [CoreConfig(rows=2, cols=2, port_bytes=port, dma_depth=4, memory_latency=latency)
         for port, latency in ((4, 2), (16, 3), (32, 4))]


def random_store(rng, core):
    port = core.port_bytes
    return Store(dram_address=port * rng.randrange(4096), dram_stride=port * rng.randrange(700),
                 local_address=port * rng.randrange(512), local_stride=port * rng.randrange(300),
                 rows=rng.randint(1, 5), row_bytes=port * rng.choice([1, 3, rng.randint(1, 300)]),
                 post=rng.getrandbits(4))


def content(address):
    """What stands in the scratchpad."""
    return address * 2654435761 % (1 << 32)


class Plan:
    """All beats, bursts and transfers of a sequence of stores, worked out from the contract."""

    def __init__(self, core, ops):
        port = core.port_bytes
        self.beats, self.bursts, self.transfers = [], [], []
        for index, op in enumerate(ops):
            row_beats, sizes = op.row_bytes // port, []
            walk = (op.dram_address // port, op.dram_stride // port, op.rows, row_beats)
            for address, beats, stop, end in bursts_of(core, *walk):
                self.bursts.append((address, beats, stop, op.post if end else None, index))
                sizes.append(beats)
                if stop:
                    self.transfers.append((index, sum(sizes)))
                    sizes = []
            for row in range(op.rows):
                local = (op.local_address + row * op.local_stride) // port
                self.beats += range(local, local + row_beats)


class Recorder:
    """The times that rule T14 speaks of."""

    def __init__(self):
        self.starts, self.reads, self.requests, self.ends, self.frees = [], [], [], [], []


class Outside:
    """Scratchpad, arbiter and memory around a store unit, one call a cycle."""

    def __init__(self, dut, core, plan, rng, pause):
        self.dut, self.core, self.plan, self.rng, self.pause = dut, core, plan, rng, pause
        self.pipe = deque([0] * read_latency(core))
        self.owner, self.wait, self.requested = 0, 0, False
        self.taken, self.burst, self.beat, self.answers = 0, 0, 0, []
        self.completed, self.address_done = [], False

    def drive(self, ctx):
        dut, chance = self.dut, 1 if not self.pause else 0.5
        ctx.set(dut.r_data, self.pipe.popleft())
        ctx.set(dut.owner, self.owner)
        ctx.set(dut.address_ready, self.rng.random() < chance)
        ctx.set(dut.w_ready, self.rng.random() < chance)
        self.answer = bool(self.answers) and self.rng.random() < 0.4
        ctx.set(dut.response_valid, self.answer)
        ctx.set(dut.response, 0)

    def check(self, ctx, cycle, record):
        dut, bursts = self.dut, self.plan.bursts
        if ctx.get(dut.r_en):
            record.reads.append(cycle)
            assert ctx.get(dut.r_address) == self.plan.beats[len(record.reads) - 1]
        self.pipe.append(content(ctx.get(dut.r_address)))
        if ctx.get(dut.request) and not self.requested:
            record.requests.append(cycle)
            self.requested, self.wait = True, self.rng.randint(0, self.pause)
        if ctx.get(dut.address_valid) and ctx.get(dut.address_ready):
            assert not self.address_done
            burst = ctx.get(dut.burst)
            assert (burst.address, burst.beats_less_one + 1) == bursts[self.burst][:2]
            self.address_done = True
        if ctx.get(dut.w_valid) and ctx.get(dut.w_ready):
            assert ctx.get(dut.w_data) == content(self.plan.beats[self.taken])
            self.taken, self.beat = self.taken + 1, self.beat + 1
            assert ctx.get(dut.w_last) == (self.beat == bursts[self.burst][1])
        ended = self.address_done and self.beat == bursts[self.burst][1]
        assert ctx.get(dut.last) == (ended and bursts[self.burst][2])
        self.check_completion(ctx)
        return ended

    def check_completion(self, ctx):
        unit = self.dut.unit
        post = self.answers[0] if self.answer else None
        assert ctx.get(unit.complete) == (post is not None)
        assert ctx.get(unit.post) == (post or 0)
        if self.answer:
            self.answers.pop(0)
        if post is not None:
            assert ctx.get(unit.index) == len(self.completed)
            self.completed.append(post)

    def advance(self, ended, record, cycle):
        if self.requested and not self.owner:
            self.owner = self.wait == 0
            self.wait -= 1
        if ended:
            *_, stop, post, _ = self.plan.bursts[self.burst]
            self.answers.append(post)
            self.burst, self.beat, self.address_done = self.burst + 1, 0, False
            if stop:
                self.owner, self.requested = 0, False
                record.ends.append(cycle)


@pytest.mark.parametrize("core", CORES, ids=lambda core: f"port_{core.port_bytes}")
@pytest.mark.parametrize("pause", [0, 4])
def test_copies(core, pause):
    dut, rng = StoreUnit(core=core), random.Random(core.port_bytes + pause)
    ops = [random_store(rng, core) for _ in range(8)]
    plan, record = Plan(core, ops), Recorder()
    outside = Outside(dut, core, plan, rng, pause)

    async def bench(ctx):
        cycle = 0
        while len(outside.completed) < len(ops):
            number = len(record.starts)
            start = (number < len(ops) and ctx.get(dut.unit.free) and ctx.get(dut.unit.room)
                     and rng.random() < (1 if not pause else 0.01))
            ctx.set(dut.unit.start, start)
            if start:
                ctx.set(dut.unit.instruction, payload(core, ops[number], index=number))
                record.starts.append(cycle)
            if len(record.frees) < number and ctx.get(dut.unit.free):
                record.frees.append(cycle)
            outside.drive(ctx)
            ended = outside.check(ctx, cycle, record)
            outside.advance(ended, record, cycle)
            await ctx.tick()
            cycle += 1

    simulate(dut, bench)
    assert outside.taken == len(plan.beats)
    assert outside.completed == [op.post for op in ops]
    check_times(core, plan, record)


def check_times(core, plan, record):
    """Rule T14 for every transfer."""
    first, last_of = 0, {}
    starts = iter(record.starts)
    for t, (index, beats) in enumerate(plan.transfers):
        reads = record.reads[first:first + beats]
        assert reads == list(range(reads[0], reads[0] + beats)), "a transfer is read without a pause"
        new = not t or plan.transfers[t - 1][0] != index
        earliest = [next(starts) + 1 if new else 0]
        if t:
            earliest.append(record.reads[first - 1] + 1)
        if t > 1:
            earliest.append(record.ends[t - 2] + 1)
        assert reads[0] == max(earliest), f"transfer {t}"
        visible = [reads[0] + beats + core.memory_latency + 1]
        if t:
            visible.append(record.ends[t - 1] + (3 if new else 1))
        assert record.requests[t] == max(visible), f"transfer {t}"
        first += beats
        last_of[index] = reads[-1]
    # The unit is free in the cycle after the last read of each instruction.
    assert record.frees == [last_of[index] + 1 for index in range(len(record.frees))]


def test_error_is_charged_to_the_oldest():
    core = CORES[0]
    dut = StoreUnit(core=core)

    async def bench(ctx):
        op = Store(dram_address=0, local_address=0, row_bytes=4)
        ctx.set(dut.unit.instruction, payload(core, op, index=9))
        ctx.set(dut.unit.start, 1)
        await ctx.tick()
        ctx.set(dut.unit.start, 0)
        ctx.set(dut.owner, 1)
        ctx.set(dut.address_ready, 1)
        ctx.set(dut.w_ready, 1)
        await ctx.tick().until(dut.last)
        assert not ctx.get(dut.error)
        ctx.set(dut.response_valid, 1)
        ctx.set(dut.response, 3)
        assert ctx.get(dut.error)
        assert ctx.get(dut.unit.index) == 9

    simulate(dut, bench)
