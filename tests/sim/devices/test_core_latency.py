"""The core's seconds: cycles over clock, and the clock's provenance."""

import pytest

from systolith_sim.devices.core import core_latency
from systolith_sim.devices.figures import Figure
from systolith_sim.devices.library import find_device

CLOCK = Figure(value=80e6, unit="Hz", how="derived", source="assumed", low=50e6, high=100e6)


def test_cycles_over_clock():
    figure = core_latency(find_device("ulx3s-85f"), cycles=8_000_000, clock=CLOCK, cycles_from="RTL")
    assert (figure.value, figure.low, figure.high, figure.unit) == (0.1, 0.08, 0.16, "s")
    assert figure.how == "modelled"
    assert "8000000 cycles (RTL) at 80 MHz" in figure.source


@pytest.mark.parametrize(
    ("name", "cycles", "clock", "sentence"),
    [
        ("h100-sxm", 1, CLOCK, "must be an fpga"),
        ("ulx3s-85f", 0, CLOCK, "cycles must be >= 1, not 0"),
        ("ulx3s-85f", 1, CLOCK.model_copy(update={"unit": "s"}), "clock must be a positive frequency"),
    ],
)
def test_refusals(name, cycles, clock, sentence):
    with pytest.raises(ValueError, match=sentence):
        core_latency(find_device(name), cycles=cycles, clock=clock, cycles_from="RTL")
