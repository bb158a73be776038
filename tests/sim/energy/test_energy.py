"""Energy: hand arithmetic, the power cap, published joules per token, refusals."""

from dataclasses import replace

import pytest

from systolith_model.formats import Formats
from systolith_model.graph import Graph, Operation, Tensor
from systolith_sim.devices.core import core_latency
from systolith_sim.devices.figures import Datum, Figure
from systolith_sim.devices.kernel import KernelTime, cost
from systolith_sim.devices.library import find_device
from systolith_sim.energy.core_energy import CoreEvents, core_energy
from systolith_sim.energy.device_energy import floor_power, graph_energy, missing_power, operation_energy
from systolith_sim.estimate.engine import find_engine
from systolith_sim.estimate.models import find_model
from systolith_sim.estimate.replica import Replica
from systolith_sim.estimate.tally import Tally, waiting
from systolith_sim.parallel.layout import Layout

OPERATION = Operation(name="op", kind="matmul", inputs=(), outputs=(), count=3)


def time(seconds, flops, moved):
    return KernelTime(seconds, 0, 0, 0, "memory", flops, moved, seconds, seconds, "bf16", "given")


def test_static_plus_bytes_plus_operations():
    figure = graph_energy(find_device("h100-sxm"), [(OPERATION, time(1e-3, 10**9, 10**8))])
    # 141.6 W floor, 132.7 pJ a byte, 1.234 pJ an operation
    assert figure.value == pytest.approx(3 * (141.6e-3 + 1e8 * 132.7e-12 + 1e9 * 1.234e-12), rel=1e-6)
    assert figure.low is not None
    assert figure.high is not None
    assert figure.low < figure.value < figure.high
    assert figure.how == "modelled"


def test_power_stays_below_tdp():
    figure = graph_energy(find_device("h100-sxm"), [(OPERATION, time(1e-3, 10**13, 10**10))])
    assert figure.value == pytest.approx(3 * 700 * 1e-3)


def made_up(value, low, high):
    return Datum(value=value, low=low, high=high, source="given", confidence="derived")


def test_time_floor_and_work_err_independently_of_each_other():
    # 100 W (90 .. 120) for 2 s (1.7 .. 2.2); 1e9 bytes of 40 nJ (30 .. 70) and 1e9 operations of 60 nJ (50 .. 90)
    one = KernelTime(2.0, 0, 0, 0, "memory", 10**9, 10**9, 1.7, 2.2, "bf16", "given")
    static, per_byte, per_op = made_up(100, 90, 120), made_up(40e-9, 30e-9, 70e-9), made_up(60e-9, 50e-9, 90e-9)
    low, value, high = operation_energy(static, per_byte, per_op, None, one)
    assert value == pytest.approx(300)
    assert low == pytest.approx(300 - (30**2 + 20**2 + 20**2) ** 0.5)
    assert high == pytest.approx(300 + (20**2 + 40**2 + 60**2) ** 0.5)


def test_a_board_at_its_limit_takes_the_more_the_longer_it_runs():
    device = find_device("h100-sxm")  # 700 W, floor 141.6 W
    busy = Tally.zero() + waiting(1.0, "engine", (2000.0, 2000.0, 2000.0))
    assert busy.limited_joules(device, 1) == (700.0, 700.0, 700.0)
    assert busy.limited_joules(device, 1, (0.8, 1.5)) == pytest.approx((560.0, 700.0, 1050.0))
    # below the limit what an engine errs costs the floor alone
    idle = Tally.zero() + waiting(1.0, "engine", (300.0, 300.0, 300.0))
    assert idle.limited_joules(device, 1, (0.8, 1.5)) == pytest.approx((300 - 0.2 * 141.6, 300.0, 300 + 0.5 * 141.6))


def llama_3_8b_step() -> Graph:
    """Products of one decode step of Llama-3-8B, batch 1, bf16: sizes of its public configuration."""
    tensors, operations = {}, []
    shapes = {
        "qkv": (4096, 6144, 32),
        "o": (4096, 4096, 32),
        "up": (4096, 28672, 32),
        "down": (14336, 4096, 32),
    }
    for name, (k, n, count) in {**shapes, "head": (4096, 128256, 1)}.items():
        for part, shape in (("x", (1, k)), ("w", (k, n)), ("y", (1, n))):
            tensors[name + part] = Tensor(name=name + part, shape=shape, format="bf16", constant=part == "w")
        operations.append(
            Operation(
                name=name, kind="matmul", inputs=(name + "x", name + "w"), outputs=(name + "y",), count=count
            )
        )
    return Graph(name="step", tensors=tensors, operations=tuple(operations))


def test_published_joules_per_token():
    # argonne-lcf/LLM-Inference-Bench, commit 4211f5d, Fig. 16: Llama-3-8B on H100, TensorRT-LLM, batch 1:
    # 413.9 W for 7.548 ms a token. The energy figures come from another model; attention is left out here.
    device = find_device("h100-sxm")
    figure = graph_energy(device, cost(device, llama_3_8b_step()))
    assert figure.value == pytest.approx(413.9 * 7.548e-3, rel=0.2)
    assert figure.high is not None
    assert figure.high > 413.9 * 7.548e-3


