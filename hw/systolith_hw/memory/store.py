"""The store unit: data scratchpad to DRAM (timing, rule T14)."""

from amaranth import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from systolith_hw.config import SEMAPHORES_PER_QUEUE, CoreConfig
from systolith_hw.control.layouts import INDEX_BITS
from systolith_hw.control.unit import UnitFace, UnitSignature
from systolith_hw.isa import Opcode
from systolith_hw.memory.axi import OKAY
from systolith_hw.memory.fifo import Fifo
from systolith_hw.memory.walker import BurstWalker, burst_layout, walk_layout
from systolith_hw.pipe import delayed
from systolith_hw.timing import read_latency


class StoreReader(wiring.Component):
    """Walks the rows of a store beat by beat, stopping where a transfer ends while two are buffered.

    Members
    -------
    start : In(1), take ``instruction``.
    instruction : In, a store.
    free : Out(1), no beat is left to read.
    hold : In(1), do not begin another transfer.
    r_en, r_address : Out, read of one beat.
    begin, end : Out(1), this beat is the first, the last of a transfer.
    index : Out, the instruction being read.
    """

    start: Signal
    instruction: data.View
    free: Signal
    hold: Signal
    r_en: Signal
    r_address: Signal
    begin: Signal
    end: Signal
    index: Signal

    def __init__(self, *, core: CoreConfig) -> None:
        self.core = core
        beat_bits = (core.port_bytes - 1).bit_length()
        unit = UnitSignature(core=core, opcode=Opcode.STORE)
        super().__init__({
            "start": In(1), "instruction": In(unit.members["instruction"].shape), "free": Out(1), "hold": In(1),
            "r_en": Out(1), "r_address": Out(24 - beat_bits), "begin": Out(1), "end": Out(1),
            "index": Out(INDEX_BITS),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        core, sizes, head = self.core, self.core.sizes, self.instruction
        shift = (core.port_bytes - 1).bit_length()
        place_bits = (sizes.burst_beats - 1).bit_length()
        active, inside, rows = Signal(), Signal(), Signal(16)
        row_beats, left = Signal(24 - shift), Signal(24 - shift)
        # Only the place inside a burst matters here; the addresses themselves are made where the bursts are issued.
        place, row_place, stride_place = Signal(place_bits), Signal(place_bits), Signal(place_bits)
        local, row_local, stride = Signal(24 - shift), Signal(24 - shift), Signal(24 - shift)
        beats = Signal(range(sizes.transfer_beats + 1))
        row_end, burst_end, finish = Signal(), Signal(), Signal()
        m.d.comb += [
            self.free.eq(~active), self.r_en.eq(active & (inside | ~self.hold)), self.r_address.eq(local),
            row_end.eq(left == 1), burst_end.eq(row_end | place.all()), finish.eq(row_end & (rows == 1)),
            self.begin.eq(self.r_en & ~inside),
            self.end.eq(self.r_en & (finish | (burst_end & (beats >= sizes.transfer_beats - sizes.burst_beats)))),
        ]
        with m.If(self.r_en):
            m.d.sync += [
                left.eq(left - 1), place.eq(place + 1), local.eq(local + 1),
                inside.eq(~self.end), beats.eq(Mux(self.end, 0, beats + 1)), active.eq(~finish),
            ]
            with m.If(row_end):
                m.d.sync += [
                    rows.eq(rows - 1), left.eq(row_beats), place.eq(row_place + stride_place),
                    row_place.eq(row_place + stride_place), local.eq(row_local + stride),
                    row_local.eq(row_local + stride),
                ]
        with m.If(self.start):
            m.d.sync += [
                active.eq(1), self.index.eq(head.index), rows.eq(head.rows), left.eq(head.row_bytes >> shift),
                row_beats.eq(head.row_bytes >> shift), stride.eq(head.local_stride >> shift),
                place.eq(head.dram_address >> shift), row_place.eq(head.dram_address >> shift),
                stride_place.eq(head.dram_stride >> shift), local.eq(head.local_address >> shift),
                row_local.eq(head.local_address >> shift),
            ]
        return m


class StoreUnit(wiring.Component):
    """Buffers the beats of up to two transfers, then writes them as bursts.

    Members
    -------
    unit : the face to the queue.
    r_en, r_address : Out, read of one beat of the data scratchpad, address in beats.
    r_data : In, that beat, ``read_latency`` cycles later.
    r_index : Out, the instruction being read.
    request : Out(1), a buffered transfer waits for the port.
    owner : In(1), the port is ours.
    burst : Out, the burst on the address channel; ``address_valid``, ``address_ready`` its handshake.
    w_valid, w_ready, w_data, w_last : the write data channel.
    last : Out(1), the last beat of a transfer is taken in this cycle.
    response_valid, response : In, a registered write response.
    error : Out(1), a response to the instruction ``unit.index`` was an error.
    """

    unit: UnitFace
    r_en: Signal
    r_address: Signal
    r_data: Signal
    r_index: Signal
    request: Signal
    owner: Signal
    burst: data.View
    address_valid: Signal
    address_ready: Signal
    w_valid: Signal
    w_ready: Signal
    w_data: Signal
    w_last: Signal
    last: Signal
    response_valid: Signal
    response: Signal
    error: Signal

    def __init__(self, *, core: CoreConfig) -> None:
        self.core = core
        beat_bits = (core.port_bytes - 1).bit_length()
        super().__init__({
            "unit": Out(UnitSignature(core=core, opcode=Opcode.STORE)),
            "r_en": Out(1), "r_address": Out(24 - beat_bits), "r_data": In(8 * core.port_bytes),
            "r_index": Out(INDEX_BITS),
            "request": Out(1), "owner": In(1), "burst": Out(burst_layout(core)),
            "address_valid": Out(1), "address_ready": In(1),
            "w_valid": Out(1), "w_ready": In(1), "w_data": Out(8 * core.port_bytes), "w_last": Out(1),
            "last": Out(1), "response_valid": In(1), "response": In(2), "error": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        core, unit = self.core, self.unit
        m.submodules.reader = reader = StoreReader(core=core)
        m.submodules.buffer = buffer = SyncFIFOBuffered(width=8 * core.port_bytes,
                                                        depth=2 * core.sizes.transfer_beats)
        # Transfers being read or waiting or being written; those of which all beats are buffered.
        pending, buffered = Signal(range(3)), Signal(range(3))
        arrived = delayed(m, reader.r_en, read_latency(core), name="arrived")
        arrived_end = delayed(m, reader.end, read_latency(core), name="arrived_end")
        m.d.comb += [
            reader.start.eq(unit.start), reader.instruction.eq(unit.instruction), unit.free.eq(reader.free),
            reader.hold.eq(pending == 2), self.r_index.eq(reader.index),
            self.r_en.eq(reader.r_en), self.r_address.eq(reader.r_address),
            buffer.w_en.eq(arrived), buffer.w_data.eq(self.r_data),
        ]
        m.d.sync += [
            pending.eq(pending + reader.begin - self.last),
            buffered.eq(buffered + arrived_end - self.last),
        ]
        burst_end, end = self._write(m, buffer, buffered)
        self._complete(m, burst_end, end)
        return m

    def _write(self, m: Module, buffer: SyncFIFOBuffered, buffered: Signal) -> tuple[Signal, Signal]:
        """Issue bursts, address and data side by side; the ends of a burst and of an instruction's last one."""
        core, unit, head = self.core, self.unit, self.unit.instruction
        shift = (core.port_bytes - 1).bit_length()
        m.submodules.walks = walks = Fifo(shape=walk_layout(core), depth=core.dma_depth)
        m.submodules.walker = walker = BurstWalker(core=core)
        wiring.connect(m, walks.o, walker.i)
        burst = walker.o.p
        address_done, data_done = Signal(), Signal()
        beats = Signal.like(burst.beats_less_one)
        taken, last_taken, burst_end = Signal(), Signal(), Signal()
        m.d.comb += [
            walks.i.valid.eq(unit.start),
            walks.i.p.address.eq(head.dram_address >> shift), walks.i.p.stride.eq(head.dram_stride >> shift),
            walks.i.p.rows.eq(head.rows), walks.i.p.row_beats.eq(head.row_bytes >> shift),
            self.request.eq(walker.o.valid & (buffered != 0) & ~self.owner),
            self.burst.eq(burst), self.address_valid.eq(self.owner & walker.o.valid & ~address_done),
            self.w_valid.eq(self.owner & walker.o.valid & buffer.r_rdy & ~data_done),
            self.w_data.eq(buffer.r_data), self.w_last.eq(beats == burst.beats_less_one),
            taken.eq(self.w_valid & self.w_ready), buffer.r_en.eq(taken), last_taken.eq(taken & self.w_last),
            burst_end.eq((address_done | (self.address_valid & self.address_ready)) & (data_done | last_taken)),
            walker.o.ready.eq(burst_end), self.last.eq(burst_end & burst.transfer_end),
        ]
        with m.If(taken):
            m.d.sync += beats.eq(Mux(self.w_last, 0, beats + 1))
        m.d.sync += [
            address_done.eq(~burst_end & (address_done | (self.address_valid & self.address_ready))),
            data_done.eq(~burst_end & (data_done | last_taken)),
        ]
        end = Signal()
        m.d.comb += end.eq(burst_end & burst.end)
        return burst_end, end

    def _complete(self, m: Module, burst_end: Signal, end: Signal) -> None:
        """An instruction is complete when all bursts up to its last one have been answered."""
        core, unit, head = self.core, self.unit, self.unit.instruction
        own = data.StructLayout({"post": SEMAPHORES_PER_QUEUE, "index": INDEX_BITS})
        m.submodules.posts = posts = Fifo(shape=own, depth=core.dma_depth)
        m.submodules.ends = ends = Fifo(shape=16, depth=core.dma_depth)
        issued, answered, answers = Signal(16), Signal(16), Signal(16)
        done = Signal()
        m.d.comb += [
            posts.i.valid.eq(unit.start), posts.i.p.post.eq(head.post), posts.i.p.index.eq(head.index),
            unit.room.eq(posts.i.ready),
            ends.i.valid.eq(end), ends.i.p.eq(issued + 1),
            answers.eq(answered + self.response_valid), done.eq(ends.o.valid & (ends.o.p == answers)),
            ends.o.ready.eq(done), posts.o.ready.eq(done),
            unit.complete.eq(done), unit.post.eq(Mux(done, posts.o.p.post, 0)), unit.index.eq(posts.o.p.index),
            self.error.eq(self.response_valid & (self.response != OKAY)),
        ]
        m.d.sync += [issued.eq(issued + burst_end), answered.eq(answers)]
