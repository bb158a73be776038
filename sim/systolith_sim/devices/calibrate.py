"""Calibrate: measure the machine this runs on and describe it as a device file."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from systolith_model.graph import Format
from systolith_sim.devices import measure
from systolith_sim.devices.blas import Level, blas_gemm
from systolith_sim.devices.device import (
    Device,
    FormatParameters,
    KernelParameters,
    Memory,
    Power,
    Regime,
    RegimeError,
    Units,
)
from systolith_sim.devices.figures import Datum
from systolith_sim.devices.gemm import Machine, Terms
from systolith_sim.devices.library import find_device, user_folder, write_device
from systolith_sim.devices.measure import FORMATS, Product, Timing

HERE, POWER, FIT = "here", "power", "fit"
LOCAL = "local-cpu"
SERVER = "xeon-8480plus"
"""Whose power per core stands for a local core's, where nothing can be read."""
FITTED_SIZES = (
    (1, 256, 256),
    (1, 1024, 1024),
    (32, 64, 64),
    (32, 256, 1024),
    (128, 512, 512),
    (512, 1024, 1024),
)
SCORED_SIZES = ((1, 512, 256), (20, 192, 576), (64, 256, 256), (96, 1024, 384), (256, 768, 768))
PEAK_SIZE = (1024, 1024, 1024)
QUICK_S, THOROUGH_S = 0.12, 0.6
"""Seconds a measurement repeats."""


@dataclass(frozen=True)
class _Measured:
    threads: int
    fitted: list[Product]
    scored: list[Product]
    levels: dict[str, tuple[int, float, Timing]]
    copy_bytes_per_s: float
    small: Timing


def calibrate(
    *, threads: int | None = None, quick: bool = True, step: Callable[[str, int], None] | None = None
) -> Device:
    """Measure this machine's CPU with torch, as one device with ``threads`` cores.

    Quick mode takes 10 seconds on an idle machine. Other work makes it look slower; the file says how much.

    Parameters
    ----------
    threads : int, optional
        Threads of torch; without it, as many as torch uses by default.
    step : callable, optional
        Called with what is measured next and the number of measurements in all.

    Raises
    ------
    ValueError
        If ``threads`` is below 1 or above the machine's processors.
    """
    import torch

    most = os.cpu_count() or 1
    count = min(torch.get_num_threads(), most) if threads is None else threads
    if not 1 <= count <= most:
        raise ValueError(f"threads must be 1 .. {most} on this machine, not {count}")
    with measure.torch_threads(count):
        measured = _measure(count, QUICK_S if quick else THOROUGH_S, step or (lambda *_: None))
    return _describe(measured)


