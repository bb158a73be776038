"""Latent attention (MLA) of DeepSeek-V3's sizes in vLLM 0.14, prefill and decode, on A100 and H100.

Inputs: ``batch``, ``heads``, ``queries``, ``keys`` (counts). A row times one call of the backend's forward from the
host: in prefill the product that expands the latent to keys and values of each head, the concatenation of keys and
attention over heads of 192 and values of 128; in decode the up-projections on the side of queries and outputs, and
attention over the one latent. The host takes 0.3 ms a call on A100 and 0.1 to 0.2 on H100, at times ten times as
much, which hides the device in most rows: only those are scored whose roofline alone is long. Predicted as the
graph's operations are; on A100 one constant of its decode kernel is fitted on half of the head counts, nothing else.
"""

import csv
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from accuracy_tables import Array, Mask, Prediction, Rows
from accuracy_tables.attention import part, phase_of
from accuracy_tables.costed import bare_roofline, costed
from systolith_sim.devices.attention import AttentionSizes
from systolith_sim.devices.attention_library import LIBRARIES, AttentionLibrary
from systolith_sim.devices.device import Device
from systolith_sim.devices.gemm import Terms
from systolith_sim.devices.kernel import attention_of, fused_attention
from systolith_sim.devices.library import find_device
from systolith_sim.devices.products import gpu_gemm, machine_of, parameters_of
from systolith_sim.devices.streaming import KERNELS, streaming

FILES = {"a100-80": "a100_sxm_vllm-0.14.0.csv", "h100-sxm": "h100_sxm_vllm-0.14.0.csv"}
PHASES = {"latent prefill": "context", "latent decode": "generation"}
LONG_S = {"a100-80": 3e-4, "h100-sxm": 1.5e-4}
"""What a call takes on the host: rows whose roofline is shorter are left out."""
RANK, ROPE, NOPE, VALUE = 512, 64, 128, 128
"""Sizes of the latent, of its rotated part, and of a head's keys and values."""
BYTES = 2
FITTED = ("a100-80", "latent decode", (2, 8, 32, 128))
"""Device, operation and head counts that the one fit looks at."""
NAMES = ("batch", "heads", "queries", "keys")


def latent_terms(device: Device, rows: Rows, library: AttentionLibrary | None = None) -> Terms:
    """Terms of the operations of one call, summed, with the device's library or one given."""
    batch, heads, queries, keys = (np.asarray(rows.inputs[name], float) for name in NAMES)
    parameters = attention_of(device)
    assert parameters is not None  # packaged data
    one = np.ones_like(batch)
    if rows.operation == "latent prefill":
        tokens = batch * queries
        products = [_product(device, one, tokens, RANK * one, heads * (NOPE + VALUE))]
        moved = 2 * tokens * heads * (NOPE + VALUE + ROPE / 2) * BYTES  # read once, written once
        sizes = AttentionSizes.of(batch, heads, heads, queries, keys, NOPE + ROPE, VALUE)
    else:
        products = [
            _product(device, heads, batch, NOPE * one, RANK * one),
            _product(device, heads, batch, RANK * one, VALUE * one),
        ]
        moved = 2 * batch * heads * (RANK + ROPE) * BYTES
        sizes = AttentionSizes.of(batch, heads, one, queries, keys, RANK + ROPE, RANK)
    share = parameters_of(device).streaming_efficiency
    assert share is not None  # packaged data
    machine = replace(machine_of(device, "bf16"), memory_efficiency=share.value)
    lay = streaming(
        machine, KERNELS["add"], elements=moved / (2 * BYTES), moved_bytes=moved,
        vector_ops_per_s=device.peak_ops_per_s["fp32"].value,
    )  # fmt: skip
    fused = fused_attention(
        device, sizes, parameters, library=library, causal=True, element_bytes=BYTES, kv_bytes=BYTES,
        shared_values=rows.operation == "latent decode", writes_cache=True,
    )  # fmt: skip
    names = ("total_s", "launch_s", "compute_s", "memory_s")
    return Terms(*(np.sum([getattr(term, name) for term in (*products, lay, fused)], axis=0) for name in names))