def test_missing_figures_are_named():
    device = find_device("h100-sxm").model_copy(update={"op_energy_j": {}})
    assert missing_power(device, ["bf16"]) == "device 'h100-sxm' states no op_energy_j.bf16"
    with pytest.raises(ValueError, match=r"states no op_energy_j\.bf16"):
        graph_energy(device, [(OPERATION, time(1.0, 1, 1))])


def test_core_energy_by_hand():
    core = find_device("ulx3s-85f")
    clock = Figure(value=50e6, unit="Hz", how="derived", source="assumed")
    latency = core_latency(core, cycles=50_000, clock=clock, cycles_from="RTL")
    events = CoreEvents(macs=10**6, scratchpad_bytes=10**5, dram_bytes=10**4, cycles=50_000)
    figure = core_energy(core, events, latency)
    expected = 0.233 * 1e-3 + 1e6 * 12e-12 + 1e5 * 3.6e-12 + 1e4 * 480e-12 + 5e4 * 150e-12
    assert figure.value == pytest.approx(expected, rel=1e-6)
    assert figure.low is not None
    assert figure.low < expected
    assert "recalled" in figure.source


def test_events_and_devices_are_checked():
    with pytest.raises(ValueError, match="macs must be >= 0, not -1"):
        CoreEvents(macs=-1, scratchpad_bytes=0, dram_bytes=0, cycles=1)
    events = CoreEvents(macs=1, scratchpad_bytes=0, dram_bytes=0, cycles=1)
    seconds = Figure(value=1.0, unit="s", how="modelled", source="given")
    with pytest.raises(ValueError, match=r"states no op_energy_j\.mac"):
        core_energy(find_device("h100-sxm"), events, seconds)
    with pytest.raises(ValueError, match="latency must be in s, not J"):
        core_energy(find_device("ulx3s-85f"), events, seconds.model_copy(update={"unit": "J"}))


def test_padding_costs_energy():
    device = find_device("h100-sxm")
    plain, padded = time(1e-3, 10**9, 0), replace(time(1e-3, 10**9, 0), padding_flops=3 * 10**9)
    more = graph_energy(device, [(OPERATION, padded)]).value - graph_energy(device, [(OPERATION, plain)]).value
    assert more == pytest.approx(3 * 3e9 * 1.234e-12)


@pytest.mark.parametrize(
    ("name", "low", "value", "high"),
    [
        ("h100-sxm", 137.5, 141.6, 149.9),  # stated
        ("a100-40", 55 / 1.1, 55 * 1.89, 55 * 1.1 * 2.5),  # idle, read in a source, times the ratio of its class
        ("epyc-9654", 110 / 2, 110, 110 * 2),  # processors have no such ratio; idle is recalled
    ],
)
def test_the_floor_of_the_power(name, low, value, high):
    floor = floor_power(find_device(name))
    assert floor is not None
    assert (*floor.interval, floor.value) == pytest.approx((low, high, value))


@pytest.mark.parametrize(
    ("device", "model", "tp", "prompt", "generate", "step_s", "watts"),
    [
        # Mutinifni/splitwise-sim@8f99e7d, data/perf-model.csv: medians, each of tp GPUs, Hugging Face's kernels
        ("a100-80", "llama-2-70b", 2, 128, 128, 53.68e-3, 294.2),
        ("a100-80", "llama-2-70b", 4, 128, 128, 42.42e-3, 237.7),
        ("a100-80", "llama-2-70b", 8, 128, 128, 43.03e-3, 174.1),
        ("a100-80", "bloom-176b", 8, 128, 128, 47.61e-3, 254.8),
        # argonne-lcf/LLM-Inference-Bench@4211f5d, Fig. 16: TensorRT-LLM
        ("h100-sxm", "llama-2-7b", 1, 1024, 1024, 7.020e-3, 412.9),
        ("h100-sxm", "llama-3-8b", 1, 1024, 1024, 7.548e-3, 413.9),
        ("gh200", "llama-3-8b", 1, 1024, 1024, 6.024e-3, 410.0),
    ],
)
def test_published_board_power_of_a_decode(device, model, tp, prompt, generate, step_s, watts):
    """Floor, bytes and operations in the measured time; none of these rows was fitted on."""
    machine = find_device(device)
    replica = Replica(machine, find_model(model), Layout(tp=tp), find_engine("none"), Formats.parse("fp16"))
    work = replica.work(batch=1, prompt=prompt, done=generate // 2)
    floor, per_byte = floor_power(machine), machine.main_memory.energy_j_per_byte
    assert floor is not None
    assert per_byte is not None
    joules = work.bytes * per_byte.value + work.executed_flops * machine.op_energy_j["fp16"].value
    assert floor.value + joules / step_s == pytest.approx(watts, rel=0.12)
