"""The load unit: DRAM to scratchpads (timing, rule T12)."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from systolith_hw.config import SEMAPHORES_PER_QUEUE, CoreConfig
from systolith_hw.control.layouts import INDEX_BITS
from systolith_hw.control.unit import UnitFace, UnitSignature
from systolith_hw.isa import Opcode
from systolith_hw.memory.axi import OKAY
from systolith_hw.memory.fifo import Fifo
from systolith_hw.memory.walker import BurstWalker, burst_layout


class LoadUnit(wiring.Component):
    """Issues the bursts of loads and lands their beats; any number of bursts may be outstanding.

    Members
    -------
    unit : the face to the queue.
    bursts : Out(stream), bursts to put on the read address channel.
    beat_valid, beat_data, beat_response : In, a registered beat of the read channel, in order.
    w_memory, w_en, w_address, w_data : Out, write of one beat into a memory, two cycles after the beat at the port.
    error : Out(1), a beat of the instruction ``unit.index`` had an error response.
    """

    unit: UnitFace
    bursts: stream.Interface
    beat_valid: Signal
    beat_data: Signal
    beat_response: Signal
    w_memory: Signal
    w_en: Signal
    w_address: Signal
    w_data: Signal
    error: Signal

    def __init__(self, *, core: CoreConfig) -> None:
        self.core = core
        beat_bits = (core.port_bytes - 1).bit_length()
        super().__init__({
            "unit": Out(UnitSignature(core=core, opcode=Opcode.LOAD)),
            "bursts": Out(stream.Signature(burst_layout(core))),
            "beat_valid": In(1), "beat_data": In(8 * core.port_bytes), "beat_response": In(2),
            "w_memory": Out(2), "w_en": Out(1), "w_address": Out(24 - beat_bits), "w_data": Out(8 * core.port_bytes),
            "error": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        core, unit, head = self.core, self.unit, self.unit.instruction
        shift = (core.port_bytes - 1).bit_length()
        m.submodules.walker = walker = BurstWalker(core=core)
        wiring.connect(m, walker.o, wiring.flipped(self.bursts))
        landing = data.StructLayout({
            "memory": 2, "address": 24 - shift, "stride": 24 - shift, "rows": 16, "row_beats": 24 - shift,
            "post": SEMAPHORES_PER_QUEUE, "index": INDEX_BITS})
        m.submodules.landing = fifo = Fifo(shape=landing, depth=core.dma_depth)
        m.d.comb += [
            walker.i.valid.eq(unit.start),
            walker.i.p.address.eq(head.dram_address >> shift), walker.i.p.stride.eq(head.dram_stride >> shift),
            walker.i.p.rows.eq(head.rows), walker.i.p.row_beats.eq(head.row_bytes >> shift),
            unit.free.eq(walker.i.ready), unit.room.eq(fifo.i.ready),
            fifo.i.valid.eq(unit.start),
            fifo.i.p.memory.eq(head.memory), fifo.i.p.address.eq(head.local_address >> shift),
            fifo.i.p.stride.eq(head.local_stride >> shift), fifo.i.p.rows.eq(head.rows),
            fifo.i.p.row_beats.eq(head.row_bytes >> shift), fifo.i.p.post.eq(head.post),
            fifo.i.p.index.eq(head.index),
        ]
        self._land(m, fifo)
        return m

    def _land(self, m: Module, fifo: Fifo) -> None:
        """Where the beats go: the oldest instruction's rows, counted from 0."""
        unit, to = self.unit, fifo.o.p
        row, beat, row_address = Signal(16), Signal.like(to.row_beats), Signal.like(to.address)
        row_end, end = Signal(), Signal()
        m.d.comb += [
            row_end.eq(beat == to.row_beats - 1),
            end.eq(self.beat_valid & row_end & (row == to.rows - 1)),
            fifo.o.ready.eq(end),
            unit.complete.eq(end), unit.post.eq(Mux(end, to.post, 0)), unit.index.eq(to.index),
            self.error.eq(self.beat_valid & (self.beat_response != OKAY)),
        ]
        m.d.sync += [
            self.w_en.eq(self.beat_valid), self.w_data.eq(self.beat_data), self.w_memory.eq(to.memory),
            self.w_address.eq(to.address + row_address + beat),
        ]
        with m.If(end):
            m.d.sync += Cat(row, beat, row_address).eq(0)
        with m.Elif(self.beat_valid & row_end):
            m.d.sync += [row.eq(row + 1), beat.eq(0), row_address.eq(row_address + to.stride)]
        with m.Elif(self.beat_valid):
            m.d.sync += beat.eq(beat + 1)


