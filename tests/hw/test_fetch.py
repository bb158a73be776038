"""Fetch and dispatch: requests and dispatches to the cycle (T2, T3), order, faults, illegal instructions."""

import random

import pytest
from amaranth.hdl import ResetInserter, Signal
from bench import simulate
from units import payload

from systolith_hw.config import CoreConfig
from systolith_hw.control.fetch import Fetch
from systolith_hw.isa import FIELDS, HEADER, QUEUES, Load, Matmul, Memory, Opcode, Store, Vector, decode
from systolith_hw.operands import local_bytes, operand_rules

CORES = [CoreConfig(rows=3, cols=5, port_bytes=port, fetch_instructions=chunk, data_bytes=1024, acc_rows=16)
         for port, chunk in ((4, 4), (32, 2), (1, 8))]
CLASSES = {Opcode.LOAD: Load, Opcode.MATMUL: Matmul, Opcode.VECTOR: Vector, Opcode.STORE: Store}


def random_legal(rng, core, opcode=None):
    opcode = opcode or rng.choice(list(Opcode))
    rules, values = operand_rules(core)[opcode], {}
    for name, field in (HEADER | FIELDS[opcode]).items():
        if name in ("opcode", "registers") or not field.built:
            continue
        multiple, most = rules.get(name, (1, field.most))
        if opcode is Opcode.LOAD and name == "local_address":
            most = local_bytes(core)[Memory(values["memory"])] - multiple
        least = -field.most - 1 if field.signed else field.least
        value = rng.choice([least, most, rng.randint(least, most)])
        values[name] = max(value // multiple * multiple, multiple if least == 1 else least)
    return CLASSES[opcode](**values)


class Bench:
    """A memory that answers chunks and queues that are ready at random, one call a cycle."""

    def __init__(self, dut, core, program, rng, *, slow):
        self.dut, self.core, self.program, self.rng, self.slow = dut, core, program, rng, slow
        self.code = b"".join(instruction.encode() for instruction in program)
        self.accepted, self.requested_at, self.accepted_at = 0, [], []
        self.beats, self.dispatched, self.visible = [], [], []

    def step(self, ctx, cycle):
        dut, core, rng = self.dut, self.core, self.rng
        chunk = core.fetch_instructions
        request = ctx.get(dut.request)
        waiting = len(self.requested_at) > len(self.accepted_at)
        if request and not waiting:
            self.requested_at.append(cycle)
        accepted = bool(request and rng.random() < (0.2 if self.slow else 1))
        ctx.set(dut.accepted, accepted)
        if accepted:
            first = chunk * len(self.accepted_at)
            size = min(chunk, len(self.program) - first)
            beats = size * 32 // core.port_bytes
            assert ctx.get(dut.chunk_address) == 4096 + 32 * first
            assert ctx.get(dut.beats_less_one) == beats - 1
            self.beats += range(first * 32, (first + size) * 32, core.port_bytes)
            self.accepted_at.append(cycle)
        beat = bool(self.beats) and not accepted and rng.random() < (0.5 if self.slow else 1)
        ctx.set(dut.beat_valid, beat)
        if beat:
            at = self.beats.pop(0)
            ctx.set(dut.beat_data, int.from_bytes(self.code[at:at + core.port_bytes], "little"))
            if (at + core.port_bytes) % 32 == 0:
                self.visible.append(cycle + 1)
        self.dispatch(ctx, cycle)

    def dispatch(self, ctx, cycle):
        """The oldest instruction goes as soon as it is there and its queue is ready."""
        dut, number = self.dut, len(self.dispatched)
        chance = 0.6 if self.slow else 1
        ready = {name: self.rng.random() < chance for name in QUEUES}
        for name, value in ready.items():
            ctx.set(getattr(dut, name).ready, value)
        there = number < len(self.visible) and self.visible[number] <= cycle
        for name in ready:
            own = there and self.program[number].queue == name
            assert ctx.get(getattr(dut, name).valid) == own, f"{cycle=} {number=}"
            if own:
                shown, expected = ctx.get(getattr(dut, name).payload), payload(
                    self.core, self.program[number], index=number)
                assert {field: shown[field] for field in expected} == expected
        goes = there and ready[self.program[number].queue]
        assert ctx.get(dut.dispatched) == goes
        assert not ctx.get(dut.illegal)
        assert ctx.get(dut.finished) == (number == len(self.program))
        if goes:
            self.dispatched.append(cycle)


@pytest.mark.parametrize("core", CORES, ids=lambda core: f"port_{core.port_bytes}")
@pytest.mark.parametrize("slow", [False, True])
def test_program(core, slow):
    dut, rng = Fetch(core=core), random.Random(core.port_bytes)
    program = [random_legal(rng, core) for _ in range(7 * core.fetch_instructions + 1)]
    bench = Bench(dut, core, program, rng, slow=slow)

    async def run(ctx):
        ctx.set(dut.address, 4096)
        ctx.set(dut.count, len(program))
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        ctx.set(dut.run, 1)
        cycle = 1
        while len(bench.dispatched) < len(program):
            bench.step(ctx, cycle)
            await ctx.tick()
            cycle += 1

    simulate(dut, run)
    chunk = core.fetch_instructions
    assert bench.requested_at[0] == 1
    for c in range(1, len(bench.requested_at)):
        earliest = [bench.accepted_at[c - 1] + 1]
        if c > 1:
            earliest.append(bench.dispatched[chunk * (c - 1) - 1] + 1)
        assert bench.requested_at[c] == max(earliest), f"chunk {c}"


def legal(core, word):
    """The software's judgement: the decoder, the table of bounds, and the size of a load's memory."""
    try:
        instruction = decode(word.to_bytes(32, "little"))
    except ValueError:
        return False
    for name, (multiple, most) in operand_rules(core)[instruction.opcode].items():
        value = getattr(instruction, name)
        if value % multiple or value > most:
            return False
    return not (isinstance(instruction, Load)
                and instruction.local_address >= local_bytes(core)[Memory(instruction.memory)])


def damaged(rng, core):
    """A legal instruction with up to one field or bit changed."""
    instruction = random_legal(rng, core)
    word = int.from_bytes(instruction.encode(), "little")
    field = rng.choice(list((HEADER | FIELDS[instruction.opcode]).values()))
    mask = (1 << field.width) - 1
    kind = rng.randrange(5)
    if kind == 0:
        return word
    if kind == 1:
        return word ^ 1 << rng.randrange(256)
    value = {2: 0, 3: mask, 4: (word >> field.start) + rng.choice([-1, 1])}[kind]
    return word & ~(mask << field.start) | (value & mask) << field.start


@pytest.mark.parametrize("core", CORES[:2], ids=lambda core: f"port_{core.port_bytes}")
def test_decoder_refuses_what_the_software_refuses(core):
    dut, rng, reset = Fetch(core=core), random.Random(5), Signal()
    port, seen = core.port_bytes, [0, 0]

    async def run(ctx):
        ctx.set(dut.run, 1)
        for name in QUEUES:
            ctx.set(getattr(dut, name).ready, 1)
        for _ in range(500):
            word = damaged(rng, core)
            ctx.set(reset, 1)
            await ctx.tick()
            ctx.set(reset, 0)
            ctx.set(dut.beat_valid, 1)
            for at in range(0, 256, 8 * port):
                ctx.set(dut.beat_data, word >> at & ((1 << 8 * port) - 1))
                await ctx.tick()
            ctx.set(dut.beat_valid, 0)
            expected = legal(core, word)
            seen[expected] += 1
            assert (ctx.get(dut.dispatched), ctx.get(dut.illegal)) == (expected, not expected), hex(word)

    simulate(ResetInserter(reset)(dut), run)
    assert min(seen) > 100, seen


def test_illegal_instruction_is_named_and_stops_the_rest():
    core, rng = CORES[1], random.Random(0)
    dut = Fetch(core=core)
    words = [int.from_bytes(random_legal(rng, core, Opcode.LOAD).encode(), "little") for _ in range(4)]
    words[2] = 0

    async def run(ctx):
        ctx.set(dut.run, 1)
        ctx.set(dut.load.ready, 1)
        seen = []
        for cycle in range(8):
            ctx.set(dut.beat_valid, cycle < 4)
            ctx.set(dut.beat_data, words[min(cycle, 3)])
            seen.append((ctx.get(dut.index), ctx.get(dut.dispatched), ctx.get(dut.illegal)))
            await ctx.tick()
        assert seen == [(0, 0, 0), (0, 1, 0), (1, 1, 0)] + [(2, 0, 1)] * 5
        ctx.set(dut.run, 0)
        assert not ctx.get(dut.illegal)

    simulate(dut, run)


def test_error_response_names_the_instruction_of_the_beat():
    core = CORES[0]
    dut = Fetch(core=core)

    async def run(ctx):
        ctx.set(dut.run, 1)
        ctx.set(dut.beat_valid, 1)
        for beat in range(32):
            ctx.set(dut.beat_response, 0)
            assert not ctx.get(dut.error)
            ctx.set(dut.beat_response, 2 + beat % 2)
            assert ctx.get(dut.error)
            assert ctx.get(dut.received) == beat // 8
            await ctx.tick()
        ctx.set(dut.beat_valid, 0)
        assert not ctx.get(dut.error)

    simulate(dut, run)


def test_nothing_is_requested_or_dispatched_unless_running():
    core = CORES[1]
    dut = Fetch(core=core)

    async def run(ctx):
        ctx.set(dut.count, 8)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        ctx.set(dut.load.ready, 1)
        ctx.set(dut.beat_valid, 1)
        load = random_legal(random.Random(1), core, Opcode.LOAD)
        ctx.set(dut.beat_data, int.from_bytes(load.encode(), "little"))
        await ctx.tick().repeat(2)
        assert (ctx.get(dut.request), ctx.get(dut.dispatched), ctx.get(dut.load.valid)) == (0, 0, 0)
        ctx.set(dut.run, 1)
        assert (ctx.get(dut.request), ctx.get(dut.dispatched), ctx.get(dut.load.valid)) == (1, 1, 1)

    simulate(dut, run)
