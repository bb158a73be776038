"""Runs bench_requantizer, and checks that it notices planted faults."""

import pytest
from bench_requantizer import DUT, LATENCY
from mutants import Fault

from systolith_hw.arith import requantizer
from systolith_hw.arith.requantizer import Requantizer
from systolith_hw.config import PRESETS
from systolith_hw.timing import requantize_latency

FAULTS = {
    "half_up": Fault(Requantizer, "elaborate", "quotient[1] & (quotient[0] | quotient[2])", "quotient[1]"),
    "sticky_lost": Fault(Requantizer, "elaborate", "name=\"coarse\")", "name=\"coarse\") & -2"),
    "wraps": Fault(Requantizer, "elaborate",
                   "total_beyond.eq(beyond | _mixed(quotient[1 + NEAR_BITS:]))", "total_beyond.eq(0)"),
}


def test_requantizer(cosim):
    assert requantize_latency(PRESETS["base"]) == LATENCY
    cosim(DUT, toplevel="requantizer", bench="bench_requantizer")


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_fault_is_caught(planted, fault, monkeypatch):
    monkeypatch.setattr(requantizer, "Requantizer", FAULTS[fault].planted())
    planted.catches(requantizer.Requantizer(multiplier_latency=4), toplevel="requantizer",
                    bench="bench_requantizer")
