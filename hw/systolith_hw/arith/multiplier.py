"""The multiplier of array and requantizer: one latency on every platform; the platform chooses the cell."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from systolith_hw.arith.multiplier_ecp5 import OPERAND_BITS, elaborate_ecp5
from systolith_hw.platforms import is_ecp5


class Multiplier(wiring.Component):
    """Signed product, free running: operands enter and a product leaves in every cycle.

    Parameters
    ----------
    a_width, b_width : int
        Bits of the operands; at least 1.
    latency : int
        Cycles from operands to product; at least 3.

    Members
    -------
    a : In(signed(a_width))
    b : In(signed(b_width))
    p : Out(signed(a_width + b_width)), ``a * b`` of ``latency`` cycles ago.
    """

    a: Signal
    b: Signal
    p: Signal

    def __init__(self, *, a_width: int, b_width: int, latency: int) -> None:
        if a_width < 1 or b_width < 1:
            raise ValueError(f"a_width and b_width must be >= 1, not {a_width} and {b_width}")
        if latency < 3:
            raise ValueError(f"latency must be >= 3, not {latency}")
        self.a_width, self.b_width, self.latency = a_width, b_width, latency
        super().__init__({
            "a": In(signed(a_width)),
            "b": In(signed(b_width)),
            "p": Out(signed(a_width + b_width)),
        })

    def elaborate(self, platform: object) -> Module:
        if is_ecp5(platform) and max(self.a_width, self.b_width) <= OPERAND_BITS:
            return elaborate_ecp5(self)
        m = Module()
        a, b = Signal.like(self.a, reset_less=True), Signal.like(self.b, reset_less=True)
        m.d.sync += [a.eq(self.a), b.eq(self.b)]
        value = a * b
        for stage in range(self.latency - 1):
            product = Signal.like(self.p, name=f"p{stage}", reset_less=True)
            m.d.sync += product.eq(value)
            value = product
        m.d.comb += self.p.eq(value)
        return m
