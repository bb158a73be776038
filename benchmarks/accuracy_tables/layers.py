"""Layers as engines run them: products on A100 and RTX 4090, and what passes once over its operands.

Inputs of products: ``m``, ``k``, ``n`` (counts), ``reuse`` (bytes until the same weights come again), ``eager`` (1:
launched from the host). Of the others: ``tokens``, ``elements`` of the result, ``bytes`` of operands and result,
``row_bytes``. The RTX 4090 is predicted by its own file, fitted on two of its five products, and once more by its
class; its other kernels by the class alone. A profile walks through a whole layer before it comes back to the same
weights.
"""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from accuracy_tables import Array, Mask, Prediction, Rows
from accuracy_tables.costed import bare_roofline, costed
from systolith_sim.devices.device import Device, Operator
from systolith_sim.devices.gemm import Terms
from systolith_sim.devices.library import device_names, find_device
from systolith_sim.devices.products import gpu_gemm, machine_of, parameters_of
from systolith_sim.devices.streaming import KERNELS, StreamingKind, streaming

BYTES = 2
GEFORCE = "rtx-4090"
LLAMA_31_8B = {
    "qkv_proj": (4096, 6144), "o_proj": (4096, 4096), "gate_up_proj": (4096, 28672), "down_proj": (14336, 4096),
}  # fmt: skip
"""(k, n)."""
FITTED_SITES = ((4096, 6144), (14336, 4096))
"""(k, n) on the RTX 4090 that fits and intervals look at."""
BY_CLASS = "by class"
"""Ends the name of what is predicted as if nobody had measured the device."""
VOCABULARY = 128256
LLAMA_2_7B = {
    "attn_pre_proj": (4096, 12288), "attn_post_proj": (4096, 4096), "mlp_up_proj": (4096, 22016),
    "mlp_down_proj": (11008, 4096),
}  # fmt: skip
SPLIT_ALONG_K = ("attn_post_proj", "mlp_down_proj")
"""Products whose depth tensor parallelism divides; of the others the width."""
SHORTEST_S = 1e-5
"""The profile of A100 rounds to 1 us: shorter times are left out."""
ONCE: dict[str, tuple[StreamingKind, int, int]] = {
    "layernorm": ("norm", 4096, 4), "rotary_emb": ("rope", 5120, 2), "act_fn": ("activation", 14336, 3),
}  # fmt: skip
"""Kernel, elements of the result a token, and passes of as many elements; the norm adds the residual and keeps it."""


@dataclass(frozen=True)
class LayerTable:
    """Times of vidur, LLMCompass and LLMServingSim."""

    name: str = "layers"
    origin: str = (
        "github.com/casys-kaist/LLMServingSim, commit 5daddb2 (MIT), RTX 4090; github.com/microsoft/vidur, commit "
        "7d47513 (MIT), A100; github.com/PrincetonUniversity/LLMCompass, commit 2e015fd (BSD-3), A100 from torch"
    )
    schema: str = (
        "llmservingsim/{dense,per_sequence}_RTX4090_Llama-3.1-8B_tp1.csv: layer, tokens or sequences, time_us; "
        "vidur/mlp_a100_Llama-2-7b-hf.csv: num_tokens, num_tensor_parallel_workers, time_stats.*_proj.median (ms); "
        "llmcompass/matmul_A100.csv: m, n, k, latency_ms"
    )
    rule: str = "by product: two of five on the RTX 4090 are fitted, nothing on A100 and nothing else"
    unit: str = "s"

    def rows(self, data: Path) -> Iterable[Rows]:
        """Products of three origins, then the kernels between them."""
        for name, read in (("llmservingsim", _llmservingsim), ("vidur", _vidur), ("llmcompass", _llmcompass)):
            yield from read(data / name)

    def used(self, rows: Rows) -> Mask:
        """``FITTED_SITES`` of the RTX 4090."""
        if rows.device != GEFORCE or "k" not in rows.inputs or rows.operation.endswith(BY_CLASS):
            return np.zeros(len(rows), bool)
        k, n = (np.asarray(rows.inputs[name], float) for name in ("k", "n"))
        return np.any([(k == depth) & (n == width) for depth, width in FITTED_SITES], axis=0)

    def predict(self, rows: Rows) -> Prediction:
        """With the packaged constants, or those of the class."""
        device = find_device(rows.device)
        if rows.operation.endswith(BY_CLASS):
            device = device.model_copy(update={"kernel": None, "errors": ()})
        product = "k" in rows.inputs
        operator: Operator = "matmul" if product else "streaming"
        terms = product_terms(device, rows) if product else _once(device, rows)
        return costed(device, operator, terms, {"roofline": _roofline(device, rows)})


def product_terms(device: Device, rows: Rows) -> Terms:
    """Terms of products, with the device's parameters."""
    m, k, n, reuse, eager = (np.asarray(rows.inputs[name], float) for name in ("m", "k", "n", "reuse", "eager"))
    terms = gpu_gemm(
        device, "bf16", m=m, k=k, n=n, input_bytes=BYTES, weight_bytes=BYTES, output_bytes=BYTES, reuse_bytes=reuse
    )
    if not eager.any():
        return terms
    assert device.eager_launch_s is not None  # packaged data
    added = np.maximum(device.eager_launch_s.value - terms.launch_s, 0.0)
    return replace(terms, total_s=terms.total_s + added, launch_s=terms.launch_s + added)


