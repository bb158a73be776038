"""Fit the kernel cost models to measured rows, score them on rows the fit has not seen, write both down.

    python benchmarks/fit_devices.py --data DIR            print the accuracy table
    python benchmarks/fit_devices.py --data DIR --write    update device files, classes and docs table too
    python benchmarks/fit_devices.py --data DIR --shared   refit what all GPUs share, and print it

DIR holds the rows described in docs/reference/kernel-cost-accuracy.md. About a minute on one core.
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

import fit_write
from fit_rows import (
    GEMM_FILES,
    TPU_PRODUCTS,
    WEIGHT_COPIES,
    Array,
    GemmRows,
    Mask,
    gemm_roofline,
    gemm_rows,
    streaming_rows,
    tpu_layers,
)
from systolith_sim.devices.device import Device
from systolith_sim.devices.gemm import CONSTANTS, Machine, Terms, TileConstants, tiled_gemm
from systolith_sim.devices.library import find_device
from systolith_sim.devices.systolic import systolic_gemm

ROWS_FITTED = 600
"""Rows of each table the fit looks at; a fixed sample keeps it under a minute."""
STEPS = (0.2, 0.05, 0.02, 0.01)
TPU_KERNEL_S = 5.5e-7
"""Shortest kernel inside an XLA program: a norm of 1 to 64 rows in the TPU v6e table, 0.5 to 0.6 us."""
Parameters = dict[str, float]


@dataclass(frozen=True)
class Scored:
    """Predictions beside measurements, none of them fitted."""

    device: str
    operator: str
    fitted_on: str
    predicted: Array
    measured: Array
    regimes: Array
    roofline: Array

    @property
    def ratio(self) -> Array:
        """Predicted over measured seconds."""
        return self.predicted / self.measured


def descend(loss: Callable[[Parameters], float], start: Mapping[str, float]) -> Parameters:
    """Coordinate descent over logarithms: a few positive parameters need no more."""
    best, value = dict(start), loss(dict(start))
    for step in STEPS:
        for _ in range(6):
            before = value
            for name in best:
                for factor in (np.exp(step), np.exp(-step)):
                    while (trial := loss({**best, name: best[name] * factor})) < value - 1e-6:
                        best, value = {**best, name: float(best[name] * factor)}, trial
            if value == before:
                break
    return best


def distance(predicted: Array, measured: Array) -> float:
    """Mean of abs(log(predicted / measured)): over and under by one factor weigh the same."""
    return float(np.mean(np.abs(np.log(predicted / measured))))


def sample(rows: GemmRows) -> GemmRows:
    """A fixed sample of the rows the fit may see."""
    allowed = np.flatnonzero(rows.fitted)
    return rows.rows(np.random.default_rng(0).choice(allowed, min(ROWS_FITTED, len(allowed)), replace=False))


def machine(device: Device, fitted: Parameters) -> Machine:
    """A machine with fitted parameters, efficiencies kept physical as ``bounded`` says."""
    peak, main = device.peak_ops_per_s["bf16"].value, device.main_memory
    cache = max(
        (memory.size_bytes.value for name, memory in device.memories.items() if name != "main"), default=0.0
    )
    return Machine(device.units.count, peak, main.bandwidth_bytes_per_s.value, cache, **bounded(fitted))


def bounded(fitted: Parameters) -> Parameters:
    """Fitted parameters with the efficiencies at most 0.98: no machine sustains more than its peak."""
    return {
        name: min(value, 0.98) if name.endswith("efficiency") else value for name, value in fitted.items()
    }


def gemm_terms(
    device: Device, fitted: Parameters, rows: GemmRows, constants: TileConstants = CONSTANTS
) -> Terms:
    """Predicted times of GEMM rows, with the weights as hot as the benchmark leaves them."""
    reuse = 2 * (WEIGHT_COPIES * rows.n * rows.k + rows.m * rows.k + rows.m * rows.n)
    return tiled_gemm(
        machine(device, fitted), m=rows.m, k=rows.k, n=rows.n, reuse_bytes=reuse, constants=constants,
        input_bytes=2, weight_bytes=2, output_bytes=2,
    )  # fmt: skip


def start_of(device: Device) -> Parameters:
    """Where the descent starts: datasheet sense, nothing from the data."""
    unit_rate = device.peak_ops_per_s["bf16"].value / device.units.count
    return {
        "launch_s": 2.4e-6, "compute_efficiency": 0.8, "memory_efficiency": 0.8,
        "feed_bytes_per_s": 0.015 * unit_rate, "k_step_s": 7e5 / unit_rate,
    }  # fmt: skip


def fit_gemm(device: Device, rows: GemmRows, constants: TileConstants = CONSTANTS) -> Parameters:
    """Five physical parameters of one GPU."""
    seen = sample(rows)
    best = descend(
        lambda trial: distance(gemm_terms(device, trial, seen, constants).total_s, seen.seconds),
        start_of(device),
    )
    return bounded(best)


def scored(device: Device, operator: str, on: str, terms: Terms, measured: Array, roofline: Array) -> Scored:
    """Predictions with the regime the model assigns, as ``kernel_time`` does."""
    launch = terms.launch_s > terms.total_s / 2
    regimes = np.where(launch, "launch", np.where(terms.memory_s > terms.compute_s, "memory", "compute"))
    return Scored(device.id, operator, on, terms.total_s, measured, regimes, roofline)


def score_gemms(data: Path) -> tuple[dict[str, Parameters], Parameters, list[Scored], list[Scored]]:
    """Fits of every GPU, its class's parameters, scores, and scores with each GPU left out of the class."""
    devices = {name: find_device(name) for name in GEMM_FILES}
    tables = {name: gemm_rows(data, name) for name in GEMM_FILES}
    fits = {name: fit_gemm(devices[name], tables[name]) for name in GEMM_FILES}
    own, left_out = [], []
    for name, device in devices.items():
        rows = tables[name].rows(~tables[name].fitted)
        roofline = gemm_roofline(device, rows)
        own.append(
            scored(device, "matmul", "itself", gemm_terms(device, fits[name], rows), rows.seconds, roofline)
        )
        others = class_parameters({other: fit for other, fit in fits.items() if other != name}, devices)
        terms = gemm_terms(device, absolute(others, device), rows)
        left_out.append(scored(device, "matmul", "the other GPUs", terms, rows.seconds, roofline))
    return fits, class_parameters(fits, devices), own, left_out


