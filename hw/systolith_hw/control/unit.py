"""The face that every unit shows to its queue."""

from typing import Protocol

from amaranth import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from systolith_hw.config import SEMAPHORES_PER_QUEUE, CoreConfig
from systolith_hw.control.layouts import INDEX_BITS, instruction_layout
from systolith_hw.isa import Opcode
from systolith_hw.memory.fifo import Fifo


class UnitSignature(wiring.Signature):
    """Between a queue's head and its unit, seen from the unit.

    Members
    -------
    instruction : In, the head of the queue; taken in the cycle of ``start``.
    start : In(1), only while ``free`` and ``room``.
    free : Out(1), the unit can take the next instruction.
    room : Out(1), fewer than ``dma_depth`` instructions are in flight (1 for units without such a bound).
    post : Out, semaphores to raise; visible in the next cycle.
    complete : Out(1), the oldest instruction is done with everything; in the cycle of its last post.
    index : Out, index of the instruction that faults are charged to.
    """

    def __init__(self, *, core: CoreConfig, opcode: Opcode) -> None:
        self.core, self.opcode = core, opcode
        super().__init__({
            "instruction": In(instruction_layout(core, opcode)), "start": In(1), "free": Out(1), "room": Out(1),
            "post": Out(SEMAPHORES_PER_QUEUE), "complete": Out(1), "index": Out(INDEX_BITS),
        })


class UnitFace(Protocol):
    """What a member of signature ``UnitSignature`` is to type checkers, whichever way it looks."""

    instruction: data.View
    start: Signal
    free: Signal
    room: Signal
    post: Signal
    complete: Signal
    index: Signal

    @property
    def signature(self) -> wiring.Signature: ...


def in_flight(m: Module, unit: UnitFace, *, depth: int) -> None:
    """Drive ``unit.index`` with the oldest incomplete instruction, of at most ``depth``."""
    m.submodules.in_flight = indices = Fifo(shape=INDEX_BITS, depth=max(2, 1 << (depth - 1).bit_length()))
    m.d.comb += [
        indices.i.valid.eq(unit.start), indices.i.p.eq(unit.instruction.index),
        indices.o.ready.eq(unit.complete), unit.index.eq(indices.o.p),
    ]
