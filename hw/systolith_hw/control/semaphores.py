"""Counting semaphores between the queues."""

from amaranth import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from systolith_hw.config import SEMAPHORES_PER_QUEUE
from systolith_hw.isa import QUEUES

SEMAPHORE_BITS = 8
"""Bits of a count; raising a full one is a fault."""


class Semaphores(wiring.Component):
    """Sixteen counts; number 4 * queue + i is raised by that queue alone and lowered by at most one queue.

    Members
    -------
    clear : In(1), all counts to 0.
    post : In(16), raise; visible in the next cycle.
    lower : In(16), lower; only what is up.
    up : Out(16), the count is not 0.
    overflow : Out(4), a queue raised a full count.
    """

    clear: Signal
    post: Signal
    lower: Signal
    up: Signal
    overflow: Signal

    def __init__(self) -> None:
        count = len(QUEUES) * SEMAPHORES_PER_QUEUE
        super().__init__({"clear": In(1), "post": In(count), "lower": In(count), "up": Out(count),
                          "overflow": Out(len(QUEUES))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        counts = [Signal(SEMAPHORE_BITS, name=f"count_{number}") for number in range(len(self.post))]
        # What is asked of the counts in every cycle is kept beside them.
        up, full, change = Signal.like(self.up), Signal.like(self.post), Signal.like(self.post)
        m.d.comb += [self.up.eq(up), change.eq(self.post ^ self.lower)]
        with m.If(self.clear):
            m.d.sync += [up.eq(0), full.eq(0), *(count.eq(0) for count in counts)]
        with m.Elif(change.any()):
            for number, count in enumerate(counts):
                with m.If(change[number]):
                    m.d.sync += count.eq(Mux(self.post[number], count + 1, count - 1))
                    m.d.sync += [up[number].eq(self.post[number] | (count != 1)),
                                 full[number].eq(self.post[number] & (count == (1 << SEMAPHORE_BITS) - 2))]
        over = Signal.like(self.post)
        m.d.comb += over.eq(full & self.post & ~self.lower)
        for queue in range(len(QUEUES)):
            own = over[queue * SEMAPHORES_PER_QUEUE:(queue + 1) * SEMAPHORES_PER_QUEUE]
            m.d.comb += self.overflow[queue].eq(own.any())
        return m
