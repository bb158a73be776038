"""Instruction fetch and dispatch (timing, rules T2 and T3)."""

from amaranth import Array, Cat, Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from systolith_hw.config import INSTRUCTION_BYTES, CoreConfig
from systolith_hw.control.layouts import INDEX_BITS, instruction_layout
from systolith_hw.isa import FIELDS, HEADER, INSTRUCTION_BITS, Field, Memory, Opcode
from systolith_hw.memory.axi import OKAY
from systolith_hw.memory.fifo import Fifo
from systolith_hw.operands import local_bytes, operand_rules

CHECKED = data.StructLayout({"word": INSTRUCTION_BITS, "legal": 1})
"""An instruction in the buffer; it is checked as it comes in, so that only its queue decides when it goes."""


class Fetch(wiring.Component):
    """Reads the program in chunks, puts its instructions together, checks them and hands them to the queues in order.

    Members
    -------
    start : In(1), begin with instruction 0 of a program of ``count`` instructions at ``address``.
    run : In(1), while low nothing is requested or dispatched.
    request : Out(1), a chunk waits for the port, which reads ``beats`` beats from ``chunk_address`` on.
    accepted : In(1), the address of the chunk has been accepted.
    beat_valid, beat_data, beat_response : In, a registered beat.
    error : Out(1), that beat had an error response.
    load, matmul, vector, store : Out(stream), instructions for the queues.
    received : Out, instructions that have come in whole.
    illegal : Out(1), instruction ``index`` is no legal one; it is not dispatched.
    dispatched : Out(1), instruction ``index`` goes to its queue in this cycle.
    finished : Out(1), all instructions have been dispatched.
    """

    start: Signal
    run: Signal
    address: Signal
    count: Signal
    request: Signal
    chunk_address: Signal
    beats_less_one: Signal
    accepted: Signal
    beat_valid: Signal
    beat_data: Signal
    beat_response: Signal
    error: Signal
    load: stream.Interface
    matmul: stream.Interface
    vector: stream.Interface
    store: stream.Interface
    illegal: Signal
    dispatched: Signal
    index: Signal
    received: Signal
    finished: Signal

    def __init__(self, *, core: CoreConfig) -> None:
        self.core = core
        queues = {opcode.name.lower(): Out(stream.Signature(instruction_layout(core, opcode))) for opcode in Opcode}
        super().__init__({
            "start": In(1), "run": In(1), "address": In(32), "count": In(INDEX_BITS),
            "request": Out(1), "chunk_address": Out(32), "beats_less_one": Out(8), "accepted": In(1),
            "beat_valid": In(1), "beat_data": In(8 * core.port_bytes), "beat_response": In(2), "error": Out(1),
            **queues,
            "illegal": Out(1), "dispatched": Out(1), "index": Out(INDEX_BITS), "received": Out(INDEX_BITS),
            "finished": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        core = self.core
        chunk, beats = core.fetch_instructions, INSTRUCTION_BYTES // core.port_bytes
        m.submodules.buffer = buffer = Fifo(shape=CHECKED, depth=2 * chunk)
        requested, left = Signal(INDEX_BITS), Signal(INDEX_BITS)
        # Instructions requested and not dispatched; a chunk is requested when a whole one fits.
        reserved = Signal(range(2 * chunk + 1))
        size = Signal(range(chunk + 1))
        m.d.comb += [
            left.eq(self.count - requested),
            size.eq(chunk), self.request.eq(self.run & (left != 0) & (reserved <= chunk)),
            self.beats_less_one.eq(size * beats - 1),
            self.finished.eq(self.index == self.count),
        ]
        with m.If(left < chunk):
            m.d.comb += size.eq(left)
        m.d.sync += reserved.eq(reserved + (size & self.accepted.replicate(len(size))) - self.dispatched)
        with m.If(self.accepted):
            m.d.sync += [requested.eq(requested + size),
                         self.chunk_address.eq(self.chunk_address + chunk * INSTRUCTION_BYTES)]
        with m.If(self.start):
            m.d.sync += [requested.eq(0), self.index.eq(0), self.received.eq(0), self.chunk_address.eq(self.address)]
        with m.Else():
            m.d.sync += [self.index.eq(self.index + self.dispatched),
                         self.received.eq(self.received + buffer.i.valid)]
        self._assemble(m, buffer, beats)
        self._dispatch(m, buffer)
        return m

    def _assemble(self, m: Module, buffer: Fifo, beats: int) -> None:
        """Put the beats of an instruction side by side."""
        # Apart from the payload: Verilog simulators do not see one half of a signal depend on the other.
        word, legal = Signal(INSTRUCTION_BITS), Signal()
        m.d.comb += [buffer.i.valid.eq(self.beat_valid), word.eq(self.beat_data),
                     buffer.i.p.word.eq(word), buffer.i.p.legal.eq(legal),
                     self.error.eq(self.beat_valid & (self.beat_response != OKAY))]
        if beats > 1:
            earlier = Signal(INSTRUCTION_BITS - 8 * self.core.port_bytes, reset_less=True)
            beat = Signal(range(beats))
            with m.If(self.beat_valid):
                m.d.sync += [beat.eq(beat + 1), earlier.eq(Cat(earlier, self.beat_data) >> 8 * self.core.port_bytes)]
            m.d.comb += [word.eq(Cat(earlier, self.beat_data)), buffer.i.valid.eq(self.beat_valid & beat.all())]
        with m.If(buffer.i.valid), m.Switch(word[:HEADER["opcode"].width]):
            for opcode in Opcode:
                with m.Case(opcode):
                    m.d.comb += legal.eq(_legal(word, self.core, opcode))

    def _dispatch(self, m: Module, buffer: Fifo) -> None:
        word, legal = buffer.o.p.word, buffer.o.p.legal
        # Plain assignments: in simulators a conditional block stays undefined until one of its inputs changes.
        go, taken = Signal(), []
        m.d.comb += go.eq(buffer.o.valid & legal & self.run)
        for opcode in Opcode:
            queue = getattr(self, opcode.name.lower())
            m.d.comb += [
                queue.valid.eq(go & (_bits(word, HEADER["opcode"]) == opcode)), queue.p.index.eq(self.index),
                *(queue.p[name].eq(_bits(word, field)) for name, field in (HEADER | FIELDS[opcode]).items()
                  if name in queue.p.shape().members),
            ]
            taken.append(queue.valid & queue.ready)
        m.d.comb += [
            self.dispatched.eq(Cat(*taken).any()), buffer.o.ready.eq(self.dispatched),
            self.illegal.eq(buffer.o.valid & ~legal & self.run),
        ]


def _bits(word: Value, field: Field) -> Value:
    return word[field.start:field.start + field.width]


def _legal(word: Value, core: CoreConfig, opcode: Opcode) -> Value:
    """Unnamed bits and unbuilt fields are 0; counts, multiples and bounds hold."""
    table = HEADER | FIELDS[opcode]
    used = sum(((1 << field.width) - 1) << field.start for field in table.values() if field.built)
    conditions = [(word & (((1 << INSTRUCTION_BITS) - 1) & ~used)) == 0]
    conditions += [_bits(word, field).any() for field in table.values() if field.least == 1]
    for name, (multiple, most) in operand_rules(core)[opcode].items():
        value = _bits(word, table[name])
        if multiple > 1:
            conditions.append(value[:(multiple - 1).bit_length()] == 0)
        if most < table[name].most // multiple * multiple:
            conditions.append(value <= most)
    if opcode is Opcode.LOAD:
        sizes = Array([local_bytes(core)[memory] - 1 for memory in Memory])
        conditions.append(_bits(word, table["local_address"]) <= sizes[_bits(word, table["memory"])])
    return Cat(*conditions).all()
