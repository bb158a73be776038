"""The driver of a core's control port: one protocol for the engine, a bench and a board."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from systolith_hw.config import INSTRUCTION_BYTES
from systolith_hw.isa import QUEUES, STALL_CAUSES, decode
from systolith_hw.program import Program
from systolith_hw.registers import FAULT_QUEUES, IDENTIFIER, Control, Fault, Register, Status, counter

BLOCK_CYCLES = 1 << 16
"""Cycles between two looks at the progress and at Ctrl-C."""
MAX_CYCLES = (1 << 32) - 1
"""Longest run that the core's counters can tell."""
_CAUSES = ("busy", *STALL_CAUSES)
_QUIET_CYCLES = 1 << 24
"""More than any memory needs to answer what is outstanding."""


class Target(Protocol):
    """A core with memory behind its port: simulated, in a bench or on a board."""

    def read32(self, address: int) -> int:
        """Read a register of the control port."""
        ...

    def write32(self, address: int, value: int) -> None:
        """Write a register of the control port."""
        ...

    def read_memory(self, address: int, length: int) -> bytes:
        """Bytes of the memory behind the memory port."""
        ...

    def write_memory(self, address: int, data: bytes) -> None:
        """Put bytes into the memory behind the memory port."""
        ...

    def advance(self, max_cycles: int) -> bool:
        """Let up to ``max_cycles`` pass; true, and at once, when the interrupt is up."""
        ...


class HostError(RuntimeError):
    """What answers at the control port is no core, or the core does not end."""


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """How a run ended."""

    cycles: int
    """From the start pulse to the end."""
    fault: Fault
    queue: str | None
    """Queue of the fault, or ``fetch``."""
    instruction: int | None
    """Index of the faulting instruction in the program."""
    counters: Mapping[str, Mapping[str, int]]
    """Cycles of each queue: ``busy``, then one count for each cause of a stall."""
    first_row: int
    """Cycle in which the first activation row was read; 0 if none was."""
    last_row: int
    """Cycle in which the last one was read."""
    disassembly: str = ""
    """The faulting instruction."""

    @property
    def message(self) -> str:
        """One sentence on the end of the run."""
        if self.fault is Fault.NONE:
            return f"done after {self.cycles} cycles"
        name = self.fault.name.lower().replace("_", " ")
        place = f"queue {self.queue}, instruction {self.instruction}"
        return f"{name} after {self.cycles} cycles, {place}: {self.disassembly}"


class CoreFault(RuntimeError):
    """A program ended in a fault; ``status`` has the particulars."""

    def __init__(self, status: RunStatus) -> None:
        super().__init__(status.message)
        self.status = status


class Host:
    """Runs programs on a core.

    Raises
    ------
    HostError
        If what answers is no core.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        found = target.read32(Register.IDENTIFIER)
        if found != IDENTIFIER:
            raise HostError(f"the identifier must read {IDENTIFIER:#010x}, not {found:#010x}")

    def load(self, program: Program) -> None:
        """Put image and instructions into memory."""
        for segment in program.segments():
            self.target.write_memory(segment.address, segment.data)

    def run(self, program: Program, *, max_cycles: int = MAX_CYCLES, watchdog_cycles: int | None = None,
            progress: Callable[[int], None] | None = None, raise_fault: bool = True,
            load: bool = True) -> RunStatus:
        """Load a program, run it to its end and read all counters.

        Parameters
        ----------
        max_cycles : int
            Give up after so many cycles.
        watchdog_cycles : int, optional
            Cycles without progress after which the core reports a deadlock; as the core has it by default.
        progress : callable, optional
            Called now and then with the cycles so far.
        raise_fault : bool
            Raise ``CoreFault`` when the run ends in a fault, instead of returning its status.
        load : bool
            Put the program into memory first; false where it stands there already.

        Raises
        ------
        CoreFault
            If the run ends in a fault.
        HostError
            If it does not end, or the core stands in a fault of an earlier run (``clear`` forgets it).
        """
        status = Status(self.target.read32(Register.STATUS) & 0xFF)
        if status & (Status.RUNNING | Status.FAULT):
            raise HostError(f"the core must be idle before a run, not {status!r}")
        if load:
            self.load(program)
        self._start(program, watchdog_cycles)
        self._wait(max_cycles, progress)
        result = self.status(program)
        if result.fault is not Fault.NONE and raise_fault:
            raise CoreFault(result)
        return result

    def status(self, program: Program) -> RunStatus:
        """How the last run of ``program`` ended, counters included."""
        word = self.target.read32(Register.STATUS)
        fault, queue, instruction, disassembly = Fault(word >> 8 & 0xFF), None, None, ""
        if fault is not Fault.NONE:
            queue = FAULT_QUEUES[word >> 16 & 7]
            instruction = self.target.read32(Register.FAULT_INSTRUCTION)
            disassembly = self._disassemble(program, instruction)
        counters = {name: {cause: self.target.read32(counter(name, cause)) for cause in _CAUSES}
                    for name in QUEUES}
        return RunStatus(cycles=self.target.read32(Register.CYCLES), fault=fault, queue=queue,
                         instruction=instruction, counters=counters, first_row=self.target.read32(Register.FIRST_ROW),
                         last_row=self.target.read32(Register.LAST_ROW), disassembly=disassembly)

    def clear(self) -> None:
        """After a fault: wait until nothing is outstanding at the memory port, then forget the fault.

        Raises
        ------
        HostError
            If the memory port does not become quiet.
        """
        self._interrupt(False)
        waited = 0
        while not self.target.read32(Register.STATUS) & Status.QUIET:
            if waited >= _QUIET_CYCLES:
                raise HostError(f"the memory port must become quiet within {_QUIET_CYCLES} cycles")
            self.target.advance(1 << 10)
            waited += 1 << 10
        self.target.write32(Register.CONTROL, Control.CLEAR)

    def _start(self, program: Program, watchdog_cycles: int | None) -> None:
        self.target.write32(Register.PROGRAM_ADDRESS, program.program_address)
        self.target.write32(Register.PROGRAM_COUNT, len(program.instructions))
        if watchdog_cycles is not None:
            self.target.write32(Register.WATCHDOG, watchdog_cycles)
        self._interrupt(True)
        self.target.write32(Register.CONTROL, Control.START)

    def _wait(self, max_cycles: int, progress: Callable[[int], None] | None) -> None:
        passed = 0
        while passed < max_cycles:
            block = min(BLOCK_CYCLES, max_cycles - passed)
            # The interrupt of the run before may be up for a moment yet: the status decides.
            interrupted = self.target.advance(block)
            if interrupted and not self.target.read32(Register.STATUS) & Status.RUNNING:
                return
            passed += 1 if interrupted else block
            if progress:
                progress(passed)
        raise HostError(f"the program must end within max_cycles = {max_cycles}: "
                        f"status {self.target.read32(Register.STATUS):#010x}")

    def _interrupt(self, enable: bool) -> None:
        self.target.write32(Register.INTERRUPT_ENABLE, int(enable))

    def _disassemble(self, program: Program, instruction: int) -> str:
        """The instruction as it stands in memory, which need not be the program's."""
        address = program.program_address + INSTRUCTION_BYTES * instruction
        try:
            return str(decode(self.target.read_memory(address, INSTRUCTION_BYTES)))
        except ValueError as error:
            return str(error)
