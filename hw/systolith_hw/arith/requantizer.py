"""Requantization of one sum a cycle (docs/contracts/numerics.md, rules N4 to N6)."""

from amaranth.hdl import Cat, Const, Module, Mux, ShapeLike, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from systolith_hw.arith.multiplier import Multiplier
from systolith_hw.pipe import delayed, marks

FINE_BITS = 3
"""Low bits of the shift: what the second of the two shift stages does."""
KEPT_BITS = 18
"""What the second stage sees: 16 bits, guard, sticky. A value beyond is over 2**15 / 2**7 = 128 + 128."""
NEAR_BITS = 10
"""What the addition of the zero point sees; a quotient beyond is over 2**9 = 512: saturated too."""


class Requantizer(wiring.Component):
    """One lane: ``sat8(RHE((acc + bias) * mantissa / 2**shift) + zero_point)``, free running.

    Each stage holds still unless what it would take is valid: the long shifts toggle no more than they must.

    Parameters
    ----------
    multiplier_latency : int
        Cycles of the multipliers; at least 3.

    Members
    -------
    en : In(1), ``i`` is valid.
    i : In(StructLayout), a sum and the parameters of its column, new ones every cycle.
    o : Out(signed(8)), the result for ``i`` of ``multiplier_latency + 6`` cycles ago
        (`timing.requantize_latency`), if ``en`` was up then.
    """

    en: Signal
    i: data.View
    o: Signal

    def __init__(self, *, multiplier_latency: int) -> None:
        self.multiplier_latency = multiplier_latency
        super().__init__({
            "en": In(1),
            "i": In(data.StructLayout({
                "acc": signed(32), "bias": signed(32), "mantissa": 16, "shift": 6, "zero_point": signed(8),
            })),
            "o": Out(signed(8)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        done = self.multiplier_latency + 2
        valid = marks(m, self.en, done + 3, name="valid")
        scaled = self._scaled(m, valid)
        shift = delayed(m, self.i.shift, done, name="shift", data=True)
        zero_point = delayed(m, self.i.zero_point, done + 2, name="zero_point", data=True)

        # Two places behind the point: the bit below the quotient, and whether any bit below that one was set.
        coarse, fine = _register(signed(len(scaled) + 2)), _register(FINE_BITS)
        multiple = Cat(Const(0, FINE_BITS), shift[FINE_BITS:])
        with m.If(valid[done]):
            m.d.sync += [
                coarse.eq(_shifted(m, scaled.shift_left(2), multiple, name="coarse")),
                fine.eq(shift[:FINE_BITS]),
            ]
        quotient, beyond, negative = _register(signed(KEPT_BITS)), _register(1), _register(1)
        with m.If(valid[done + 1]):
            m.d.sync += [
                quotient.eq(_shifted(m, coarse[:KEPT_BITS].as_signed(), fine, name="fine")),
                beyond.eq(_mixed(coarse[KEPT_BITS - 1:])),
                negative.eq(coarse[-1]),
            ]
        total, total_beyond, total_negative = _register(signed(NEAR_BITS + 1)), _register(1), _register(1)
        round_up = quotient[1] & (quotient[0] | quotient[2])
        with m.If(valid[done + 2]):
            m.d.sync += [
                total.eq(quotient[2:2 + NEAR_BITS].as_signed() + round_up + zero_point),
                total_beyond.eq(beyond | _mixed(quotient[1 + NEAR_BITS:])),
                total_negative.eq(negative),
            ]
        low, out = Mux(total_beyond, total_negative, total[-1]), _register(signed(8))
        with m.If(valid[done + 3]):
            m.d.sync += out.eq(Mux(total_beyond | _mixed(total[7:]), Mux(low, -128, 127), total))
        m.d.comb += self.o.eq(out)
        return m

    def _scaled(self, m: Module, valid: list[Value]) -> Signal:
        """``(acc + bias) * mantissa``, exact, after ``multiplier_latency + 2`` cycles."""
        biased, mantissa, scaled = _register(signed(33)), _register(16), _register(signed(49))
        high, low = (Multiplier(a_width=17, b_width=17, latency=self.multiplier_latency) for _ in range(2))
        m.submodules.high, m.submodules.low = high, low
        m.d.comb += [
            high.a.eq(biased[16:]), high.b.eq(mantissa),
            low.a.eq(biased[:16]), low.b.eq(mantissa),
        ]
        with m.If(valid[0]):
            m.d.sync += [biased.eq(self.i.acc + self.i.bias), mantissa.eq(self.i.mantissa)]
        with m.If(valid[self.multiplier_latency + 1]):
            m.d.sync += scaled.eq(high.p.shift_left(16) + low.p)
        return scaled


def _register(shape: ShapeLike) -> Signal:
    """What only follows a valid operand needs no reset."""
    return Signal(shape, reset_less=True, src_loc_at=1)


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
