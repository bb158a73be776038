"""Matrix products of vLLM's libraries on A100, H100, H200 and L40S, each device by its own fit, or left out.

Inputs: ``m``, ``k``, ``n`` (counts). The benchmark walks over six copies of the weights and replays a graph, except
``fp8_block``, which launches from the host with one copy: its times never fall below ``HOST_FLOORS``, a fact of that
benchmark and none of the kernels. ``fp8`` and ``fp8_block`` quantize bf16 activations inside the measured time.
"""

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from accuracy_tables import Array, Mask, Prediction, Rows, other_files
from fitting import fit
from systolith_sim.devices.device import REGIMES, Regime, RegimeError
from systolith_sim.devices.gemm import Machine, Terms, tiled_gemm
from systolith_sim.devices.interval import errors_for, interval_factors
from systolith_sim.devices.kernel import regimes
from systolith_sim.devices.library import find_device
from systolith_sim.devices.products import GemmSizes, gpu_gemm, machine_of, weight_heat
from systolith_sim.devices.tiles import TileConstants

FILES = {
    "a100-80": "gemm_a100_sxm_vllm-0.14.0.csv",
    "h100-sxm": "gemm_h100_sxm_vllm-0.14.0.csv",
    "h200": "gemm_h200_sxm_vllm-0.22.0.csv",
    "l40s": "gemm_l40s_vllm-0.22.0.csv",
}
FORMATS = {"bfloat16": "bf16", "fp8": "fp8", "fp8_block": "fp8_block"}
COPIES = {"bf16": 6, "fp8": 6, "fp8_block": 1}
"""Copies of the weights that the benchmark walks over, so that weights are cold where they do not all fit."""
HOST_FLOORS = {
    ("h100-sxm", "fp8_block"): ((np.inf, 2.0e-5),),
    ("h200", "fp8_block"): ((17, 5.2e-5), (np.inf, 7.5e-5)),
}
"""Least seconds from launch to launch, by the largest m they hold for."""
ABOVE_HOST_S = {("h200", "fp8_block"): 8.5e-5}
"""Rows that took less say nothing of the device and are not scored."""
OUTLIERS = {("h100-sxm", "bf16"): ((8192, 4096, 12288),)}
"""(m, k, n) measured at several times any neighbour, as the origin of the rows notes."""
FIT_SHARE = 7
"""Tenths of the sites (n, k) that fits and intervals look at; the rest is never used."""
LEFT_OUT = Path(__file__).with_name("gemm_left_out.json")
"""Constants and parameters without each device, written by fit_gemm.py."""


def tenth(rows: Rows) -> Array:
    """Which tenth of all sites (n, k) a row belongs to, the same on every device and in every format."""
    n, k = (np.asarray(rows.inputs[name], float) for name in "nk")
    return ((n * 7919 + k * 104729) % 1000003) % 10


def part(rows: Rows, chosen: Mask | NDArray[np.intp]) -> Rows:
    """The rows that a mask or an index chooses."""
    inputs = {name: item[chosen] for name, item in rows.inputs.items()}
    return replace(rows, inputs=inputs, measured=rows.measured[chosen])


def format_of(rows: Rows) -> str:
    """bf16, fp8 or fp8_block."""
    return rows.operation.split()[1]


def as_fitted(rows: Rows) -> bool:
    """Whether the rows are of the library that fits read, and its benchmark's facts hold."""
    return len(rows.operation.split()) == 2


def gemm_rows(data: Path, device: str) -> Iterable[Rows]:
    """Rows of one GPU by format, median of double keys, without outliers and rows that only show the host."""
    path = data / "aiconfigurator" / FILES[device]
    if path.exists():
        yield from _read(path, device)


