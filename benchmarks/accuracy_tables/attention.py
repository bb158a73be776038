"""Fused attention with a paged cache in vLLM, prefill and decode, on A100, H100 and H200.

Inputs: ``batch``, ``heads``, ``kv_heads``, ``queries``, ``keys``, ``head_size`` (counts), ``kv_bytes`` of one
element. Queries and results are bf16. The benchmark replays one call, so keys and values are as hot as the
call itself leaves them.
"""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from accuracy_tables import Array, Mask, Prediction, Rows, other_files
from accuracy_tables.costed import bare_roofline, costed
from systolith_sim.devices.attention import ATTENTION, AttentionConstants, AttentionSizes
from systolith_sim.devices.attention_library import AttentionLibrary
from systolith_sim.devices.device import AttentionParameters, Device
from systolith_sim.devices.gemm import Terms
from systolith_sim.devices.kernel import attention_of, fused_attention
from systolith_sim.devices.library import device_names, find_device

FILES = {
    "a100-80": "a100_sxm_vllm-0.14.0.csv",
    "h100-sxm": "h100_sxm_vllm-0.14.0.csv",
    "h200": "h200_sxm_vllm-0.22.0.csv",
}
UNFITTED = "rtx-4090"
"""A device whose attention only its class speaks for."""
PHASES = {"attention prefill": "context", "attention decode": "generation"}
WRITES_CACHE = {"a100-80": True, "h100-sxm": True, "h200": False}
"""vLLM 0.14 puts new keys and values into the cache inside the call; 0.22 does before it, untimed."""
PLANNED_KV_HEADS = {"h100-sxm": 8}
"""The H100 benchmark plans its splits for 8 key-value heads at every shape: at most 16 splits over the batch."""
FITTED_SHAPES = (
    (8, 8, 64), (16, 2, 64), (32, 8, 64), (8, 8, 128), (16, 2, 128), (32, 32, 128), (64, 1, 128),
)  # fmt: skip
"""(heads, key-value heads, head size) that fits and intervals look at; every other shape is never used."""
NAMES = ("batch", "heads", "kv_heads", "queries", "keys", "head_size", "kv_bytes")


@dataclass(frozen=True)
class AttentionTable:
    """Kernel times of ai-dynamo/aiconfigurator."""

    name: str = "attention"
    origin: str = (
        "github.com/ai-dynamo/aiconfigurator, commit 095f58a (Apache-2.0), context_ and generation_attention; "
        "github.com/casys-kaist/LLMServingSim, commit 5daddb2 (MIT), RTX 4090"
    )
    schema: str = (
        "llmservingsim/attention_RTX4090_*.csv: prefill_chunk, kv_prefill, n_decode, kv_decode (tokens), time_us; "
        "aiconfigurator/{context,generation}_attention_*.csv: batch_size, isl, step, num_heads, "
        "num_key_value_heads, head_dim, attn_dtype, kv_cache_dtype, latency (ms)"
    )
    rule: str = "by head counts and head size; the RTX 4090 is never used, its attention the class's"
    unit: str = "s"

    def rows(self, data: Path) -> Iterable[Rows]:
        """Prefill and decode of each device, where it has a file; step is the number of past tokens."""
        for device, file in FILES.items():
            for operation, phase in PHASES.items():
                path = data / "aiconfigurator" / f"{phase}_attention_{file}"
                if path.exists():
                    yield _read(path, device, operation)
        for operation, phase in PHASES.items():
            fitted = [f"{phase}_attention_{file}" for file in FILES.values()]
            for device, version, path in other_files(data, f"{phase}_attention", fitted):
                yield _read(path, device, f"{operation} {version}")
        path = data / "llmservingsim" / "attention_RTX4090_Llama-3.1-8B_tp1.csv"
        if path.exists() and UNFITTED in device_names():
            yield from _read_llama(path)

    def used(self, rows: Rows) -> Mask:
        """Rows of ``FITTED_SHAPES`` on a fitted device."""
        if rows.device not in FILES or rows.operation not in PHASES:
            return np.zeros(len(rows), bool)
        return np.any([shape_mask(rows, shape) for shape in FITTED_SHAPES], axis=0)

    def predict(self, rows: Rows) -> Prediction:
        """With the device's fitted parameters."""
        device = find_device(rows.device)
        parameters = attention_of(device)
        assert parameters is not None  # packaged data
        terms = attention_terms(device, rows, parameters)
        return costed(device, "attention", terms, {"roofline": _roofline(device, rows)}, case=phase_of(rows))


