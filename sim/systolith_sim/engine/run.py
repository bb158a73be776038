"""``simulate``: a program on a core's RTL, from its image to its results."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from systolith_hw.config import CoreConfig
from systolith_hw.host import MAX_CYCLES, Host, RunStatus
from systolith_hw.program import Program, check
from systolith_hw.timing import MemoryTiming
from systolith_sim.engine.build import Build, build_core
from systolith_sim.engine.engine import Engine
from systolith_sim.engine.memory import Stalls

_CONTRACT = MemoryTiming()


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """What a run of the RTL gave."""

    status: RunStatus
    outputs: Mapping[str, np.ndarray]
    """The program's outputs by name, int8."""
    build_s: float
    run_s: float
    """Time from the start write to the end, counters included."""

    @property
    def simulated_cycles_per_s(self) -> float:
        """Speed of the run."""
        return self.status.cycles / self.run_s


def simulate(core: CoreConfig, program: Program, *, timing: MemoryTiming = _CONTRACT,
             stalls: Stalls | None = None, wave: Path | None = None, max_cycles: int = MAX_CYCLES,
             expected_cycles: int | None = None, raise_fault: bool = True, console: Console | None = None
             ) -> Simulation:
    """Run a program on a core's RTL.

    Parameters
    ----------
    timing, stalls : MemoryTiming, Stalls
        The memory; deterministic without stalls.
    wave : Path, optional
        Write a waveform (FST) here. It needs a build of its own and runs several times slower.
    max_cycles : int
        Give up after so many cycles.
    expected_cycles : int, optional
        Length of the progress bar.
    raise_fault : bool
        Raise ``CoreFault`` on a fault; otherwise the status has it.
    console : Console, optional
        Where to show progress; nothing is shown without.

    Raises
    ------
    IllegalProgram
        If the core cannot run the program.
    CoreFault
        If the run ends in a fault.
    HostError
        If it does not end within ``max_cycles``.
    EngineError
        If the core cannot be built, or breaks a rule of its ports.
    """
    check(core, program)
    with _Bar(console, expected_cycles) as bar:
        build = build_core(core, wave=wave is not None, report=bar.describe)
        with Engine(build, memory_bytes=_memory_bytes(build, program), timing=timing, stalls=stalls,
                    wave=wave) as engine:
            host = Host(engine)
            host.load(program)
            bar.describe("simulating")
            begin = time.perf_counter()
            status = host.run(program, max_cycles=max_cycles, progress=bar.update, raise_fault=raise_fault,
                              load=False)
            run_s = time.perf_counter() - begin
            outputs = {region.name: region.read(engine.memory) for region in program.outputs}
    return Simulation(status=status, outputs=outputs, build_s=build.seconds, run_s=run_s)


def _memory_bytes(build: Build, program: Program) -> int:
    """The program's memory, up to the next whole beat."""
    return -(-program.memory_bytes // build.port_bytes) * build.port_bytes


class _Bar:
    """A progress bar, or nothing."""

    def __init__(self, console: Console | None, expected_cycles: int | None) -> None:
        self._expected = expected_cycles
        self._task: TaskID | None = None
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,.0f} cycles"),
            TimeElapsedColumn(), console=console, transient=True) if console else None

    def __enter__(self) -> "_Bar":
        if self._progress:
            self._progress.start()
            self._task = self._progress.add_task("", total=self._expected)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._progress:
            self._progress.stop()

    def describe(self, words: str) -> None:
        """Say what is being done."""
        if self._progress and self._task is not None:
            self._progress.update(self._task, description=words)

    def update(self, cycles: int) -> None:
        """Show how far it is."""
        if self._progress and self._task is not None:
            self._progress.update(self._task, completed=cycles)
