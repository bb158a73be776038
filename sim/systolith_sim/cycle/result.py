"""What the cycle model gives back, and how it fails."""

from dataclasses import dataclass

from systolith_hw.isa import STALL_CAUSES
from systolith_sim.cycle.accesses import Accesses


class DeadlockError(RuntimeError):
    """A program that never ends: the head of a queue waits for a semaphore that nothing raises any more."""

    def __init__(self, index: int, instruction: object, semaphore: str) -> None:
        self.index = index
        """Place in the program of the first queue's waiting instruction, as Fault.DEADLOCK names it."""
        super().__init__(f"deadlock: instruction {index} ({instruction}) waits for {semaphore}, "
                         "which nothing raises any more")


class SemaphoreOverflowError(RuntimeError):
    """A program that raises a semaphore above 255."""

    def __init__(self, semaphore: str, cycle: int) -> None:
        self.cycle = cycle
        """The cycle in which the 256 would be visible."""
        super().__init__(f"{semaphore} counts to 255, but the program raises it above that at cycle {cycle}")


@dataclass(frozen=True, slots=True)
class InstructionTimes:
    """An instruction on the timeline, cycles from the start pulse."""

    queue: str
    index: int
    """Place in the program."""
    start: int
    free: int
    """The unit may start the next instruction from here on."""
    done: int
    """The (last) semaphore is visible."""


@dataclass(frozen=True, slots=True)
class TransferTimes:
    """A transfer at the memory port on the timeline, cycles from the start pulse."""

    requester: str
    """fetch, load or store."""
    request: int
    """The request is visible to the arbiter."""
    accept: int
    """The memory accepts the address of the first burst."""
    end: int
    """The last beat is on the port."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """Every instruction (in program order) and every transfer (in order of acceptance)."""

    instructions: tuple[InstructionTimes, ...]
    transfers: tuple[TransferTimes, ...]


@dataclass(frozen=True, slots=True)
class CycleResult:
    """Cycles of a program, from the start pulse to the last completion."""

    cycles: int
    counters: dict[str, dict[str, int]]
    """Per queue ``busy`` and each stall cause; each queue adds up to ``cycles``."""
    accesses: Accesses
    """Energy events."""
    timeline: Timeline | None = None


def counters_of(cycles: int, stalls: list[int], free: int) -> dict[str, int]:
    """The counters of one queue (T1, T6).

    Parameters
    ----------
    stalls : list of int
        Cycles of each of STALL_CAUSES until the last start.
    free : int
        The unit is free from here on, hence empty to the end; 1 for a queue without an instruction.
    """
    causes = dict(zip(STALL_CAUSES, stalls, strict=True))
    causes["empty"] += cycles + 1 - free
    return {"busy": cycles - sum(causes.values()), **causes}
