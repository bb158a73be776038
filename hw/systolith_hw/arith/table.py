"""Functions of one byte by table (docs/contracts/numerics.md, rule N7)."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from systolith_hw.config import TABLE_BYTES
from systolith_hw.memory.ram import Ram
from systolith_hw.pipe import delayed


class TableFunction(wiring.Component):
    """One lane's copy of the tables, free running; without a table the byte passes with the same latency.

    Parameters
    ----------
    slots : int
        Tables held; at least 1.
    port_bytes : int
        Bytes written in one cycle; a power of two in 1..32.
    memory_latency : int
        Cycles of the memory; at least 2.

    Members
    -------
    i : In(signed(8))
    use : In(1), look ``i`` up.
    slot : In(range(slots)), in which table.
    o : Out(signed(8)), the entry, or ``i`` itself, of ``memory_latency + 1`` cycles ago
        (`timing.table_latency`).
    w_en : In(1)
    w_address : In(range(words)), in words of ``port_bytes``; table s begins at word ``256 // port_bytes * s``
        and is indexed by ``i & 255``.
    w_data : In(8 * port_bytes), the lowest byte first.
    """

    i: Signal
    use: Signal
    slot: Signal
    o: Signal
    w_en: Signal
    w_address: Signal
    w_data: Signal

    def __init__(self, *, slots: int, port_bytes: int, memory_latency: int) -> None:
        if slots < 1:
            raise ValueError(f"slots must be >= 1, not {slots}")
        if not 1 <= port_bytes <= 32 or port_bytes & (port_bytes - 1):
            raise ValueError(f"port_bytes must be a power of two in 1..32, not {port_bytes}")
        self.slots, self.port_bytes, self.memory_latency = slots, port_bytes, memory_latency
        self.words = slots * TABLE_BYTES // port_bytes
        super().__init__({
            "i": In(signed(8)),
            "use": In(1),
            "slot": In(range(slots)),
            "o": Out(signed(8)),
            "w_en": In(1),
            "w_address": In(range(self.words)),
            "w_data": In(8 * port_bytes),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = memory = Ram(
            width=8 * self.port_bytes, depth=self.words, latency=self.memory_latency)
        byte_bits = (self.port_bytes - 1).bit_length()
        passing = delayed(m, self.i, self.memory_latency, name="passing", data=True)
        use = delayed(m, self.use, self.memory_latency, name="use", data=True)
        m.d.comb += [
            memory.r_en.eq(self.use),
            memory.r_address.eq(Cat(self.i[byte_bits:], self.slot)),
            memory.w_en.eq(self.w_en),
            memory.w_address.eq(self.w_address),
            memory.w_data.eq(self.w_data),
        ]
        entry = memory.r_data.word_select(passing[:byte_bits], 8)
        out = Signal.like(self.o, reset_less=True)
        m.d.sync += out.eq(Mux(use, entry.as_signed(), passing))
        m.d.comb += self.o.eq(out)
        return m
