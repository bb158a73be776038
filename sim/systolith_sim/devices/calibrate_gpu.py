"""Calibrate a GPU that torch sees: peak rates, memory, starts; the rest of its kernel parameters from its class."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from systolith_model.formats import Format
from systolith_sim.devices import measure, workloads
from systolith_sim.devices.classes import class_of
from systolith_sim.devices.device import Device, KernelParameters, Memory, Power, Units
from systolith_sim.devices.figures import Datum
from systolith_sim.devices.measure import Action, Clock, Timing

LOCAL_GPU = "local-gpu"
FORMATS: tuple[Format, ...] = ("fp32", "bf16", "fp16", "int8")
SIDE = 8192
"""Rows, depth and columns of the product that gives the peak."""
COPY_BYTES = 2**30
POWER_S, POWER_CALLS = 3.0, 20
"""Seconds under load whose second half is read, and calls between two readings."""
HERE, FAMILY = "here", "class"


@dataclass(frozen=True)
class Facts:
    """What the driver says of a GPU, and how to wait for it."""

    name: str
    units: int
    memory_bytes: int
    cache_bytes: int
    on: str
    """Torch's name of it."""
    clock: Clock
    power_w: Callable[[], float] | None = None
    """Board power now, where the driver tells (NVML)."""


def gpu_facts() -> Facts | None:
    """The first GPU of CUDA, None where there is none."""
    import torch

    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(0)
    clock = measure.gpu_clock(torch.cuda.synchronize)
    facts = Facts(properties.name, properties.multi_processor_count, properties.total_memory,
                  int(getattr(properties, "L2_cache_size", 0)), "cuda", clock)  # fmt: skip
    try:
        torch.cuda.power_draw(0)
    except Exception:  # NVML's own errors share no base that could be named without its bindings
        return facts
    return replace(facts, power_w=lambda: torch.cuda.power_draw(0) / 1e3)


