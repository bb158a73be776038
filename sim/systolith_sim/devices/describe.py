"""From measurements to a device: curves, memories, power, and the error on sizes that the curves do not hold."""

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from systolith_model.formats import Format
from systolith_sim.devices import measure, power, workloads
from systolith_sim.devices.device import (
    Curve,
    Device,
    FormatParameters,
    KernelParameters,
    Memory,
    Operator,
    Power,
    Regime,
    RegimeError,
    Units,
)
from systolith_sim.devices.figures import Datum
from systolith_sim.devices.measure import Timing
from systolith_sim.devices.starts import MeasuredLayer, with_factors

if TYPE_CHECKING:
    from systolith_sim.devices.calibrate import Measured

LOCAL = "local-cpu"
HERE, RAPL = "here", "rapl"


def describe(found: "Measured", name: str) -> Device:
    """The device file of a measured processor; its errors are the deviation of its own curves (``held_out``)."""
    known: tuple[Format, ...] = tuple(
        numbers for numbers in ("fp32", "bf16", "int8") if found.timings.get(f"launch.{numbers}")
    )
    first, many = known[0], found.threads > 1
    has_power = found.idle_w is not None
    bare = Device(
        id=name,
        name=f"This machine: {measure.processor_name()}, {found.threads} thread{'s' if many else ''}",
        kind="cpu",
        note=_note(found),
        sources={
            HERE: "measured on this machine, low quantile of repeats, CPU time of the busiest thread, "
            + measure.versions(),
            **({RAPL: "RAPL counters of packages and their memory, read while measuring"} if has_power else {}),
        },
        units=Units(name="thread", count=found.threads, source=HERE, confidence="measured"),
        peak_ops_per_s={numbers: _datum(peak(found, numbers)) for numbers in known},
        memories=_memories(found),
        eager_launch_s=_timing(found.small) if found.small else None,
        power=_power(found) if has_power else Power(),
        op_energy_j=_op_energy(found),
        kernel=KernelParameters(
            launch_s=_timing(_launch(found, first)),
            compute_efficiency=_datum(1.0),
            memory_efficiency=_datum(1.0),
            feed_bytes_per_s=_datum(found.copy_bytes_per_s / found.threads),
            k_step_s=_datum(0.0),
            formats={numbers: FormatParameters(launch_s=_timing(_launch(found, numbers))) for numbers in known},
            curves=curves(found),
        ),
        errors=held_out(found),
    )
    for numbers, timing in found.small_layer.items():
        small, large = MeasuredLayer(workloads.SMALL, workloads.SMALL_COPIES, True, timing.seconds), None
        if numbers in found.cold_layer:
            config, outside = found.cold_layer[numbers]
            large = MeasuredLayer(config, 1, False, outside.seconds)
        bare = with_factors(bare, numbers, HERE, small, large)
    return bare


def curves(found: "Measured") -> dict[str, Curve]:
    """Every curve; of a product, seconds a weight beyond its start."""
    kept: dict[str, Curve] = {}
    for name, timings in found.timings.items():
        if name.startswith("launch.") or not timings:
            continue
        at = tuple(float(size) for size in sorted(timings))
        seconds = [timings[size].seconds for size in at]
        if name in found.weights:
            start = _launch(found, _numbers(name)).seconds
            # A start that took longer than the whole was disturbed; a tenth of the whole is left at least.
            seconds = [max(whole - start, whole / 10) / prod(found.weights[name]) for whole in seconds]
        kept[name] = Curve(at=at, seconds=tuple(_rounded(one) for one in seconds), source=HERE,
                           weights=found.weights.get(name))  # fmt: skip
    return kept


def _floor(found: "Measured", name: str) -> float:
    return min(found.timings[name].items())[1].seconds


def peak(found: "Measured", numbers: Format) -> float:
    """Operations per second of the fastest product."""
    rates = [
        2 * rows * prod(found.weights[name]) / timing.seconds
        for name, timings in found.timings.items()
        if name.startswith(f"product.{numbers}.")
        for rows, timing in timings.items()
    ]
    return max(rates)


