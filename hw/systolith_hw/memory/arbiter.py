"""Who owns the memory port: one transfer at a time, first come first served (timing, rule T13)."""

from amaranth import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

REQUESTERS = ("fetch", "load", "store")
"""In the order in which ties are broken."""


class PortArbiter(wiring.Component):
    """Grants the port to the oldest request; the owner keeps it until it says ``last``.

    Members
    -------
    request : In(3), a transfer waits; bit per requester, low while its requester owns the port.
    last : In(1), the owner's transfer ends in this cycle.
    owner : Out(3), one hot or 0; set in the cycle after the choice.
    """

    request: Signal
    last: Signal
    owner: Signal

    def __init__(self) -> None:
        count = len(REQUESTERS)
        super().__init__({"request": In(count), "last": In(1), "owner": Out(count)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        count = len(REQUESTERS)
        chosen = Signal(count)
        # later_first[j][i], i < j: the request of lower rank has been up longer.
        later_first = {(i, j): Signal(name=f"{REQUESTERS[j]}_before_{REQUESTERS[i]}")
                       for j in range(count) for i in range(j)}
        for (i, j), flag in later_first.items():
            with m.If(~self.request[j]):
                m.d.sync += flag.eq(0)
            with m.Elif(~self.request[i]):
                m.d.sync += flag.eq(1)
        choice = []
        for i in range(count):
            beaten = Cat(*(self.request[j] & later_first[i, j] for j in range(i + 1, count)),
                         *(self.request[j] & ~later_first[j, i] for j in range(i)))
            choice.append(self.request[i] & ~beaten.any())
        m.d.comb += chosen.eq(Cat(*choice))
        with m.If(self.last):
            m.d.sync += self.owner.eq(0)
        with m.Elif(self.owner == 0):
            m.d.sync += self.owner.eq(chosen)
        return m