def class_parameters(fits: Mapping[str, Parameters], devices: Mapping[str, Device]) -> Parameters:
    """Geometric means, with feed and step relative to the peak of one unit."""
    rates = {name: devices[name].peak_ops_per_s["bf16"].value / devices[name].units.count for name in fits}
    relative = [
        {
            **fit,
            "feed_bytes_per_s": fit["feed_bytes_per_s"] / rates[name],
            "k_step_s": fit["k_step_s"] * rates[name],
        }
        for name, fit in fits.items()
    ]
    return {key: float(np.exp(np.mean([np.log(fit[key]) for fit in relative]))) for key in relative[0]}


def absolute(shared: Parameters, device: Device) -> Parameters:
    """A class's parameters for one device."""
    rate = device.peak_ops_per_s["bf16"].value / device.units.count
    return {
        **shared,
        "feed_bytes_per_s": shared["feed_bytes_per_s"] * rate,
        "k_step_s": shared["k_step_s"] / rate,
    }


def score_streaming(data: Path, gemm: Parameters) -> tuple[Parameters, Scored]:
    """Norms, rotary embedding, activation and addition on A100."""
    device = find_device("a100-80")
    moved, seconds, fitted = streaming_rows(data)
    peak = device.main_memory.bandwidth_bytes_per_s.value

    def terms(trial: Parameters, chosen: Mask) -> Terms:
        memory = moved[chosen] / (trial["streaming_efficiency"] * peak)
        launch = np.full_like(memory, gemm["launch_s"])
        return Terms(launch + memory, launch, np.zeros_like(memory), memory)

    fit = descend(
        lambda trial: distance(terms(trial, fitted).total_s, seconds[fitted]), {"streaming_efficiency": 0.5}
    )
    parts = terms(fit, ~fitted)
    return fit, scored(device, "streaming", "itself", parts, seconds[~fitted], moved[~fitted] / peak)