def held_out(found: "Measured") -> tuple[RegimeError, ...]:
    """Measured over predicted at every inner size of a curve, predicted from its neighbours alone.

    The curves that are written are denser than those scored, so the interval is on the wide side; rows are few,
    so the extremes are the interval.
    """
    ratios: dict[tuple[Operator, Regime], list[float]] = {}
    for name, timings in found.timings.items():
        at = sorted(timings)
        for before, here, after in zip(at, at[1:], at[2:], strict=False):
            share = np.log(here / before) / np.log(after / before)
            low, high = (np.log(timings[size].seconds) for size in (before, after))
            ratio = timings[here].seconds / float(np.exp(low + share * (high - low)))
            ratios.setdefault(_regime(found, name, here), []).append(ratio)
    return tuple(
        RegimeError(
            operator=operator, regime=regime, rows=len(found_ratios), source=HERE,
            low=_rounded(min(1.0, float(np.quantile(found_ratios, 0.05)))),
            high=_rounded(max(1.0, float(np.quantile(found_ratios, 0.95)))),
            mape=_rounded(float(np.mean([abs(1 / ratio - 1) for ratio in found_ratios]))),
        )
        for (operator, regime), found_ratios in ratios.items()
    )  # fmt: skip


def _regime(found: "Measured", name: str, size: float) -> tuple[Operator, Regime]:
    timings = found.timings[name]
    start = _floor(found, name)
    operator: Operator = "streaming"
    if name.startswith("attention"):
        operator = "attention"
    elif name in found.weights:
        operator, start = "matmul", _launch(found, _numbers(name)).seconds
    if start > timings[size].seconds / 2:
        return operator, "launch"
    if operator == "matmul":
        compute = 2 * size * prod(found.weights[name]) / peak(found, _numbers(name))
        return operator, "compute" if compute > timings[size].seconds / 2 else "memory"
    return operator, "memory" if operator == "streaming" or name.endswith("decode") else "compute"


def _numbers(name: str) -> Format:
    known: dict[str, Format] = {"fp32": "fp32", "bf16": "bf16", "int8": "int8"}
    return known[name.split(".")[1]]


def _launch(found: "Measured", numbers: Format) -> Timing:
    return next(iter(found.timings[f"launch.{numbers}"].values()))


def _note(found: "Measured") -> str:
    spreads = [timing.high_s / timing.seconds for timings in found.timings.values() for timing in timings.values()]
    energy = "" if found.idle_w is not None else " Power cannot be read here, so no energy is stated."
    return (
        f"Repeats spread by a factor {np.median(spreads):.2f} (median), load average {found.load:.1f}; "
        f"copy {found.copy_bytes_per_s / 1e9:.1f} GB/s read plus written.{energy}"
    )


def _memories(found: "Measured") -> dict[str, Memory]:
    memories: dict[str, Memory] = {}
    for name, (rate, timing) in found.bandwidth.items():
        low, best = _rounded(rate * timing.seconds / timing.high_s), _rounded(rate)
        size = measure.memory_bytes() if name == "main" else found.caches[name]
        memories[name] = Memory(
            name="main memory" if name == "main" else f"{name.upper()} cache",
            size_bytes=_datum(float(size * (found.threads if name == "l2" else 1))),
            bandwidth_bytes_per_s=Datum(value=best, low=low, high=best, source=HERE, confidence="measured"),
            energy_j_per_byte=_energy_per_byte(found) if name == "main" else None,
        )
    return memories


def _power(found: "Measured") -> Power:
    assert found.idle_w is not None  # the caller looked
    limit = power.power_limit_w()
    fields = {"idle_w": _rapl(found.idle_w)} | ({"tdp_w": _rapl(limit)} if limit else {})
    return Power(**fields)


def _op_energy(found: "Measured") -> dict[str, Datum]:
    if found.idle_w is None:
        return {}
    return {
        numbers: _rapl((watts - found.idle_w) / rate)
        for numbers, (watts, rate) in found.compute_w.items()
        if watts > found.idle_w
    }


def _energy_per_byte(found: "Measured") -> Datum | None:
    if found.idle_w is None or found.stream_w is None or found.stream_w[0] <= found.idle_w:
        return None
    return _rapl((found.stream_w[0] - found.idle_w) / found.stream_w[1])


def _rapl(value: float) -> Datum:
    """Other work on the machine counts too, hence half below and above."""
    value = _rounded(value)
    return Datum(value=value, low=value / 1.5, high=value * 1.5, source=RAPL, confidence="measured")


def _datum(value: float) -> Datum:
    return Datum(value=_rounded(value), source=HERE, confidence="measured")


def _timing(timing: Timing) -> Datum:
    low, high = _rounded(timing.seconds), _rounded(max(timing.seconds, timing.high_s))
    return Datum(value=low, low=low, high=high, source=HERE, confidence="measured")


def _rounded(value: float) -> float:
    return value if value == int(value) else float(f"{value:.4g}")

