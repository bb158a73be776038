"""Runs bench_dma, and checks that it notices planted faults."""

import sys

import pytest
from dma_top import DmaTop
from mutants import Fault

from systolith_hw.memory.port import MemoryPort
from systolith_hw.memory.store import StoreReader, StoreUnit
from systolith_hw.memory.walker import BurstWalker

FAULTS = {
    "burst_crosses": Fault(BurstWalker, "elaborate", "room.eq(limit - walk.address % limit)",
                           "room.eq(limit)"),
    "early_last": Fault(StoreUnit, "_write", "beats == burst.beats_less_one",
                        "beats + 1 == burst.beats_less_one"),
    "response_ignored": Fault(StoreUnit, "_complete", "ends.o.p == answers", "ends.o.valid"),
    "hold_ignored": Fault(StoreReader, "elaborate", "(inside | ~self.hold)", "1"),
    "address_drops": Fault(MemoryPort, "elaborate", "bus.awvalid.eq(self.store_valid)",
                           "bus.awvalid.eq(self.store_valid & (self.w_valid | ~bus.wready))"),
}


def test_dma(cosim):
    cosim(DmaTop(), toplevel="dma", bench="bench_dma")


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_fault_is_caught(planted, fault, monkeypatch):
    component = FAULTS[fault].component
    bad = FAULTS[fault].planted()
    for module in ("walker", "load", "store", "port"):
        place = sys.modules[f"systolith_hw.memory.{module}"]
        if hasattr(place, component.__name__):
            monkeypatch.setattr(place, component.__name__, bad)
    planted.catches(DmaTop(), toplevel="dma", bench="bench_dma", tests="stall=0.5")
