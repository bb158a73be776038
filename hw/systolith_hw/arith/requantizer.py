"""Requantization of one sum a cycle (docs/contracts/numerics.md, rules N4 to N6)."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from systolith_hw.arith.multiplier import Multiplier
from systolith_hw.pipe import delayed

FINE_BITS = 3
"""Low bits of the shift: what the second of the two shift stages does."""
KEPT_BITS = 18
"""What the second stage sees: 16 bits, guard, sticky. A value beyond is over 2**15 / 2**7 = 128 + 128."""
NEAR_BITS = 10
"""What the addition of the zero point sees; a quotient beyond is over 2**9 = 512: saturated too."""


class Requantizer(wiring.Component):
    """One lane: ``sat8(RHE((acc + bias) * mantissa / 2**shift) + zero_point)``, free running.

    Parameters
    ----------
    multiplier_latency : int
        Cycles of the multipliers; at least 3.

    Members
    -------
    i : In(StructLayout), a sum and the parameters of its column, new ones every cycle.
    o : Out(signed(8)), the result for ``i`` of ``multiplier_latency + 6`` cycles ago
        (`timing.requantize_latency`).
    """

    i: data.View
    o: Signal

    def __init__(self, *, multiplier_latency: int) -> None:
        self.multiplier_latency = multiplier_latency
        super().__init__({
            "i": In(data.StructLayout({
                "acc": signed(32), "bias": signed(32), "mantissa": 16, "shift": 6, "zero_point": signed(8),
            })),
            "o": Out(signed(8)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        scaled = self._scaled(m)
        shift = delayed(m, self.i.shift, self.multiplier_latency + 2, name="shift")
        zero_point = delayed(m, self.i.zero_point, self.multiplier_latency + 4, name="zero_point")

        # Two places behind the point: the bit below the quotient, and whether any bit below that one was set.
        coarse, fine = Signal(signed(len(scaled) + 2)), Signal(FINE_BITS)
        multiple = Cat(Const(0, FINE_BITS), shift[FINE_BITS:])
        m.d.sync += [
            coarse.eq(_shifted(m, scaled.shift_left(2), multiple, name="coarse")),
            fine.eq(shift[:FINE_BITS]),
        ]
        quotient, beyond, negative = Signal(signed(KEPT_BITS)), Signal(), Signal()
        m.d.sync += [
            quotient.eq(_shifted(m, coarse[:KEPT_BITS].as_signed(), fine, name="fine")),
            beyond.eq(_mixed(coarse[KEPT_BITS - 1:])),
            negative.eq(coarse[-1]),
        ]
        total, total_beyond, total_negative = Signal(signed(NEAR_BITS + 1)), Signal(), Signal()
        round_up = quotient[1] & (quotient[0] | quotient[2])
        m.d.sync += [
            total.eq(quotient[2:2 + NEAR_BITS].as_signed() + round_up + zero_point),
            total_beyond.eq(beyond | _mixed(quotient[1 + NEAR_BITS:])),
            total_negative.eq(negative),
        ]
        low = Mux(total_beyond, total_negative, total[-1])
        m.d.sync += self.o.eq(Mux(total_beyond | _mixed(total[7:]), Mux(low, -128, 127), total))
        return m

    def _scaled(self, m: Module) -> Signal:
        """``(acc + bias) * mantissa``, exact, after ``multiplier_latency + 2`` cycles."""
        biased, mantissa, scaled = Signal(signed(33)), Signal(16), Signal(signed(49))
        high, low = (Multiplier(a_width=17, b_width=17, latency=self.multiplier_latency) for _ in range(2))
        m.submodules.high, m.submodules.low = high, low
        m.d.comb += [
            high.a.eq(biased[16:]), high.b.eq(mantissa),
            low.a.eq(biased[:16]), low.b.eq(mantissa),
        ]
        m.d.sync += [
            biased.eq(self.i.acc + self.i.bias),
            mantissa.eq(self.i.mantissa),
            scaled.eq(high.p.shift_left(16) + low.p),
        ]
        return scaled


def _mixed(signs: Value) -> Value:
    """Whether a number that these upper bits belong to needs more than the lowest of them as its sign."""
    return signs.any() & ~signs.all()


def _shifted(m: Module, value: Value, amount: Value, *, name: str) -> Value:
    """``value >> amount`` with its lowest bit set if any bit was lost: rounding later sees what it needs."""
    source, shifted = Signal.like(value, name=f"{name}_source"), Signal.like(value, name=name)
    lost = Signal(len(value), name=f"{name}_lost")
    m.d.comb += [
        source.eq(value),
        shifted.eq(source >> amount),
        lost.eq(source & ~(Const(-1, signed(len(value))) << amount)),
    ]
    return Cat(shifted[0] | lost.any(), shifted[1:])
