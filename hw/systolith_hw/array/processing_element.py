"""One element of the systolic array."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from systolith_hw.arith.multiplier import Multiplier


def sum_width(products: int) -> int:
    """Bits that hold any sum of ``products`` products of 9 and 8 signed bits; at least one product."""
    return 17 + (products - 1).bit_length()


class ProcessingElement(wiring.Component):
    """Multiplies what passes by with the weight it holds and adds the sum from above; no enable, no ready.

    Parameters
    ----------
    row : int
        Place in the column, from 0 at the top: one product is added to a sum of ``row`` products.
    multiplier_latency : int
        Cycles from operands to product.

    Members
    -------
    a : In(signed(9)), the activation.
    w : In(signed(8)), becomes the next weight at the end of a cycle with ``load``.
    load : In(1)
    swap : In(1), makes the next weight the current one from the next cycle on.
    i_sum : In(signed), the sum from above for the activation of ``multiplier_latency`` cycles ago.
    o_sum : Out(signed), that sum and the product, one cycle later.
    """

    a: Signal
    w: Signal
    load: Signal
    swap: Signal
    i_sum: Signal
    o_sum: Signal

    def __init__(self, *, row: int, multiplier_latency: int) -> None:
        if row < 0:
            raise ValueError(f"row must be >= 0, not {row}")
        self.row, self.multiplier_latency = row, multiplier_latency
        super().__init__({
            "a": In(signed(9)),
            "w": In(signed(8)),
            "load": In(1),
            "swap": In(1),
            "i_sum": In(signed(sum_width(max(row, 1)))),
            "o_sum": Out(signed(sum_width(row + 1))),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        multiplier = Multiplier(a_width=9, b_width=8, latency=self.multiplier_latency)
        m.submodules.multiplier = multiplier
        following, current = Signal.like(self.w, reset_less=True), Signal.like(self.w, reset_less=True)
        with m.If(self.load):
            m.d.sync += following.eq(self.w)
        with m.If(self.swap):
            m.d.sync += current.eq(following)
        total = Signal.like(self.o_sum, reset_less=True)
        m.d.sync += total.eq(self.i_sum + multiplier.p)
        m.d.comb += [multiplier.a.eq(self.a), multiplier.b.eq(current), self.o_sum.eq(total)]
        return m
