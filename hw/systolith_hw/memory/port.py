"""The memory port: fetch, load and store on one AXI4 manager, one transfer at a time."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from systolith_hw.config import CoreConfig
from systolith_hw.memory.arbiter import PortArbiter
from systolith_hw.memory.axi import FETCH_ID, INCREMENT, LOAD_ID, Axi4, Axi4Port
from systolith_hw.memory.walker import burst_layout


class MemoryPort(wiring.Component):
    """Arbitration, the address channels, and registered beats and answers.

    Members
    -------
    bus : Out(Axi4).
    fetch_request, fetch_address, fetch_beats_less_one : In; ``fetch_accepted`` : Out(1).
    load : In(stream of bursts).
    store_request, store_burst, store_valid, store_last : In; ``store_owner``, ``store_ready`` : Out(1).
    w_valid, w_data, w_last : In; ``w_ready`` : Out(1), the write data channel.
    fetch_beat, load_beat, beat_data, beat_response : Out, a beat of the read channel, one cycle later.
    answer, answer_response : Out, a write response, one cycle later.
    quiet : Out(1), nothing is outstanding and nothing is asked for.
    moved : Out(1), a handshake happened on some channel.
    """

    bus: Axi4Port
    fetch_request: Signal
    fetch_address: Signal
    fetch_beats_less_one: Signal
    fetch_accepted: Signal
    load: stream.Interface
    store_request: Signal
    store_burst: data.View
    store_valid: Signal
    store_last: Signal
    store_owner: Signal
    store_ready: Signal
    w_valid: Signal
    w_data: Signal
    w_last: Signal
    w_ready: Signal
    fetch_beat: Signal
    load_beat: Signal
    beat_data: Signal
    beat_response: Signal
    answer: Signal
    answer_response: Signal
    quiet: Signal
    moved: Signal

    def __init__(self, *, core: CoreConfig) -> None:
        self.core = core
        burst = burst_layout(core)
        super().__init__({
            "bus": Out(Axi4(data_bytes=core.port_bytes)),
            "fetch_request": In(1), "fetch_address": In(32), "fetch_beats_less_one": In(8), "fetch_accepted": Out(1),
            "load": In(stream.Signature(burst)),
            "store_request": In(1), "store_burst": In(burst), "store_valid": In(1), "store_last": In(1),
            "store_owner": Out(1), "store_ready": Out(1),
            "w_valid": In(1), "w_data": In(8 * core.port_bytes), "w_last": In(1), "w_ready": Out(1),
            "fetch_beat": Out(1), "load_beat": Out(1), "beat_data": Out(8 * core.port_bytes), "beat_response": Out(2),
            "answer": Out(1), "answer_response": Out(2), "quiet": Out(1), "moved": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bus, shift = self.bus, (self.core.port_bytes - 1).bit_length()
        m.submodules.arbiter = arbiter = PortArbiter()
        fetching, loading, storing = arbiter.owner
        load, read, write = self.load.p, Signal(), Signal()
        m.d.comb += [
            arbiter.request.eq(Cat(self.fetch_request & ~fetching, self.load.valid & ~loading, self.store_request)),
            arbiter.last.eq(self.fetch_accepted | (loading & read & load.transfer_end) | self.store_last),
            read.eq(bus.arvalid & bus.arready), write.eq(bus.awvalid & bus.awready),
            bus.arvalid.eq(fetching | (loading & self.load.valid)),
            bus.arid.eq(Mux(fetching, FETCH_ID, LOAD_ID)),
            bus.araddr.eq(Mux(fetching, self.fetch_address, load.address << shift)),
            bus.arlen.eq(Mux(fetching, self.fetch_beats_less_one, load.beats_less_one)),
            bus.arsize.eq(shift), bus.arburst.eq(INCREMENT),
            self.fetch_accepted.eq(fetching & read), self.load.ready.eq(loading & read),
            self.store_owner.eq(storing), self.store_ready.eq(bus.awready),
            bus.awvalid.eq(self.store_valid), bus.awaddr.eq(self.store_burst.address << shift),
            bus.awlen.eq(self.store_burst.beats_less_one), bus.awsize.eq(shift), bus.awburst.eq(INCREMENT),
            bus.wvalid.eq(self.w_valid), bus.wdata.eq(self.w_data), bus.wstrb.eq(-1), bus.wlast.eq(self.w_last),
            self.w_ready.eq(bus.wready), bus.bready.eq(1), bus.rready.eq(1),
        ]
        m.d.sync += [
            self.fetch_beat.eq(bus.rvalid & (bus.rid == FETCH_ID)),
            self.load_beat.eq(bus.rvalid & (bus.rid == LOAD_ID)),
            self.beat_data.eq(bus.rdata), self.beat_response.eq(bus.rresp),
            self.answer.eq(bus.bvalid), self.answer_response.eq(bus.bresp),
        ]
        outstanding = Signal(24)
        m.d.sync += outstanding.eq(outstanding + read + write - (bus.rvalid & bus.rlast) - bus.bvalid)
        m.d.comb += [
            self.quiet.eq((outstanding == 0) & (arbiter.owner == 0) & (arbiter.request == 0)),
            self.moved.eq(read | write | bus.rvalid | bus.bvalid | (bus.wvalid & bus.wready)),
        ]
        return m