def _read(path: Path, device: str, version: str = "") -> Iterable[Rows]:
    """Rows of a file by the formats that are known and that the device has."""
    times: dict[str, dict[tuple[int, int, int], list[float]]] = {}
    with path.open() as file:
        for row in csv.DictReader(file):
            key = (int(row["m"]), int(row["k"]), int(row["n"]))
            times.setdefault(row["gemm_dtype"], {}).setdefault(key, []).append(float(row["latency"]) * 1e-3)
    for dtype, table in times.items():
        name = FORMATS.get(dtype)
        if name is None or name.partition("_")[0] not in find_device(device).peak_ops_per_s:
            continue
        kept = {key: np.median(group) for key, group in table.items() if key not in OUTLIERS.get((device, name), ())}
        m, k, n = np.array(list(kept), float).T
        operation = f"matmul {name} {version}".strip()
        rows = Rows(device, operation, {"m": m, "k": k, "n": n}, np.array(list(kept.values())))
        least_s = ABOVE_HOST_S.get((device, name), 0.0) if as_fitted(rows) else 0.0
        yield part(rows, rows.measured > least_s)


def sizes_of(rows: Rows) -> GemmSizes:
    """Sizes, bytes and heat of the weights, as ``gpu_gemm`` takes them."""
    name = format_of(rows)
    element = 2 if name == "bf16" else 1
    m, k, n = (np.asarray(rows.inputs[key], float) for key in "mkn")
    reuse = element * (COPIES[name] * n * k + m * k) + 2 * m * n
    return {
        "m": m, "k": k, "n": n, "input_bytes": element, "weight_bytes": element, "output_bytes": 2,
        "reuse_bytes": reuse,
    }  # fmt: skip


def heat_of(rows: Rows) -> NDArray[np.str_]:
    """Whether the weights of each row are hot or cold in the last cache."""
    return weight_heat(find_device(rows.device), sizes_of(rows).get("reuse_bytes"))


def in_blocks(rows: Rows, size: int = 300) -> Iterable[Rows]:
    """The same rows, few at a time: candidates times rows fit the caches."""
    return (part(rows, np.arange(start, min(start + size, len(rows)))) for start in range(0, len(rows), size))


def joined(parts: list[Terms]) -> Terms:
    """Terms of consecutive rows."""
    names = ("total_s", "launch_s", "compute_s", "memory_s")
    return Terms(*(np.concatenate([getattr(item, name) for item in parts]) for name in names))


def with_host(rows: Rows, total: Array) -> Array:
    """Seconds no less than the benchmark's launches from the host."""
    floor, m = np.zeros_like(total), np.asarray(rows.inputs["m"], float)
    if not as_fitted(rows):
        return total
    for largest, seconds in reversed(HOST_FLOORS.get((rows.device, format_of(rows)), ())):
        floor = np.where(m <= largest, seconds, floor)
    return np.maximum(total, floor)


def roofline(rows: Rows) -> tuple[Array, Array]:
    """Seconds of the operations at the peak, and of the bytes at the bandwidth."""
    device, name = find_device(rows.device), format_of(rows)
    s = sizes_of(rows)
    m, k, n = (np.asarray(s[key], float) for key in ("m", "k", "n"))
    moved = s["input_bytes"] * m * k + s["weight_bytes"] * n * k + 2 * m * n
    peak = device.peak_ops_per_s["bf16" if name == "bf16" else "fp8"].value
    return 2 * m * n * k / peak, moved / device.main_memory.bandwidth_bytes_per_s.value


def three_constants(rows: Rows, used: Mask) -> Array:
    """Launch plus a roofline with two efficiencies, the three fitted on the rows used."""
    work, moved = roofline(rows)

    def seconds(trial: Mapping[str, float], chosen: Mask) -> Array:
        return trial["launch"] + np.maximum(work[chosen] / trial["compute"], moved[chosen] / trial["memory"])

    found = {"launch": 3e-6, "compute": 0.7, "memory": 0.7}
    if used.any():
        parts = {"rows": lambda trial: np.log(seconds(trial, used) / rows.measured[used])}
        found = fit(parts, found, {}, rounds=30)
    return seconds(found, np.ones(len(rows), bool))


CASES: tuple[tuple[Regime, str], ...] = tuple((word, case) for word in REGIMES for case in ("hot", "cold"))
Factors = Mapping[tuple[str, str], tuple[float, float]]
"""Low and high by regime and case."""


