"""The five products of a layer of Llama-3.1-8B on one TPU v6e, summed: the compiler fuses across them.

Inputs: ``tokens`` (counts).
"""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from accuracy_tables import Array, Mask, Prediction, Rows
from accuracy_tables.costed import bare_roofline, costed
from systolith_sim.devices.gemm import Terms
from systolith_sim.devices.library import find_device
from systolith_sim.devices.products import machine_of
from systolith_sim.devices.systolic import systolic_gemm

DEVICE = "tpu-v6e"
FILE = Path("llmservingsim") / "layers_TPU-v6e-1_Llama-3.1-8B_tp1.csv"
PRODUCTS = {
    "q_proj": (4096, 6144), "o_proj": (4096, 4096), "gate_proj": (4096, 14336),
    "up_proj": (4096, 14336), "down_proj": (14336, 4096),
}  # fmt: skip
"""(k, n) of Llama-3.1-8B; the file's q_proj holds queries, keys and values."""


def layer_terms(tokens: Array, own: Mapping[str, float]) -> Terms:
    """Terms of a layer's products, with parameters in place of those of the device's file."""
    device = find_device(DEVICE)
    rows, cols = device.units.array_rows, device.units.array_cols
    assert rows is not None  # packaged data
    assert cols is not None
    machine = replace(machine_of(device, "bf16"), **own)
    parts = [
        systolic_gemm(machine, rows=rows, cols=cols, m=tokens, k=k, n=n, input_bytes=2, weight_bytes=2, output_bytes=2)
        for k, n in PRODUCTS.values()
    ]
    names = ("total_s", "launch_s", "compute_s", "memory_s")
    return Terms(*(np.sum([getattr(part, name) for part in parts], axis=0) for name in names))


@dataclass(frozen=True)
class TpuTable:
    """Layer times of casys-kaist/LLMServingSim."""

    name: str = "matmul on TPU"
    origin: str = "github.com/casys-kaist/LLMServingSim, commit 5daddb2 (MIT), layers of Llama-3.1-8B on TPU v6e-1"
    schema: str = f"{FILE}: layer_name, input (tokens), latency(ns)"
    rule: str = "by hundreds of tokens, every second hundred fitted"
    unit: str = "s"

    def rows(self, data: Path) -> Iterable[Rows]:
        """Token counts at which the file holds all five products; up_proj is fused elsewhere at some."""
        if not (data / FILE).exists():
            return
        times: dict[int, dict[str, float]] = {}
        with (data / FILE).open() as file:
            for row in csv.DictReader(file):
                times.setdefault(int(row["input"]), {})[row["layer_name"]] = float(row["latency(ns)"]) * 1e-9
        whole = {count: row for count, row in sorted(times.items()) if PRODUCTS.keys() <= row.keys()}
        seconds = np.array([sum(row[name] for name in PRODUCTS) for row in whole.values()])
        yield Rows(DEVICE, "matmul bf16, a layer", {"tokens": np.array(list(whole), float)}, seconds)

    def used(self, rows: Rows) -> Mask:
        """Even hundreds of tokens."""
        return (np.asarray(rows.inputs["tokens"], float) // 100) % 2 == 0

    def predict(self, rows: Rows) -> Prediction:
        """With the parameters of the device's file."""
        device, tokens = find_device(DEVICE), np.asarray(rows.inputs["tokens"], float)
        work = 2 * sum(k * n for k, n in PRODUCTS.values())
        roofline = bare_roofline(device, work * tokens, np.full_like(tokens, work))
        return costed(device, "matmul", layer_terms(tokens, {}), {"roofline": roofline})


TABLES = (TpuTable(),)