def calibrate_with_progress(*, threads: int | None = None, quick: bool = True) -> Device:
    """``calibrate`` with a progress bar on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("calibrate"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)

        def step(what: str, total: int) -> None:
            progress.update(task, description=what, total=total, advance=1)

        return calibrate(threads=threads, quick=quick, step=step)


def save(device: Device, path: Path | None = None) -> Path:
    """Write a calibrated device to ``path``, else where ``find_device`` looks; returns the path."""
    chosen = user_folder() / f"{device.id}.toml" if path is None else path
    write_device(device, chosen)
    return chosen


def _measure(threads: int, budget_s: float, step: Callable[[str, int], None]) -> _Measured:
    caches = {f"l{level}": size for level in (2, 3) if (size := measure.cache_bytes(level))}
    main = 2 * max(caches.values(), default=2**26)
    total = len(FORMATS) * (len(FITTED_SIZES) + len(SCORED_SIZES) + 1) + len(caches) + 3

    def sizes(shapes: Sequence[tuple[int, int, int]]) -> list[tuple[Format, int, int, int]]:
        return [(numbers, *shape) for numbers in FORMATS for shape in shapes]

    fitted = measure.products(sizes((PEAK_SIZE, *FITTED_SIZES)), budget_s, lambda: step("products", total))
    scored = measure.products(sizes(SCORED_SIZES), budget_s, lambda: step("products, to score", total))
    levels: dict[str, tuple[int, float, Timing]] = {}
    for name, size in {**caches, "main": main}.items():
        # A virtual machine shares the last cache with strangers: half of it may not be there to measure.
        working = size if name == "main" else min(size // 2, 4 * caches.get("l2", size))
        levels[name] = (size, *measure.read_bandwidth(min(working, 2**29), budget_s))
        step(f"bandwidth of {name}", total)
    copied, _ = measure.copy_bandwidth(min(main, 2**28), budget_s)
    step("copy", total)
    small = measure.small_operation_s(budget_s)
    step("small operation", total)
    return _Measured(threads, fitted, scored, levels, copied, small)


def _describe(measured: _Measured) -> Device:
    known: dict[Format, dict[str, float]] = {}
    for numbers in FORMATS:
        if (fit := _fit(measured, numbers)) is not None:
            known[numbers] = fit
    first = next(iter(known.values()))
    server = find_device(SERVER)
    one = measured.threads == 1
    return Device(
        id=LOCAL if not one else f"{LOCAL}-1t",
        name=f"This machine: {measure.processor_name()}, {measured.threads} thread{'' if one else 's'}",
        kind="cpu",
        note=_note(measured),
        sources={
            HERE: f"measured on this machine, best of repeats, {_versions()}",
            FIT: "least deviation of the CPU model from products measured on this machine",
            POWER: f"share by cores of {server.name}; the power of this machine was not measured",
        },
        units=Units(name="thread", count=measured.threads, source=HERE, confidence="measured"),
        peak_ops_per_s={numbers: _datum(fit["peak_ops_per_s"]) for numbers, fit in known.items()},
        memories=_memories(measured, server),
        eager_launch_s=_timing(measured.small),
        power=_power(server, measured.threads),
        op_energy_j={name: _derived(datum) for name, datum in server.op_energy_j.items() if name in known},
        kernel=KernelParameters(
            launch_s=_datum(first["launch_s"]),
            compute_efficiency=_datum(1.0),
            memory_efficiency=_datum(1.0),
            feed_bytes_per_s=_datum(first["feed_bytes_per_s"]),
            k_step_s=_datum(0.0),
            formats={
                numbers: FormatParameters(
                    launch_s=_datum(fit["launch_s"]), feed_bytes_per_s=_datum(fit["feed_bytes_per_s"])
                )
                for numbers, fit in known.items()
            },
        ),
        errors=_errors(measured, known),
    )


def _note(measured: _Measured) -> str:
    spreads = [product.timing.high_s / product.timing.seconds for product in measured.fitted]
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return (
        f"Repeats spread by a factor {np.median(spreads):.2f} (median over shapes), load average {load:.1f}; "
        f"copy {measured.copy_bytes_per_s / 1e9:.1f} GB/s read plus written. Energy is a server's, by cores."
    )


def _memories(measured: _Measured, server: Device) -> dict[str, Memory]:
    byte = server.main_memory.energy_j_per_byte
    memories: dict[str, Memory] = {}
    for name, (size, rate, timing) in measured.levels.items():
        low, best = _rounded(rate * timing.seconds / timing.high_s), _rounded(rate)
        capacity = (
            measure.memory_bytes() if name == "main" else size * (measured.threads if name == "l2" else 1)
        )
        memories[name] = Memory(
            name="main memory" if name == "main" else f"{name.upper()} cache",
            size_bytes=_datum(float(capacity)),
            bandwidth_bytes_per_s=Datum(value=best, low=low, high=best, source=HERE, confidence="measured"),
            energy_j_per_byte=None if name != "main" or byte is None else _derived(byte),
        )
    return memories


def _power(server: Device, threads: int) -> Power:
    share = threads / server.units.count

    def part(datum: Datum | None) -> Datum | None:
        return None if datum is None else _derived(datum, share)

    return Power(tdp_w=part(server.power.tdp_w), idle_w=part(server.power.idle_w))


def _derived(datum: Datum, factor: float = 1.0) -> Datum:
    low, high = datum.interval
    low, value, high = (_rounded(end * factor) for end in (low / 1.5, datum.value, high * 1.5))
    return Datum(value=value, low=low, high=high, source=POWER, confidence="derived")


def _datum(value: float) -> Datum:
    source = HERE if value else FIT
    return Datum(value=_rounded(value), source=source, confidence="measured")


def _timing(timing: Timing) -> Datum:
    low, high = _rounded(timing.seconds), _rounded(timing.high_s)
    return Datum(value=low, low=low, high=high, source=HERE, confidence="measured")


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _levels(measured: _Measured) -> list[Level]:
    sizes = {
        name: float(size * (measured.threads if name == "l2" else 1))
        for name, (size, *_) in measured.levels.items()
    }
    return sorted((sizes[name], rate) for name, (_, rate, _) in measured.levels.items())


def _predict(products: list[Product], measured: _Measured, fit: dict[str, float]) -> Terms:
    width = {"fp32": 4.0, "bf16": 2.0, "int8": 1.0}[products[0].format]
    machine = Machine(
        measured.threads,
        fit["peak_ops_per_s"],
        0.0,
        0.0,
        fit["launch_s"],
        1.0,
        1.0,
        fit["feed_bytes_per_s"],
        0.0,
    )
    m, k, n = (np.array([getattr(product, name) for product in products], float) for name in ("m", "k", "n"))
    return blas_gemm(
        machine, _levels(measured), m=m, k=k, n=n, input_bytes=width, weight_bytes=width,
        output_bytes=4.0 if products[0].format == "int8" else width, reuse_bytes=width * k * n,
    )  # fmt: skip


def _fit(measured: _Measured, numbers: Format) -> dict[str, float] | None:
    """Launch, peak and packing rate of one format, by coordinate descent over logarithms."""
    seen = [product for product in measured.fitted if product.format == numbers]
    if not seen:
        return None
    truth = np.array([product.timing.seconds for product in seen])
    peak = max(product.flops / product.timing.seconds for product in seen)
    best = {"launch_s": 0.9 * min(truth), "peak_ops_per_s": 1.1 * peak, "feed_bytes_per_s": 1e10}
    bounds = {
        "launch_s": (1e-7, min(truth)),
        "peak_ops_per_s": (peak, 1.5 * peak),
        "feed_bytes_per_s": (1e8, 1e12),
    }

    def loss(trial: dict[str, float]) -> float:
        if any(not low <= trial[name] <= high for name, (low, high) in bounds.items()):
            return float("inf")
        return float(np.mean(np.abs(np.log(_predict(seen, measured, trial).total_s / truth))))

    value = loss(best)
    for width in (0.5, 0.2, 0.05, 0.02):
        for _ in range(8):
            for name in bounds:
                for factor in (np.exp(width), np.exp(-width)):
                    trial = {**best, name: float(best[name] * factor)}
                    if (new := loss(trial)) < value:
                        best, value = trial, new
    return best


def _errors(measured: _Measured, fits: dict[Format, dict[str, float]]) -> tuple[RegimeError, ...]:
    """Measured over predicted on the shapes kept for scoring; few rows, so the extremes are the interval."""
    found: dict[Regime, list[float]] = {}
    for numbers, fit in fits.items():
        unseen = [product for product in measured.scored if product.format == numbers]
        if not unseen:
            continue
        terms = _predict(unseen, measured, fit)
        for index, product in enumerate(unseen):
            launch, total = float(terms.launch_s[index]), float(terms.total_s[index])
            memory = bool(terms.memory_s[index] > terms.compute_s[index])
            regime: Regime = "launch" if launch > total / 2 else "memory" if memory else "compute"
            found.setdefault(regime, []).append(product.timing.seconds / total)
    return tuple(
        RegimeError(
            operator="matmul", regime=regime, rows=len(ratios), source=HERE,
            low=_rounded(min(1.0, *ratios)), high=_rounded(max(1.0, *ratios)),
            mape=_rounded(float(np.mean([abs(1 / ratio - 1) for ratio in ratios]))),
        )
        for regime, ratios in found.items()
    )  # fmt: skip


def _versions() -> str:
    import platform

    import torch

    return f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}"
