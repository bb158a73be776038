"""A queue and its head: when an instruction starts, and why it does not (timing, rules T4 to T6)."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from systolith_hw.config import SEMAPHORES_PER_QUEUE, CoreConfig
from systolith_hw.control.layouts import INDEX_BITS, instruction_layout
from systolith_hw.control.unit import UnitFace, UnitSignature
from systolith_hw.isa import QUEUES, STALL_CAUSES, Opcode
from systolith_hw.memory.fifo import Fifo


class Issue(wiring.Component):
    """Holds the instructions of one queue and starts the head when every condition holds.

    Members
    -------
    i : In(stream), instructions in program order.
    unit : the unit's face, driven from here.
    run : In(1), while low nothing starts.
    up : In(16), semaphores that are up.
    lower : Out(16), semaphores lowered by the start of this cycle.
    busy : Out(1), the unit is occupied, or starts.
    stall : Out(6), one hot: the first condition not met, in the order of ``STALL_CAUSES``.
    waiting, index : Out, an instruction is at the head, and its index.
    """

    i: stream.Interface
    unit: UnitFace
    run: Signal
    up: Signal
    lower: Signal
    busy: Signal
    stall: Signal
    waiting: Signal
    index: Signal

    def __init__(self, *, core: CoreConfig, opcode: Opcode) -> None:
        self.core, self.opcode = core, opcode
        semaphores = len(QUEUES) * SEMAPHORES_PER_QUEUE
        super().__init__({
            "i": In(stream.Signature(instruction_layout(core, opcode))),
            "unit": In(UnitSignature(core=core, opcode=opcode)),
            "run": In(1), "up": In(semaphores), "lower": Out(semaphores), "busy": Out(1),
            "stall": Out(len(STALL_CAUSES)), "waiting": Out(1), "index": Out(INDEX_BITS),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        unit = self.unit
        m.submodules.queue = queue = Fifo(shape=self.i.p.shape(), depth=self.core.queue_depth)
        wiring.connect(m, wiring.flipped(self.i), queue.i)
        head = queue.o.p
        missing = Signal(len(QUEUES) * SEMAPHORES_PER_QUEUE)
        unmet = Signal(len(STALL_CAUSES))
        groups = [missing[n:n + SEMAPHORES_PER_QUEUE].any() for n in range(0, len(missing), SEMAPHORES_PER_QUEUE)]
        m.d.comb += [
            missing.eq(head.wait & ~self.up),
            unmet.eq(Cat(~queue.o.valid, *groups, ~unit.room)),
            unit.instruction.eq(head),
            unit.start.eq(self.run & unit.free & ~unmet.any()),
            queue.o.ready.eq(unit.start),
            self.lower.eq(Mux(unit.start, head.wait, 0)),
            self.busy.eq(~unit.free | unit.start),
            self.waiting.eq(queue.o.valid), self.index.eq(head.index),
        ]
        with m.If(unit.free):
            m.d.comb += self.stall.eq(unmet & -unmet)
        return m
