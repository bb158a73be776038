"""The core in SimPy, cycle for cycle: instructions and transfers are events, their insides a formula."""

from systolith_sim.cycle.accesses import Accesses
from systolith_sim.cycle.model import simulate
from systolith_sim.cycle.result import (
    CycleResult,
    DeadlockError,
    InstructionTimes,
    SemaphoreOverflowError,
    Timeline,
    TransferTimes,
)
from systolith_sim.cycle.waits import RandomStalls

__all__ = [
    "Accesses",
    "CycleResult",
    "DeadlockError",
    "InstructionTimes",
    "RandomStalls",
    "SemaphoreOverflowError",
    "Timeline",
    "TransferTimes",
    "simulate",
]
