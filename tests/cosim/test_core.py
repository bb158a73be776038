"""Runs bench_core and bench_faults, and checks that bench_core notices planted faults."""

import pytest
from core_programs import CORES
from mutants import Fault

from systolith_hw import core as core_module
from systolith_hw.control.issue import Issue
from systolith_hw.control.semaphores import Semaphores
from systolith_hw.core import Core
from systolith_hw.memory.accumulator import Accumulator
from systolith_hw.vector.unit import VectorUnit

FAULTS = {
    "semaphore_not_lowered": Fault(Semaphores, "elaborate", "count + 1, count - 1)", "count + 1, count)"),
    "wait_ignored": Fault(Issue, "elaborate", "missing.eq(head.wait & ~self.up)", "missing.eq(0)"),
    "always_accumulates": Fault(Accumulator, "elaborate", "Mux(accumulate, old[bits], 0)", "old[bits]"),
    "parameters_of_column_0": Fault(VectorUnit, "_lanes", "self.parameters[64 * lane:64 * lane + 64]",
                                    "self.parameters[:64]"),
}


# One component each, so that all benches share its Verilog.
GOOD = {name: Core(core) for name, core in CORES.items()}


@pytest.mark.parametrize("core", CORES)
def test_core(cosim, core):
    cosim(GOOD[core], toplevel="core", bench="bench_core", CORE=core)


def test_faults(fast_cosim):
    fast_cosim(GOOD["4x4"], toplevel="core", bench="bench_faults", CORE="4x4")


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_fault_is_caught(planted, fault, monkeypatch):
    monkeypatch.setattr(core_module, FAULTS[fault].component.__name__, FAULTS[fault].planted())
    planted.catches(core_module.Core(CORES["3x5"]), toplevel="core", bench="bench_core", CORE="3x5",
                    tests="stall=0.5")