def _product(device: Device, batch: Array, m: Array, k: Array, n: Array) -> Terms:
    weights = batch * k * n * BYTES  # called again and again: as hot as one call leaves them
    return gpu_gemm(
        device, "bf16", batch=batch, m=m, k=k, n=n, input_bytes=BYTES, weight_bytes=BYTES, output_bytes=BYTES,
        reuse_bytes=weights + batch * m * (k + n) * BYTES,
    )  # fmt: skip


@dataclass(frozen=True)
class LatentTable:
    """Calls of ai-dynamo/aiconfigurator."""

    name: str = "latent attention"
    origin: str = "github.com/ai-dynamo/aiconfigurator, commit 095f58a (Apache-2.0), MLA tables of vLLM 0.14"
    schema: str = (
        "aiconfigurator/{context,generation}_mla_{a100,h100}_sxm_vllm-0.14.0.csv: kv_cache_dtype, num_heads, "
        "batch_size, isl, step (keys in decode), latency (ms), from the Parquet files of the same names"
    )
    rule: str = "by heads, every second count fitted in decode on A100; nothing else was fitted"
    unit: str = "s"

    def rows(self, data: Path) -> Iterable[Rows]:
        """16-bit rows of each device and phase that the host does not hide."""
        for device, file in FILES.items():
            for operation, phase in PHASES.items():
                path = data / "aiconfigurator" / f"{phase}_mla_{file}"
                if path.exists():
                    rows = _read(path, device, operation)
                    yield part(rows, _roofline(find_device(device), rows) > LONG_S[device])

    def used(self, rows: Rows) -> Mask:
        """``FITTED``."""
        device, operation, heads = FITTED
        fitted = rows.device == device and rows.operation == operation
        return np.isin(np.asarray(rows.inputs["heads"], float), heads) & fitted

    def predict(self, rows: Rows) -> Prediction:
        """With the packaged constants."""
        device = find_device(rows.device)
        rivals = {"roofline": _roofline(device, rows)}
        parameters, case = attention_of(device), phase_of(rows)
        assert parameters is not None  # packaged data
        unseen = LIBRARIES[parameters.library].unseen(
            key_size=NOPE + ROPE, value_size=VALUE, decode=case == "decode"
        )
        return costed(device, "attention", latent_terms(device, rows), rivals, case=case, unseen=unseen)


def _read(path: Path, device: str, operation: str) -> Rows:
    with path.open() as file:
        table = [row for row in csv.DictReader(file) if row["kv_cache_dtype"] == "bfloat16"]
    names = ("batch_size", "num_heads", "isl", "step", "latency")
    batch, heads, length, step, latency = np.array([[float(row[name]) for name in names] for row in table]).T
    keys = length if operation == "latent prefill" else step
    return Rows(device, operation, dict(zip(NAMES, (batch, heads, length, keys), strict=True)), latency * 1e-3)


def _roofline(device: Device, rows: Rows) -> Array:
    """Larger of the attention's operations over peak and bytes over bandwidth."""
    batch, heads, queries, keys = (np.asarray(rows.inputs[name], float) for name in NAMES)
    seen = keys - (queries - 1) / 2
    if rows.operation == "latent prefill":
        work = 2 * batch * heads * queries * (seen * (NOPE + ROPE + VALUE) + RANK * (NOPE + VALUE))
        moved = BYTES * batch * heads * queries * (2 * (NOPE + ROPE) + 2 * VALUE)
    else:
        work = 2 * batch * heads * (seen * (2 * RANK + ROPE) + RANK * (NOPE + VALUE))
        moved = BYTES * batch * keys * (RANK + ROPE)
    return bare_roofline(device, work, moved)


TABLES = (LatentTable(),)
