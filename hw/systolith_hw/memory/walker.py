"""Addresses of a 2-D transfer: rows cut into bursts, bursts grouped into transfers (memory, rules M2 and M3)."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from systolith_hw.config import CoreConfig


def burst_layout(core: CoreConfig) -> data.StructLayout:
    """One burst: address in beats, beats less one, and whether a transfer and the instruction end with it."""
    port_bits = (core.port_bytes - 1).bit_length()
    return data.StructLayout({
        "address": 32 - port_bits,
        "beats_less_one": (core.sizes.burst_beats - 1).bit_length(),
        "transfer_end": 1,
        "end": 1,
    })


def walk_layout(core: CoreConfig) -> data.StructLayout:
    """A 2-D transfer, everything in beats."""
    port_bits = (core.port_bytes - 1).bit_length()
    return data.StructLayout({
        "address": 32 - port_bits, "stride": 32 - port_bits, "rows": 16, "row_beats": 24 - port_bits,
    })


class BurstWalker(wiring.Component):
    """Cuts a 2-D transfer into bursts.

    Members
    -------
    i : In(stream.Signature(walk_layout)), taken when nothing is left of the one before.
    o : Out(stream.Signature(burst_layout)), valid two cycles after the take; the next burst follows a take at once.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, *, core: CoreConfig) -> None:
        self.core = core
        super().__init__({"i": In(stream.Signature(walk_layout(core))),
                          "o": Out(stream.Signature(burst_layout(core)))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        sizes = self.core.sizes
        limit, o = sizes.burst_beats, self.o
        walk = Signal(walk_layout(self.core))
        active, row, left = Signal(), Signal.like(walk.address), Signal.like(walk.row_beats)
        issued = Signal(range(sizes.transfer_beats + 1))
        room = Signal(range(limit + 1))
        burst = Signal(range(limit + 1))
        row_end, end, full = Signal(), Signal(), Signal()
        total = Signal(range(2 * sizes.transfer_beats))
        m.d.comb += [
            self.i.ready.eq(~active & ~o.valid),
            room.eq(limit - walk.address % limit),
            row_end.eq(left <= room),
            burst.eq(Mux(row_end, left, room)),
            end.eq(row_end & (walk.rows == 1)),
            total.eq(issued + burst),
            full.eq(total > sizes.transfer_beats - limit),
        ]
        with m.If(o.ready):
            m.d.sync += o.valid.eq(0)
        with m.If(active & (~o.valid | o.ready)):
            m.d.sync += [
                o.valid.eq(1),
                Cat(o.p.address, o.p.beats_less_one, o.p.transfer_end, o.p.end).eq(
                    Cat(walk.address, (burst - 1)[:len(o.p.beats_less_one)], full | end, end)),
                issued.eq(Mux(full | end, 0, total)),
                active.eq(~end),
                walk.address.eq(walk.address + burst),
                left.eq(left - burst),
            ]
            with m.If(row_end):
                m.d.sync += [
                    walk.rows.eq(walk.rows - 1), left.eq(walk.row_beats),
                    row.eq(row + walk.stride), walk.address.eq(row + walk.stride),
                ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [walk.eq(self.i.p), active.eq(1), row.eq(self.i.p.address), left.eq(self.i.p.row_beats)]
        return m