def calibrate_gpu(facts: Facts, *, seconds: float = 10.0, step: Callable[[str, int], None] | None = None) -> Device:
    """Measure a GPU for about ``seconds``.

    Parameters
    ----------
    step : callable, optional
        Called with what was measured and the number of measurements in all.
    """
    import torch

    told, total = step or (lambda *_: None), len(FORMATS) + 4
    budget, peaks, loads = seconds / total, dict[Format, float](), dict[Format, float]()
    idle_w = facts.power_w() if facts.power_w else None
    with torch.inference_mode():
        one = torch.ones(1, device=facts.on)
        floor_w = _power_under(_replayed(lambda: one + one, facts), facts) if facts.power_w else None
        told("floor", total)
        for numbers in FORMATS:
            if (action := _product(numbers, facts)) is not None:
                timing = measure.repeat(action, facts.clock, budget)
                peaks[numbers] = 2 * SIDE**3 / timing.seconds
                if facts.power_w:
                    loads[numbers] = _power_under(action, facts)
            told(f"product {numbers}", total)
        source = torch.randn(COPY_BYTES // 4, device=facts.on)
        target = torch.empty_like(source)
        copy = measure.repeat(lambda: target.copy_(source), facts.clock, budget)
        stream_w = _power_under(lambda: target.copy_(source), facts) if facts.power_w else None
        told("copy", total)
        eager = measure.repeat(lambda: one + one, facts.clock, budget)
        told("small operation", total)
        weights = workloads.filled("bf16", SMALL, SMALL, on=facts.on)
        small = _replayed(lambda: weights @ weights, facts)
        started_s = measure.repeat(small, facts.clock, budget).seconds / REPLAYED
        told("replayed product", total)
    power = _Power(idle_w, floor_w, loads, stream_w)
    return _describe(facts, peaks, 2 * COPY_BYTES / copy.seconds, eager, started_s, power)


@dataclass(frozen=True)
class _Power:
    idle_w: float | None
    floor_w: float | None
    """While kernels start one after the other and do nothing."""
    compute_w: dict[Format, float]
    stream_w: float | None


def _product(numbers: Format, facts: Facts) -> Action | None:
    """A product of real numbers: equal ones draw less power, and the limit of the board would not be felt."""
    import torch

    weights = workloads.filled(numbers, SIDE, SIDE, on=facts.on)
    if weights.is_floating_point():
        weights.normal_()
    else:
        torch.randint(-127, 128, weights.shape, out=weights)
    return workloads.product(numbers, SIDE, [weights], x=weights)


def _power_under(action: Action, facts: Facts) -> float:
    """Board power while an action runs again and again: NVML reports the mean of up to a second before."""
    assert facts.power_w is not None  # the caller looked
    seen: list[float] = []
    end = time.perf_counter() + POWER_S
    while not seen or time.perf_counter() < end:
        facts.clock(action, POWER_CALLS)
        seen.append(facts.power_w())
    return sorted(seen[len(seen) // 2 :])[len(seen) // 4]


REPLAYED = 20
SMALL = 64
"""Rows, depth and columns of the product that is nearly all start."""


def _replayed(action: Action, facts: Facts) -> Action:
    """``REPLAYED`` small kernels replayed without the host; called one by one where it is no GPU."""
    import torch

    def chain() -> None:
        for _ in range(REPLAYED):
            action()

    if facts.on != "cuda":
        return chain
    graph = torch.cuda.CUDAGraph()
    chain()
    with torch.cuda.graph(graph):
        chain()
    return graph.replay


def _describe(
    facts: Facts, peaks: dict[Format, float], bytes_per_s: float, eager: Timing, started_s: float, power: _Power
) -> Device:
    cache = facts.cache_bytes
    least = _datum(bytes_per_s, high=8 * bytes_per_s, note="at least the main memory's")
    l2 = Memory(name="L2 cache", size_bytes=_datum(float(cache)), bandwidth_bytes_per_s=least)
    bare = Device(
        id=LOCAL_GPU,
        name=f"This machine: {facts.name}",
        kind="gpu",
        note="Peaks and bandwidth are measured rates, not a datasheet's; feed and step come from the GPU class.",
        sources={
            HERE: f"measured on this machine, low quantile of repeats, {measure.versions()}",
            FAMILY: "kernel parameters of the GPU class, scaled to the measured peak",
        },
        units=Units(name="SM", count=facts.units, source=HERE, confidence="measured"),
        peak_ops_per_s={numbers: _datum(rate) for numbers, rate in peaks.items()},
        memories={
            **({"l2": l2} if cache else {}),
            "main": Memory(
                name="device memory",
                size_bytes=_datum(float(facts.memory_bytes)),
                bandwidth_bytes_per_s=_datum(bytes_per_s),
                energy_j_per_byte=_above(power.stream_w, power.floor_w, bytes_per_s),
            ),
        },
        eager_launch_s=_datum(eager.seconds),
        power=_measured_power(power),
        op_energy_j={numbers: datum for numbers, watts in power.compute_w.items()
                     if (datum := _above(watts, power.floor_w, peaks[numbers])) is not None},
    )  # fmt: skip
    return bare.model_copy(update={"kernel": _kernel(bare, started_s)})


def _measured_power(power: _Power) -> Power:
    """Bytes and operations are what is drawn above the floor."""
    if power.idle_w is None or power.floor_w is None:
        return Power()
    floor = _datum(max(power.idle_w, power.floor_w), note="while small kernels start one after the other")
    return Power(idle_w=_datum(power.idle_w), active_w=floor)


def _kernel(bare: Device, launch_s: float) -> KernelParameters:
    """The class's parameters; a measured peak and bandwidth are sustained ones."""
    family = _named(class_of("gpu").parameters(bare).model_dump(exclude_defaults=True))
    shares = ("compute_efficiency", "memory_efficiency", "streaming_efficiency")
    own = {"launch_s": launch_s} | dict.fromkeys(shares, 1.0)
    measured = {name: _datum(value).model_dump(exclude_defaults=True) for name, value in own.items()}
    return KernelParameters.model_validate(family | measured)


def _named(item: Any) -> Any:
    """A dumped model whose figures name the class as their source."""
    if not isinstance(item, dict):
        return item
    return {key: FAMILY if key == "source" else _named(value) for key, value in item.items()}


def _above(watts: float | None, floor_w: float | None, rate: float) -> Datum | None:
    """Joules of one operation or byte above the floor; None where nothing could be read."""
    if watts is None or floor_w is None or watts <= floor_w:
        return None
    value = (watts - floor_w) / rate
    return _datum(value, low=value / 1.5, high=value * 1.5, note="board power above its floor, by NVML")


def _datum(value: float, *, low: float | None = None, high: float | None = None, note: str = "") -> Datum:
    whole = Datum(value=_rounded(value), source=HERE, confidence="measured")
    ends = {"low": low, "high": high}
    given: dict[str, object] = {name: _rounded(end) for name, end in ends.items() if end is not None}
    return Datum.model_validate(whole.model_dump(exclude_defaults=True) | given | ({"note": note} if note else {}))


def _rounded(value: float) -> float:
    return value if value == int(value) else float(f"{value:.4g}")
