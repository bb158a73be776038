"""What the DMA bench runs on: memory port, load and store unit, data scratchpad, wired as in the core."""

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from systolith_hw.config import CoreConfig
from systolith_hw.control.unit import UnitFace, UnitSignature
from systolith_hw.isa import Memory, Opcode
from systolith_hw.memory import load as loads
from systolith_hw.memory import port as ports
from systolith_hw.memory import store as stores
from systolith_hw.memory.axi import Axi4, Axi4Port
from systolith_hw.memory.data import DataScratchpad

CORE = CoreConfig(rows=3, cols=5, port_bytes=4, data_bytes=8192, dma_depth=4)


class DmaTop(wiring.Component):
    """Loads into and stores from the data scratchpad.

    Members
    -------
    m_axi : Out(Axi4).
    load, store : the faces of the units; ``start`` is obeyed only while free and with room.
    load_error, store_error : Out(1).
    quiet : Out(1).
    """

    m_axi: Axi4Port
    quiet: Signal
    load: UnitFace
    load_error: Signal
    store: UnitFace
    store_error: Signal

    def __init__(self) -> None:
        super().__init__({
            "m_axi": Out(Axi4(data_bytes=CORE.port_bytes)), "quiet": Out(1),
            "load": Out(UnitSignature(core=CORE, opcode=Opcode.LOAD)), "load_error": Out(1),
            "store": Out(UnitSignature(core=CORE, opcode=Opcode.STORE)), "store_error": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.port = port = ports.MemoryPort(core=CORE)
        m.submodules.load_unit = load = loads.LoadUnit(core=CORE)
        m.submodules.store_unit = store = stores.StoreUnit(core=CORE)
        m.submodules.data = pad = DataScratchpad(core=CORE)
        wiring.connect(m, port.bus, wiring.flipped(self.m_axi))
        wiring.connect(m, load.bursts, port.load)
        for face, unit in ((self.load, load.unit), (self.store, store.unit)):
            m.d.comb += [
                unit.instruction.eq(face.instruction), unit.start.eq(face.start & unit.free & unit.room),
                face.free.eq(unit.free), face.room.eq(unit.room), face.post.eq(unit.post),
                face.complete.eq(unit.complete), face.index.eq(unit.index),
            ]
        m.d.comb += [
            pad.s_en.eq(store.r_en), pad.s_address.eq(store.r_address), store.r_data.eq(pad.s_data),
            pad.l_en.eq(load.w_en & (load.w_memory == Memory.DATA)), pad.l_address.eq(load.w_address),
            pad.l_data.eq(load.w_data),
            port.store_request.eq(store.request), store.owner.eq(port.store_owner),
            port.store_burst.eq(store.burst), port.store_valid.eq(store.address_valid),
            store.address_ready.eq(port.store_ready), port.store_last.eq(store.last),
            port.w_valid.eq(store.w_valid), store.w_ready.eq(port.w_ready), port.w_data.eq(store.w_data),
            port.w_last.eq(store.w_last),
            load.beat_valid.eq(port.load_beat), load.beat_data.eq(port.beat_data),
            load.beat_response.eq(port.beat_response),
            store.response_valid.eq(port.answer), store.response.eq(port.answer_response),
            self.quiet.eq(port.quiet), self.load_error.eq(load.error), self.store_error.eq(store.error),
        ]
        return m
