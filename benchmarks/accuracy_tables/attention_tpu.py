"""Attention of Llama-3.1-8B over a paged cache on one TPU v6e: one prefill chunk, or a batch of decodes.

Inputs: ``batch``, ``queries``, ``keys`` (counts); 32 heads of 128 over 8 of keys and values, in bf16.
"""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from accuracy_tables import Mask, Prediction, Rows
from accuracy_tables.attention import phase_of
from accuracy_tables.costed import bare_roofline, costed
from systolith_sim.devices.attention import AttentionSizes
from systolith_sim.devices.device import Device
from systolith_sim.devices.gemm import Terms
from systolith_sim.devices.kernel import attention_of, ragged_fit
from systolith_sim.devices.library import find_device
from systolith_sim.devices.products import machine_of
from systolith_sim.devices.ragged import RAGGED, RaggedConstants, RaggedFit, ragged_attention

DEVICE = "tpu-v6e"
FILE = Path("llmservingsim") / "attention_TPU-v6e-1_Llama-3.1-8B_tp1.csv"
HEADS, KV_HEADS, SIZE, BYTES = 32, 8, 128, 2
STEP = 32
"""Sizes of the cache are multiples of it."""


def cache_terms(
    device: Device, rows: Rows, fit: RaggedFit | None = None, constants: RaggedConstants = RAGGED
) -> Terms:
    """Terms of the rows, with the device's parameters or those given."""
    batch, queries, keys = (np.asarray(rows.inputs[name], float) for name in ("batch", "queries", "keys"))
    sizes = AttentionSizes.of(batch, HEADS, KV_HEADS, queries, keys, SIZE)
    if fit is None:
        packaged = attention_of(device)
        assert packaged is not None  # packaged data
        fit = ragged_fit(packaged)
    return ragged_attention(
        machine_of(device, "bf16"), sizes, fit, causal=True, kv_bytes=BYTES, constants=constants
    )


@dataclass(frozen=True)
class TpuAttentionTable:
    """Kernel times of casys-kaist/LLMServingSim."""

    name: str = "attention on TPU"
    origin: str = "github.com/casys-kaist/LLMServingSim, commit 5daddb2 (MIT), attention of Llama-3.1-8B on TPU v6e-1"
    schema: str = f"{FILE}: prefill_chunk_size, kv_cache_size (tokens), batch_size, is_prefill, p50_ns"
    rule: str = "by the tokens in the cache, every second multiple of 32 fitted"
    unit: str = "s"

    def rows(self, data: Path) -> Iterable[Rows]:
        """Prefill of one chunk, and decode."""
        if not (data / FILE).exists():
            return
        with (data / FILE).open() as file:
            table = list(csv.DictReader(file))
        for operation, wanted in (("attention prefill", "True"), ("attention decode", "False")):
            chosen = [row for row in table if row["is_prefill"] == wanted]
            names = ("batch_size", "prefill_chunk_size", "kv_cache_size", "p50_ns")
            batch, chunk, cached, nanoseconds = np.array([[float(row[name]) for name in names] for row in chosen]).T
            queries = chunk if wanted == "True" else np.ones_like(chunk)
            yield Rows(DEVICE, operation, {"batch": batch, "queries": queries, "keys": cached + queries},
                       nanoseconds * 1e-9)  # fmt: skip

    def used(self, rows: Rows) -> Mask:
        """Even multiples of 32 tokens in the cache."""
        keys, queries = (np.asarray(rows.inputs[name], float) for name in ("keys", "queries"))
        return (keys - queries) // STEP % 2 == 0

    def predict(self, rows: Rows) -> Prediction:
        """With the parameters of the device's file."""
        device = find_device(rows.device)
        batch, queries, keys = (np.asarray(rows.inputs[name], float) for name in ("batch", "queries", "keys"))
        work = 4 * batch * HEADS * queries * (keys - (queries - 1) / 2) * SIZE
        moved = 2 * batch * (KV_HEADS * keys + HEADS * queries) * SIZE * BYTES
        rivals = {"roofline": bare_roofline(device, work, moved)}
        return costed(device, "attention", cache_terms(device, rows), rivals, case=phase_of(rows))


TABLES = (TpuAttentionTable(),)
