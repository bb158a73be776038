"""Delay lines."""

from amaranth import Module, Signal, Value


def delayed(m: Module, value: Value, cycles: int, *, name: str | None = None) -> Signal:
    """``value`` as it was ``cycles`` cycles before; 0 outside of the past. One register a cycle."""
    current = Signal.like(value, name=f"{name or 'pipe'}_0", init=0)
    m.d.comb += current.eq(value)
    for stage in range(1, cycles + 1):
        following = Signal.like(current, name=f"{name or 'pipe'}_{stage}", init=0)
        m.d.sync += following.eq(current)
        current = following
    return current
