"""A run as the main job would report it: small decoder layers, plausible figures, real device files."""

import pytest

from systolith_model.graph import Graph, Operation, Tensor
from systolith_sim.devices.figures import Figure
from systolith_sim.devices.library import find_device
from systolith_sim.devices.timeline import Span
from systolith_sim.energy.core_energy import CoreEvents
from systolith_sim.report.compare import core_result, device_result
from systolith_sim.report.results import CoreInfo, LayerResult, RunResults

SHAPES = {
    "q_proj": (64, 128, 128),
    "k_proj": (64, 128, 64),
    "gate_proj": (64, 128, 352),
    "down_proj": (64, 352, 128),
}
CLOCK = Figure(
    value=80e6, unit="Hz", how="derived", source="assumed, below the routed clock", low=50e6, high=100e6
)
DEVICES = ("xeon-8480plus", "h100-sxm", "a100-80", "tpu-v5e")


def linear_graph() -> Graph:
    """Products of one decoder layer in int8."""
    tensors: dict[str, Tensor] = {}
    operations: list[Operation] = []
    for block in range(2):
        for name, (m, k, n) in SHAPES.items():
            place = f"{block}.{name}"
            for part, shape, constant in (("x", (m, k), False), ("w", (k, n), True), ("y", (m, n), False)):
                tensors[f"{place}.{part}"] = Tensor(name=f"{place}.{part}", shape=shape, constant=constant)
            operations.append(
                Operation(
                    name=place, kind="matmul", inputs=(f"{place}.x", f"{place}.w"), outputs=(f"{place}.y",)
                )
            )
    return Graph(name="two layers", tensors=tensors, operations=tuple(operations))


def layer(name: str, m: int, k: int, n: int) -> LayerResult:
    """A layer on an 8 x 8 core at 93 % utilization."""
    cycles = round(m * k * n / 64 / 0.93)
    return LayerResult(
        name=name,
        m=m,
        k=k,
        n=n,
        cycles=cycles,
        model_cycles=cycles,
        bound_cycles=round(cycles * 0.95),
        bit_exact=True,
        utilization=m * k * n / 64 / cycles,
        busy_utilization=0.988,
        sqnr_db=38.2,
        cosine=0.99992,
        seconds=cycles / CLOCK.value,
        stalls={
            "load": {"semaphore": cycles // 5, "port_busy": cycles // 8, "reserve": cycles // 50},
            "matmul": {"semaphore": cycles // 30, "bank": cycles // 100},
            "vector": {"semaphore": cycles // 2},
            "store": {"semaphore": cycles // 2, "port_busy": cycles // 20},
        },
    )


def spans(cycles: int) -> tuple[Span, ...]:
    """Queues that take turns."""
    found, clock = [], CLOCK.value
    for step in range(40):
        start = step * cycles // 40
        for lane, track in enumerate(("load", "matmul", "vector", "store")):
            begin = (start + lane * cycles // 60) / clock
            found.append(
                Span(track=track, name=f"block {step}", start_s=begin, duration_s=cycles / 50 / clock)
            )
    return tuple(found)


@pytest.fixture(scope="session")
def results() -> RunResults:
    """Eight layers, five machines, a timeline."""
    layers = tuple(layer(f"{block}.{name}", *shape) for block in range(2) for name, shape in SHAPES.items())
    cycles = sum(one.cycles for one in layers)
    events = CoreEvents(
        macs=sum(one.macs for one in layers),
        scratchpad_bytes=40 * cycles,
        dram_bytes=3 * cycles,
        cycles=cycles,
    )
    core = core_result(find_device("ulx3s-85f"), layers, events, clock=CLOCK, cycles_from="RTL simulation")
    graph = linear_graph()
    return RunResults(
        title="Systolith run",
        model="bible-byte, 0.6 M parameters <&>",
        workload="layers 0:2, 64 tokens, int8 x int8",
        created="2026-11-22T13:00:00+00:00",
        command="systolith run --core base --layers 0:2 --tokens 64",
        versions={"systolith": "0.1.0"},
        core=CoreInfo(name="base", rows=8, cols=8, port_bytes=8, clock_hz=CLOCK, memory={"latency": 64}),
        layers=layers,
        devices=(core, *(device_result(find_device(name), graph) for name in DEVICES)),
        quality={"perplexity": Figure(value=4.31, unit="", how="measured", source="validation text, int8")},
        timeline=spans(cycles),
        notes=("The clock is assumed, not routed.",),
    )
