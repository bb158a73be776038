"""The core's seconds: cycles over clock, and the clock's provenance."""

from dataclasses import replace

import pytest

from systolith_hw.config import load_core
from systolith_sim.compiler import plan_gemm
from systolith_sim.cycle import simulate
from systolith_sim.devices.core import core_latency, gemm_cycles
from systolith_sim.devices.figures import Figure
from systolith_sim.devices.kernel import cost, kernel_time
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


@pytest.mark.parametrize(("m", "k", "n"), [(16, 64, 64), (1, 4096, 4096), (256, 2048, 512)])
def test_products_on_the_core_take_the_cycles_of_the_cycle_model(m, k, n):
    """Long programs are extrapolated from two short ones; the reference plays them whole."""
    core = load_core("base")
    whole = simulate(core, plan_gemm(core, m, k, n, play=False).instructions).cycles
    assert gemm_cycles("base", m, k, n) == pytest.approx(whole, rel=0.002)


def test_operations_on_the_core(product, decoder):
    device = find_device("ulx3s-85f")
    graph = product(16, 64, 64, "int8")
    time = kernel_time(device, graph, graph.operations[0])
    assert time.seconds == pytest.approx(gemm_cycles("base", 16, 64, 64) / 50e6)
    small = {name: replace(tensor, format="int8") for name, tensor in decoder.tensors.items()
             if tensor.format != "int32"}  # fmt: skip
    graph = replace(decoder, tensors={**decoder.tensors, **small})
    times = {operation.name: time for operation, time in cost(device, graph)}
    # 2 x 4 products of 64 x 64 x 64 at 64 multiply-accumulates a cycle, at least
    assert times["attend"].seconds >= 2 * 4 * 64**3 / 64 / 50e6
    assert times["add"].seconds == pytest.approx(3 * 64 * 256 / 266e6), "three tensors at the board's 266 MB/s"