def score_tpu(data: Path) -> tuple[Parameters, Scored]:
    """Products of Llama-3.1-8B on TPU v6e, summed per layer."""
    device = find_device("tpu-v6e")
    tokens, seconds, fitted = tpu_layers(data)
    rows, cols = device.units.array_rows, device.units.array_cols
    assert rows is not None  # packaged data
    assert cols is not None
    still = {"launch_s": TPU_KERNEL_S, "feed_bytes_per_s": 1.0, "k_step_s": 0.0}

    def terms(trial: Parameters, chosen: Mask) -> Terms:
        parts = [
            systolic_gemm(
                machine(device, {**trial, **still}), rows=rows, cols=cols,
                m=tokens[chosen], k=k, n=n, input_bytes=2, weight_bytes=2, output_bytes=2,
            )
            for k, n in TPU_PRODUCTS.values()
        ]  # fmt: skip
        names = ("total_s", "launch_s", "compute_s", "memory_s")
        return Terms(*(np.sum([getattr(part, name) for part in parts], axis=0) for name in names))

    start = {"compute_efficiency": 0.8, "memory_efficiency": 0.9}
    fit = bounded(
        {"launch_s": TPU_KERNEL_S}
        | descend(lambda trial: distance(terms(trial, fitted).total_s, seconds[fitted]), start)
    )
    work = sum(2 * k * n for k, n in TPU_PRODUCTS.values())
    roofline = np.maximum(
        work * tokens / device.peak_ops_per_s["bf16"].value,
        work / device.main_memory.bandwidth_bytes_per_s.value,
    )
    return fit, scored(device, "matmul", "itself", terms(fit, ~fitted), seconds[~fitted], roofline[~fitted])


def fit_power(data: Path) -> tuple[Parameters, float]:
    """Floor, energy of a byte and of an operation from board power on H200, and the error on unseen rows."""
    rows = gemm_rows(data, "h200")
    assert rows.power_w is not None  # the file has the column
    limit = 0.993 * 700.0  # where the measured power saturates
    moved = 2 * (rows.n * rows.k + rows.m * rows.k + rows.m * rows.n) / rows.seconds
    work = 2 * rows.m * rows.k * rows.n / rows.seconds

    def power(trial: Parameters) -> Array:
        raw = trial["floor_w"] + trial["j_per_byte"] * moved + trial["j_per_op"] * work
        return np.minimum(raw, limit)

    measured = rows.power_w
    known = np.isfinite(measured)
    seen, unseen = known & rows.fitted, known & ~rows.fitted
    start = {"floor_w": 140.0, "j_per_byte": 1e-10, "j_per_op": 8e-13}
    fit = descend(lambda trial: distance(power(trial)[seen], measured[seen]), start)
    error = np.abs(power(fit)[unseen] / measured[unseen] - 1)
    return fit, float(np.median(error))


def fit_tiles(data: Path) -> TileConstants:
    """What all GPUs share in matrix products, alternating with each device's own parameters."""
    devices = {name: find_device(name) for name in GEMM_FILES}
    tables = {name: gemm_rows(data, name) for name in GEMM_FILES}
    seen = {name: sample(rows) for name, rows in tables.items()}
    shared = CONSTANTS
    for _ in range(3):
        fits = {name: fit_gemm(devices[name], tables[name], shared) for name in devices}

        def loss(trial: Parameters, fits: Mapping[str, Parameters] = fits) -> float:
            return sum(
                distance(
                    gemm_terms(devices[name], fits[name], rows, TileConstants(**trial)).total_s, rows.seconds
                )
                for name, rows in seen.items()
            )

        shared = replace(shared, **descend(loss, asdict(shared)))
    return shared


def main() -> None:
    """Fit, score, print, and with ``--write`` update the files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of measured rows")
    parser.add_argument(
        "--write", action="store_true", help="update device files, classes and the docs table"
    )
    parser.add_argument(
        "--shared", action="store_true", help="refit the constants all GPUs share, and print them"
    )
    chosen = parser.parse_args()
    if chosen.shared:
        tiles = fit_tiles(chosen.data)
        print(tiles, fit_fused(chosen.data, tiles), sep="\n")
        return
    gemms, family, own, left_out = score_gemms(chosen.data)
    attentions, attention_scores = score_attentions(chosen.data, gemms)
    streaming, streaming_score = score_streaming(chosen.data, gemms["a100-80"])
    tpu, tpu_score = score_tpu(chosen.data)
    power, power_error = fit_power(chosen.data)
    scores = [*own, *attention_scores, streaming_score, tpu_score]
    print(fit_write.table([*scores, *left_out]))
    print(f"H200 board power: {power}, median error {power_error:.1%}")
    for name, fit in {**gemms, "gpu class": family, "tpu": tpu}.items():
        print(name, {key: f"{value:.4g}" for key, value in fit.items()}, attentions.get(name, ""))
    if chosen.write:
        fit_write.write(gemms, attentions, streaming, tpu, family, scores, left_out)


if __name__ == "__main__":
    main()
