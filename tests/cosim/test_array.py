"""Runs bench_array, and checks that it notices planted faults."""

import pytest
from bench_array import MULTIPLIER_LATENCY, SHAPES
from mutants import Fault

from systolith_hw.array import systolic_array
from systolith_hw.array.processing_element import ProcessingElement
from systolith_hw.array.systolic_array import SystolicArray

FAULTS = {
    "swap_late": Fault(SystolicArray, "elaborate", "swaps[row + col]",
                       "swaps[min(row + col + 1, len(swaps) - 1)]"),
    "group_skipped": Fault(SystolicArray, "_loads", "2 * (row //", "0 * (row //"),
    "activation_signed": Fault(ProcessingElement, "elaborate", "multiplier.a.eq(self.a)",
                               "multiplier.a.eq(self.a[:8].as_signed())"),
}


def array(component, shape):
    rows, cols, per_cycle = SHAPES[shape]
    return component(rows=rows, cols=cols, weight_rows_per_cycle=per_cycle,
                     multiplier_latency=MULTIPLIER_LATENCY)


@pytest.mark.parametrize("shape", SHAPES)
def test_array(cosim, shape):
    cosim(array(SystolicArray, shape), toplevel="array", bench="bench_array", SHAPE=shape)


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_fault_is_caught(planted, fault, monkeypatch):
    monkeypatch.setattr(systolic_array, FAULTS[fault].component.__name__, FAULTS[fault].planted())
    planted.catches(array(systolic_array.SystolicArray, "3x5_2"), toplevel="array", bench="bench_array",
                    tests="gap=5", SHAPE="3x5_2")