def _once(device: Device, rows: Rows) -> Terms:
    elements, moved, row = (np.asarray(rows.inputs[name], float) for name in ("elements", "bytes", "row_bytes"))
    share = parameters_of(device).streaming_efficiency
    assert share is not None  # packaged data
    machine = replace(machine_of(device, "bf16"), memory_efficiency=share.value)
    kinds = {kind: KERNELS[kind] for kind, _, _ in ONCE.values()}
    return streaming(
        machine, kinds[_kind(rows)], elements=elements, moved_bytes=moved, row_bytes=row,
        row_elements=elements / np.asarray(rows.inputs["tokens"], float),
        vector_ops_per_s=device.peak_ops_per_s["fp32"].value,
    )  # fmt: skip


def _kind(rows: Rows) -> StreamingKind:
    return next(kind for kind, _, _ in ONCE.values() if kind == rows.operation.split()[0])


def _roofline(device: Device, rows: Rows) -> Array:
    """Larger of operations over peak and bytes over bandwidth."""
    if "bytes" in rows.inputs:
        return np.asarray(rows.inputs["bytes"], float) / device.main_memory.bandwidth_bytes_per_s.value
    m, k, n = (np.asarray(rows.inputs[name], float) for name in ("m", "k", "n"))
    return bare_roofline(device, 2 * m * k * n, BYTES * (m * k + k * n + m * n))


def _product_rows(device: str, operation: str, table: list[tuple[float, ...]]) -> Rows:
    """From (m, k, n, reuse, eager, seconds) a row."""
    *columns, seconds = np.array(table, float).T
    return Rows(device, operation, dict(zip(("m", "k", "n", "reuse", "eager"), columns, strict=True)), seconds)


def _read(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def _llmservingsim(folder: Path) -> Iterator[Rows]:
    dense, heads = (folder / f"{name}_RTX4090_Llama-3.1-8B_tp1.csv" for name in ("dense", "per_sequence"))
    if GEFORCE not in device_names() or not dense.exists():
        return
    layer = BYTES * sum(k * n for k, n in LLAMA_31_8B.values())
    table = [(row["layer"], float(row["tokens"]), float(row["time_us"]) * 1e-6) for row in _read(dense)]
    products = [(m, *LLAMA_31_8B[name], layer, 0.0, s) for name, m, s in table if name in LLAMA_31_8B]
    yield _product_rows(GEFORCE, "matmul bf16", products)
    yield _product_rows(GEFORCE, f"matmul bf16, {BY_CLASS}", products)
    if heads.exists():
        found = [(float(row["sequences"]), float(row["time_us"]) * 1e-6) for row in _read(heads)
                 if row["layer"] == "lm_head"]  # fmt: skip
        whole = layer + BYTES * 4096 * VOCABULARY
        yield _product_rows(GEFORCE, "matmul lm_head", [(m, 4096, VOCABULARY, whole, 0.0, s) for m, s in found])
    for name, (kind, width, passes) in ONCE.items():
        tokens, seconds = np.array([(m, s) for other, m, s in table if other == name]).T
        columns = {
            "tokens": tokens, "elements": tokens * width, "bytes": passes * BYTES * tokens * width,
            "row_bytes": np.full_like(tokens, BYTES * width if kind == "norm" else 0),
        }  # fmt: skip
        yield Rows(GEFORCE, f"{kind} engine", columns, seconds)


def _vidur(folder: Path) -> Iterator[Rows]:
    path = folder / "mlp_a100_Llama-2-7b-hf.csv"
    if not path.exists():
        return
    layer = BYTES * sum(k * n for k, n in LLAMA_2_7B.values())
    table = _read(path)
    for width in sorted({int(row["num_tensor_parallel_workers"]) for row in table}):
        products = []
        for row in table:
            if int(row["num_tensor_parallel_workers"]) == width:
                for name, (k, n) in LLAMA_2_7B.items():
                    deep = name in SPLIT_ALONG_K
                    sizes = (k / width, n) if deep else (k, n / width)
                    seconds = float(row[f"time_stats.{name}.median"]) * 1e-3
                    products.append((float(row["num_tokens"]), *sizes, layer / width, 0.0, seconds))
        long = [product for product in products if product[-1] >= SHORTEST_S]
        yield _product_rows("a100-80", f"matmul fp16 TP {width}", long)


def _llmcompass(folder: Path) -> Iterator[Rows]:
    path = folder / "matmul_A100.csv"
    if path.exists():
        sizes = [tuple(float(row[name]) for name in ("m", "k", "n")) for row in _read(path)]
        seconds = [float(row["latency_ms"]) * 1e-3 for row in _read(path)]
        # one product again and again
        table = [(m, k, n, BYTES * k * n, 1.0, s) for (m, k, n), s in zip(sizes, seconds, strict=True)]
        yield _product_rows("a100-80", "matmul torch", table)


TABLES = (LayerTable(),)
