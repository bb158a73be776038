"""``simulate``: a program on a core, cycle for cycle."""

from collections.abc import Sequence
from typing import Any, cast

from simpy import Environment

from systolith_hw.config import CoreConfig
from systolith_hw.isa import QUEUES, Instruction
from systolith_hw.timing import MemoryTiming
from systolith_sim.cycle.decode import SEMAPHORES, decoder, semaphore_name, total_accesses
from systolith_sim.cycle.machine import Machine
from systolith_sim.cycle.port import Port
from systolith_sim.cycle.result import (
    CycleResult,
    DeadlockError,
    InstructionTimes,
    SemaphoreOverflowError,
    Timeline,
    counters_of,
)
from systolith_sim.cycle.stalled import StalledPort
from systolith_sim.cycle.waits import RandomStalls

_MOST = 255
"""Largest count of a semaphore."""
_CONTRACT = MemoryTiming()
"""The memory of docs/contracts/memory.md."""


def simulate(core: CoreConfig, instructions: Sequence[Instruction], memory: MemoryTiming = _CONTRACT, *,
             timeline: bool = False, stalls: RandomStalls | None = None) -> CycleResult:
    """Cycles and counters of a program, as the RTL gives them with the deterministic memory.

    The program must be legal: bank conflicts and illegal fields, which end in a fault, are not looked for.

    Parameters
    ----------
    memory : MemoryTiming
        The deterministic memory.
    timeline : bool
        Keep the times of every instruction and transfer.
    stalls : RandomStalls, optional
        The random memory instead: its very waits if a source gives them, else an estimate from the mean.

    Raises
    ------
    DeadlockError
        If an instruction waits for a semaphore that nothing raises any more.
    SemaphoreOverflowError
        If a semaphore is raised above 255.
    ValueError
        If there is no instruction, a DMA's address is not aligned, or two queues wait for one semaphore.
    """
    if not instructions:
        raise ValueError("instructions must hold at least one, not 0")
    # A frozen pydantic model can be hashed, which its type does not say.
    order, queues = decoder(cast(Any, core), memory).decode(instructions)
    port = _port(memory, stalls, log=timeline)
    machine = Machine(core, port, order, queues)
    machine.run()
    _check_semaphores(machine)
    _check_deadlock(machine, instructions, order)
    heads = dict(zip(QUEUES, machine.heads, strict=True))
    cycles = max(head.dones[-1] for head in machine.heads if head.dones)  # T15
    return CycleResult(
        cycles=cycles,
        counters={queue: counters_of(cycles, head.stalls, head.free) for queue, head in heads.items()},
        accesses=total_accesses(queues),
        timeline=_timeline(machine, port, order) if timeline else None,
    )


def _port(memory: MemoryTiming, stalls: RandomStalls | None, *, log: bool) -> Port:
    if stalls is None:
        return Port(Environment(), memory, log=log)
    return StalledPort(Environment(), memory, stalls, log=log)


def _timeline(machine: Machine, port: Port, order: Sequence[int]) -> Timeline:
    times = [zip(head.starts, head.frees, head.dones, strict=True) for head in machine.heads]
    assert port.transfers is not None
    instructions = (InstructionTimes(QUEUES[queue], index, *next(times[queue]))
                    for index, queue in enumerate(order))
    return Timeline(tuple(instructions), tuple(port.transfers))


def _check_semaphores(machine: Machine) -> None:
    first: SemaphoreOverflowError | None = None
    for semaphore in range(SEMAPHORES):
        posts, takes = machine.semaphores.posts[semaphore], machine.semaphores.takes[semaphore]
        for number in range(_MOST, len(posts)):
            # A start lowers in the next cycle: the post fits if a start before it has made room.
            taken = number - _MOST
            if taken >= len(takes) or takes[taken] >= posts[number]:
                if first is None or posts[number] < first.cycle:
                    first = SemaphoreOverflowError(semaphore_name(semaphore), posts[number])
                break
    if first is not None:
        raise first


def _check_deadlock(machine: Machine, instructions: Sequence[Instruction], order: Sequence[int]) -> None:
    for queue, head in enumerate(machine.heads):
        if head.index < len(head.dispatched):
            index = [number for number, own in enumerate(order) if own == queue][head.index]
            raise DeadlockError(index, instructions[index], semaphore_name(head.missing))
