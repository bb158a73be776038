"""Delay lines."""

from amaranth import Cat, Module, Signal, Value


def delayed(m: Module, value: Value, cycles: int, *, name: str | None = None, data: bool = False) -> Signal:
    """``value`` as it was ``cycles`` cycles before; see ``taps``."""
    return taps(m, value, cycles, name=name, data=data)[-1]


def taps(m: Module, value: Value, cycles: int, *, name: str | None = None, data: bool = False) -> list[Signal]:
    """``value`` as it was 0, 1, ... ``cycles`` cycles before. One register a cycle.

    What marks something as valid is 0 outside of the past, and a reset clears it. ``data`` that is looked at
    only beside such a mark has no reset: less logic, and less to simulate.
    """
    line = [Signal.like(value, name=f"{name or 'pipe'}_0", init=0)]
    m.d.comb += line[0].eq(value)
    for stage in range(1, cycles + 1):
        following = Signal.like(line[0], name=f"{name or 'pipe'}_{stage}", init=0, reset_less=data)
        m.d.sync += following.eq(line[-1])
        line.append(following)
    return line


def marks(m: Module, value: Value, cycles: int, *, name: str) -> list[Value]:
    """A bit as it was 0, 1, ... ``cycles`` cycles before, in one shift register that a reset clears."""
    now, register = Signal(name=f"{name}_now"), Signal(max(1, cycles), name=name)
    m.d.comb += now.eq(value)
    m.d.sync += register.eq(Cat(now, register))
    return [now, *register][:cycles + 1]