def phase_of(rows: Rows) -> str:
    """prefill or decode."""
    return rows.operation.split()[1]


def shape_mask(rows: Rows, shape: tuple[int, int, int]) -> Mask:
    """Rows of one (heads, key-value heads, head size)."""
    columns = (np.asarray(rows.inputs[name], float) for name in ("heads", "kv_heads", "head_size"))
    return np.all([column == wanted for column, wanted in zip(columns, shape, strict=True)], axis=0)


def part(rows: Rows, chosen: Mask) -> Rows:
    """The rows that a mask chooses."""
    inputs = {name: column[chosen] for name, column in rows.inputs.items()}
    return Rows(rows.device, rows.operation, inputs, rows.measured[chosen])


def _read(path: Path, device: str, operation: str) -> Rows:
    names = ("batch_size", "num_heads", "num_key_value_heads", "isl", "step", "head_dim", "latency")
    with path.open() as file:
        table = [row for row in csv.DictReader(file) if row["attn_dtype"] == "bfloat16"]
    columns = np.array([[float(row[name]) for name in names] for row in table])
    batch, heads, kv_heads, length, step, size, latency = columns.T
    kv_heads = np.where(kv_heads == 0, heads, kv_heads)
    kv_bytes = np.array([1.0 if "8" in row["kv_cache_dtype"] else 2.0 for row in table])
    queries = length if operation.startswith("attention prefill") else np.ones_like(length)
    values = (batch, heads, kv_heads, queries, length + step, size, kv_bytes)
    return Rows(device, operation, dict(zip(NAMES, values, strict=True)), latency * 1e-3)


def _read_llama(path: Path) -> Iterable[Rows]:
    """Llama-3.1-8B on an RTX 4090: the calls that hold one prefill chunk, or decodes alone."""
    with path.open() as file:
        table = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    for operation, own, other in zip(PHASES, ("prefill_chunk", "n_decode"), ("n_decode", "prefill_chunk"), strict=True):
        chosen = [row for row in table if row[own] > 0 and row[other] == 0]
        ones = np.ones(len(chosen))
        column = {name: np.array([row[name] for row in chosen]) for name in table[0]}
        prefill = operation == "attention prefill"
        queries = column["prefill_chunk"] if prefill else ones
        keys = queries + column["kv_prefill"] if prefill else column["kv_decode"]
        batch = ones if prefill else column["n_decode"]
        values = (batch, 32 * ones, 8 * ones, queries, keys, 128 * ones, 2 * ones)
        yield Rows(UNFITTED, operation, dict(zip(NAMES, values, strict=True)), column["time_us"] * 1e-6)


def attention_terms(
    device: Device,
    rows: Rows,
    parameters: AttentionParameters,
    constants: AttentionConstants = ATTENTION,
    library: AttentionLibrary | None = None,
) -> Terms:
    """Predicted terms of the rows, in their order."""
    columns = [np.asarray(rows.inputs[name], float) for name in NAMES]
    kv_bytes = columns.pop()
    parts = np.zeros((4, len(rows)))
    for one in np.unique(kv_bytes):
        chosen = kv_bytes == one
        terms = fused_attention(
            device, AttentionSizes.of(*(column[chosen] for column in columns)), parameters,
            constants=constants, library=library, causal=True, element_bytes=2.0, kv_bytes=float(one),
            writes_cache=WRITES_CACHE.get(rows.device, True) if rows.operation in PHASES else False,
            planned_kv_heads=PLANNED_KV_HEADS.get(rows.device) if rows.operation in PHASES else None,
        )  # fmt: skip
        parts[:, chosen] = terms.total_s, terms.launch_s, terms.compute_s, terms.memory_s
    return Terms(*parts)


def _roofline(device: Device, rows: Rows) -> Array:
    """Larger of operations over peak and bytes over bandwidth."""
    batch, heads, kv_heads, queries, keys, size, kv_bytes = (np.asarray(rows.inputs[name], float) for name in NAMES)
    work = 4 * batch * heads * queries * (keys - (queries - 1) / 2) * size
    moved = 4 * batch * heads * queries * size + 2 * batch * kv_heads * keys * size * kv_bytes
    return bare_roofline(device, work, moved)


TABLES = (AttentionTable(),)
