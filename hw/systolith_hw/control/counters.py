"""Cycle counters: the total, and per queue busy and each stall cause (timing, rule T6)."""

from amaranth import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from systolith_hw.isa import QUEUES, STALL_CAUSES

COUNTERS = tuple((queue, cause) for queue in QUEUES for cause in ("busy", *STALL_CAUSES))
"""What each counter counts, in order."""


class Counters(wiring.Component):
    """32-bit counters that stand still unless ``run``.

    Members
    -------
    clear : In(1), all to 0.
    run : In(1), count this cycle.
    row : In(1), an activation row is read in this cycle.
    events : In, bit per counter in the order of ``COUNTERS``.
    cycles : Out(32), cycles counted.
    first_row, last_row : Out(32), the cycles of the first and the last ``row``, counted as by ``cycles``.
    counts : Out(ArrayLayout(32, len(COUNTERS))).
    """

    clear: Signal
    run: Signal
    row: Signal
    events: Signal
    cycles: Signal
    first_row: Signal
    last_row: Signal
    counts: data.View

    def __init__(self) -> None:
        super().__init__({
            "clear": In(1), "run": In(1), "row": In(1), "events": In(len(COUNTERS)), "cycles": Out(32),
            "first_row": Out(32), "last_row": Out(32), "counts": Out(data.ArrayLayout(32, len(COUNTERS))),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        counts = [Signal(32, name="_".join(names)) for names in COUNTERS]
        for number, count in enumerate(counts):
            m.d.comb += self.counts[number].eq(count)
            with m.If(self.clear):
                m.d.sync += count.eq(0)
            with m.Elif(self.run & self.events[number]):
                m.d.sync += count.eq(count + 1)
        now = Signal(32)
        m.d.comb += now.eq(self.cycles + 1)
        with m.If(self.clear):
            m.d.sync += [self.cycles.eq(0), self.first_row.eq(0), self.last_row.eq(0)]
        with m.Elif(self.run):
            m.d.sync += self.cycles.eq(now)
            with m.If(self.row):
                m.d.sync += self.last_row.eq(now)
                with m.If(self.last_row == 0):
                    m.d.sync += self.first_row.eq(now)
        return m