def _prediction(rows: Rows, terms: Terms, factors: Factors, used: Mask) -> Prediction:
    regime, total = regimes(terms), with_host(rows, terms.total_s)
    pairs = zip(regime, heat_of(rows), strict=True)
    low, high = np.array([factors[str(word), str(case)] for word, case in pairs]).T
    rivals = {"roofline": np.maximum(*roofline(rows)), "three constants": three_constants(rows, used)}
    return Prediction(total, total * low, total * high, regime, rivals)


@dataclass(frozen=True)
class GemmTable:
    """Kernel times of ai-dynamo/aiconfigurator, each device with the parameters of its own file."""

    name: str = "matmul"
    origin: str = "github.com/ai-dynamo/aiconfigurator, commit 095f58a (Apache-2.0), gemm tables of four systems"
    schema: str = "aiconfigurator/gemm_*.csv: gemm_dtype, m, n, k, latency (ms)"
    rule: str = "by site (n, k): three tenths of the sites are never used, at any m, on any device; nor any other file"
    unit: str = "s"

    def rows(self, data: Path) -> Iterable[Rows]:
        """Each device and format, then those of other files."""
        for device in FILES:
            yield from gemm_rows(data, device)
        for device, version, path in other_files(data, "gemm", FILES.values()):
            yield from _read(path, device, version)

    def used(self, rows: Rows) -> Mask:
        """Sites that fits and intervals look at, of the files that they read."""
        return (tenth(rows) < FIT_SHARE) & as_fitted(rows)

    def predict(self, rows: Rows) -> Prediction:
        """With the device's fitted parameters."""
        device, name = find_device(rows.device), format_of(rows)
        numbers = "bf16" if name == "bf16" else "fp8"
        terms = joined([gpu_gemm(device, numbers, name, **sizes_of(block)) for block in in_blocks(rows)])
        factors = {(word, case): interval_factors(device, "matmul", word, name, case)[:2] for word, case in CASES}
        return _prediction(rows, terms, factors, self.used(rows))


class LeftOut(TypedDict):
    """What the other devices say of one."""

    machine: dict[str, float]
    constants: dict[str, float]
    errors: list[dict[str, object]]
    """As ``RegimeError``."""


@cache
def left_out() -> Mapping[str, LeftOut]:
    """By device, what the others say of it."""
    return json.loads(LEFT_OUT.read_text("utf-8"))


def left_out_terms(rows: Rows, machine: Mapping[str, float], constants: Mapping[str, float]) -> Terms:
    """Terms with the parameters of a class and constants of kernels, neither fitted on the device."""
    known = machine_of(find_device(rows.device), "bf16")
    own: Machine = replace(known, split_least=0.0, split_least_depth=0.0, **machine)
    tiles = TileConstants(**constants)
    return joined([tiled_gemm(own, constants=tiles, **sizes_of(block)) for block in in_blocks(rows)])


@dataclass(frozen=True)
class LeftOutTable:
    """The same rows in bf16, each device predicted from its datasheet and from the other devices."""

    name: str = "matmul, device left out"
    origin: str = GemmTable.origin
    schema: str = GemmTable.schema
    rule: str = "by device: the class rule, its constants and its intervals never saw the device"
    unit: str = "s"

    def rows(self, data: Path) -> Iterable[Rows]:
        """bf16 of each device."""
        return (rows for rows in GemmTable().rows(data) if rows.operation == "matmul bf16" and rows.device in FILES)

    def used(self, rows: Rows) -> Mask:
        """None."""
        return np.zeros(len(rows), bool)

    def predict(self, rows: Rows) -> Prediction:
        """With what the other devices say of this one."""
        own = left_out()[rows.device]
        terms = left_out_terms(rows, own["machine"], own["constants"])
        errors = [RegimeError.model_validate(error) for error in own["errors"]]
        chosen = {(word, case): errors_for(errors, word, case) for word, case in CASES}
        factors = {
            key: (min(error.low for error in found), max(error.high for error in found))
            for key, found in chosen.items()
        }
        return _prediction(rows, terms, factors, GemmTable().used(rows))


TABLES = (GemmTable(), LeftOutTable())
