"""The memory of every on-chip buffer: one latency on every platform; the platform chooses the cell."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from systolith_hw.memory.ram_ecp5 import elaborate_ecp5
from systolith_hw.platforms import is_ecp5


class Ram(wiring.Component):
    """Memory with one read port and one write port; its contents after configuration are zero.

    Parameters
    ----------
    width : int
        Bits of a word; at least 1.
    depth : int
        Words; at least 1.
    latency : int
        Cycles from address to data; at least 2.
    granularity : int, optional
        Bits that one bit of ``w_en`` writes; divides ``width``. Default: the whole word.

    Members
    -------
    r_en : In(1)
    r_address : In(range(depth))
    r_data : Out(width), the word at the address of ``latency`` cycles ago; undefined if in that cycle
        ``r_en`` was low, the address past the end, or the same word being written.
    w_en : In(width // granularity)
    w_address : In(range(depth))
    w_data : In(width), visible to a read whose address is presented in the next cycle.
    """

    r_en: Signal
    r_address: Signal
    r_data: Signal
    w_en: Signal
    w_address: Signal
    w_data: Signal

    def __init__(self, *, width: int, depth: int, latency: int, granularity: int | None = None) -> None:
        if width < 1 or depth < 1:
            raise ValueError(f"width and depth must be >= 1, not {width} and {depth}")
        if latency < 2:
            raise ValueError(f"latency must be >= 2, not {latency}")
        if granularity is not None and (granularity < 1 or width % granularity):
            raise ValueError(f"granularity must divide width = {width}, not be {granularity}")
        self.width, self.depth, self.latency, self.granularity = width, depth, latency, granularity
        super().__init__({
            "r_en": In(1),
            "r_address": In(range(depth)),
            "r_data": Out(width),
            "w_en": In(width // (granularity or width)),
            "w_address": In(range(depth)),
            "w_data": In(width),
        })

    def elaborate(self, platform: object) -> Module:
        if is_ecp5(platform):
            return elaborate_ecp5(self)
        m = Module()
        m.submodules.memory = memory = Memory(shape=self.width, depth=self.depth, init=[])
        read, write = memory.read_port(), memory.write_port(granularity=self.granularity)
        m.d.comb += [
            read.en.eq(self.r_en),
            read.addr.eq(self.r_address),
            write.en.eq(self.w_en),
            write.addr.eq(self.w_address),
            write.data.eq(self.w_data),
        ]
        data = read.data
        for stage in range(self.latency - 1):
            later = Signal(self.width, name=f"data{stage}", reset_less=True)
            m.d.sync += later.eq(data)
            data = later
        m.d.comb += self.r_data.eq(data)
        return m
