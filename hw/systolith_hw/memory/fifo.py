"""A small first-in first-out queue in distributed memory."""

from amaranth import Module, Signal
from amaranth.hdl import ShapeLike
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out


class Fifo(wiring.Component):
    """Queue whose first element is at the output the cycle after it was put (first word fall through).

    The output is a register, so that what looks at the first element does not look through a memory.

    Parameters
    ----------
    shape : ShapeLike
        Shape of an element.
    depth : int
        Elements; a power of two, at least 2.

    Members
    -------
    i : In(stream.Signature(shape)), refused only while ``depth`` elements wait.
    o : Out(stream.Signature(shape)), valid the cycle after the put; the next element follows a take at once.
    level : Out(range(depth + 1)), elements waiting.
    """

    i: stream.Interface
    o: stream.Interface
    level: Signal

    def __init__(self, *, shape: ShapeLike, depth: int) -> None:
        if depth < 2 or depth & (depth - 1):
            raise ValueError(f"depth must be a power of two >= 2, not {depth}")
        self.shape, self.depth = shape, depth
        super().__init__({
            "i": In(stream.Signature(shape)),
            "o": Out(stream.Signature(shape)),
            "level": Out(range(depth + 1)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(shape=self.shape, depth=self.depth, init=[])
        write, read = memory.write_port(), memory.read_port(domain="comb")
        put, take, alone = Signal(), Signal(), Signal()
        head = Signal(self.shape, reset_less=True)
        m.d.comb += [
            self.i.ready.eq(self.level != self.depth),
            self.o.valid.eq(self.level != 0),
            put.eq(self.i.valid & self.i.ready),
            take.eq(self.o.valid & self.o.ready),
            alone.eq((self.level == 0) | (take & (self.level == 1))),
            write.en.eq(put & ~alone),
            write.data.eq(self.i.payload),
            self.o.payload.eq(head),
        ]
        with m.If(put & ~take):
            m.d.sync += self.level.eq(self.level + 1)
        with m.Elif(take & ~put):
            m.d.sync += self.level.eq(self.level - 1)
        with m.If(put & alone):
            m.d.sync += head.eq(self.i.payload)
        with m.Elif(take):
            m.d.sync += head.eq(read.data)
        # The memory holds what waits behind the head.
        with m.If(put & ~alone):
            m.d.sync += write.addr.eq(write.addr + 1)
        with m.If(take & (self.level != 1)):
            m.d.sync += read.addr.eq(read.addr + 1)
        return m
