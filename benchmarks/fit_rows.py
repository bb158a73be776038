"""Measured rows of public repositories, as arrays; docs/reference/kernel-cost-accuracy.md names origins.

The data itself is not part of this repository. Each reader expects the folder layout given there.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from systolith_sim.devices.device import Device

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
GEMM_FILES = {
    "a100-80": "gemm_a100_sxm_vllm-0.14.0.csv",
    "h100-sxm": "gemm_h100_sxm_vllm-0.14.0.csv",
    "h200": "gemm_h200_sxm_vllm-0.22.0.csv",
    "l40s": "gemm_l40s_vllm-0.22.0.csv",
}
WEIGHT_COPIES = 6
"""The GEMM benchmark walks over six copies of the weights, so that they are cold where six do not fit."""


@dataclass(frozen=True)
class GemmRows:
    """Products (m, k) by (k, n) in bf16: sizes, seconds, and which rows the fit may see."""

    m: Array
    k: Array
    n: Array
    seconds: Array
    fitted: Mask
    power_w: Array | None = None

    def rows(self, chosen: Mask | NDArray[np.intp]) -> "GemmRows":
        """The rows that a mask or an index chooses."""
        power = None if self.power_w is None else self.power_w[chosen]
        m, k, n, seconds = (part[chosen] for part in (self.m, self.k, self.n, self.seconds))
        return GemmRows(m, k, n, seconds, self.fitted[chosen], power)


def gemm_rows(data: Path, device: str) -> GemmRows:
    """Matmul rows of one GPU, median of double keys; the split is by site (n, k), never by row."""
    with (data / "aiconfigurator" / GEMM_FILES[device]).open() as file:
        rows = [row for row in csv.DictReader(file) if row["gemm_dtype"] == "bfloat16"]
    times: dict[tuple[int, int, int], list[tuple[float, float]]] = {}
    for row in rows:
        key = (int(row["m"]), int(row["k"]), int(row["n"]))
        times.setdefault(key, []).append((float(row["latency"]) * 1e-3, float(row.get("power") or "nan")))
    sizes = np.array(list(times), float)
    values = np.array([np.median(np.array(group), axis=0) for group in times.values()])
    m, k, n = sizes.T
    fitted = ((n * 7919 + k * 104729) % 1000003) % 2 == 0
    return GemmRows(m, k, n, values[:, 0], fitted, values[:, 1])


TPU_PRODUCTS = {
    "q_proj": (4096, 6144), "o_proj": (4096, 4096), "gate_proj": (4096, 14336),
    "up_proj": (4096, 14336), "down_proj": (14336, 4096),
}  # fmt: skip
"""(k, n) of Llama-3.1-8B; the file's q_proj holds queries, keys and values."""


def tpu_layers(data: Path) -> tuple[Array, Array, Mask]:
    """Seconds of the five products of a layer on TPU v6e, summed since XLA fuses across them.

    Returns
    -------
    tokens, seconds, fitted
        Only token counts at which the file holds all five; even hundreds are fitted.
    """
    path = data / "llmservingsim" / "layers_TPU-v6e-1_Llama-3.1-8B_tp1.csv"
    times: dict[int, dict[str, float]] = {}
    with path.open() as file:
        for row in csv.DictReader(file):
            times.setdefault(int(row["input"]), {})[row["layer_name"]] = float(row["latency(ns)"]) * 1e-9
    whole = {count: row for count, row in times.items() if all(name in row for name in TPU_PRODUCTS)}
    tokens = np.array(sorted(whole), float)
    seconds = np.array([sum(whole[int(count)][name] for name in TPU_PRODUCTS) for count in tokens])
    return tokens, seconds, (tokens // 100) % 2 == 0


def gemm_roofline(device: Device, rows: GemmRows) -> Array:
    """Larger of operations over peak and bytes over bandwidth: what a bare roofline says."""
    moved = 2 * (rows.n * rows.k + rows.m * rows.k + rows.m * rows.n)
    work = 2 * rows.m * rows.k * rows.n
    return np.maximum(
        work / device.peak_ops_per_s["bf16"].value, moved / device.main_memory.bandwidth_bytes_per_s.value
    )
