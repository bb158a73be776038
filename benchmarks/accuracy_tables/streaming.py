"""Norms, softmax, activations and additions on A100: torch's calls, and the kernels of an engine of 2024.

Inputs: ``kind`` (as in ``streaming.KERNELS``), ``elements`` of the result, ``bytes`` of operands and result,
``row_bytes`` of one row of a reduction, ``row`` (elements of a row of the result, 0 where nothing hangs on it),
``width`` (tensor-parallel devices), ``eager`` (1: torch, from the host).
"""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from accuracy_tables import Array, Mask, Prediction, Rows
from accuracy_tables.costed import costed
from systolith_sim.devices.device import Device
from systolith_sim.devices.gemm import Terms
from systolith_sim.devices.library import find_device
from systolith_sim.devices.products import machine_of, parameters_of
from systolith_sim.devices.streaming import EAGER_CALLS, KERNELS, EagerCall, StreamingKernel, StreamingKind, streaming

DEVICE = "a100-80"
ELEMENT_BYTES = 2
TORCH: tuple[StreamingKind, ...] = ("softmax", "layernorm", "gelu")
SWEPT_ROWS = 4096
"""softmax and layernorm with this many rows are fitted, those with this many columns are not."""
GELU_FITTED = (2048, 131072, 8388608, 67108864)
"""Sizes of gelu that are fitted."""
FITTED_WIDTHS = (1, 4)
"""Tensor-parallel widths of the engine's kernels that are fitted."""
HIDDEN, INNER = 4096, 11008
ENGINE: dict[str, StreamingKind] = {
    "input_layernorm": "norm", "attn_rope": "rope", "mlp_act": "activation", "add": "add",
}  # fmt: skip
SHORTEST_S = 1e-5
"""The engine's profile rounds to 1 us: shorter times are left out."""


@dataclass(frozen=True)
class StreamingTable:
    """Each element once through the vector units."""

    name: str = "streaming"
    origin: str = (
        "github.com/PrincetonUniversity/LLMCompass, commit 2e015fd (BSD-3): softmax, layernorm and gelu of torch; "
        "github.com/microsoft/vidur, commit 7d47513 (MIT): layers of Llama-2-7B"
    )
    schema: str = (
        "llmcompass/{softmax,layernorm,gelu}_A100.csv: m, n, latency_us_derived; "
        "vidur/mlp_a100_Llama-2-7b-hf.csv: num_tokens, num_tensor_parallel_workers, time_stats.*.median (ms)"
    )
    rule: str = "by which size was swept (torch), by tensor-parallel width (engine)"
    unit: str = "s"

    def rows(self, data: Path) -> Iterable[Rows]:
        """One per kernel."""
        for kind in TORCH:
            path = data / "llmcompass" / f"{kind}_A100.csv"
            if path.exists():
                yield _torch(path, kind)
        path = data / "vidur" / "mlp_a100_Llama-2-7b-hf.csv"
        if path.exists():
            yield from _engine(path)

    def used(self, rows: Rows) -> Mask:
        """See ``rule``."""
        elements, row = (np.asarray(rows.inputs[name], float) for name in ("elements", "row_bytes"))
        kind = str(rows.inputs["kind"][0])
        if kind == "gelu":
            return np.isin(elements, GELU_FITTED)
        if kind in TORCH:
            return elements * ELEMENT_BYTES / row == SWEPT_ROWS
        return np.isin(np.asarray(rows.inputs["width"], float), FITTED_WIDTHS)

    def predict(self, rows: Rows) -> Prediction:
        """With the packaged constants."""
        device = find_device(rows.device)
        bare = np.asarray(rows.inputs["bytes"], float) / device.main_memory.bandwidth_bytes_per_s.value
        return costed(device, "streaming", streaming_terms(device, rows), {"roofline": bare})


def kind_of(rows: Rows) -> StreamingKind:
    """Kernel of rows of one operation."""
    for name in KERNELS:
        if name == str(rows.inputs["kind"][0]):
            return name
    raise ValueError(f"kind must be one of {', '.join(KERNELS)}, not {rows.inputs['kind'][0]!r}")


def streaming_terms(
    device: Device,
    rows: Rows,
    kernel: StreamingKernel | None = None,
    call: EagerCall | None = None,
    efficiency: float | None = None,
) -> Terms:
    """Predicted terms of rows of one kernel, with the packaged constants or those given."""
    kind = kind_of(rows)
    share = parameters_of(device).streaming_efficiency
    assert share is not None  # packaged data
    machine = replace(machine_of(device, "bf16"), memory_efficiency=efficiency or share.value)
    eager = np.asarray(rows.inputs["eager"], float).any()
    return streaming(
        machine, kernel or KERNELS[kind], elements=np.asarray(rows.inputs["elements"], float),
        moved_bytes=np.asarray(rows.inputs["bytes"], float), call=(call or EAGER_CALLS[kind]) if eager else None,
        row_bytes=np.asarray(rows.inputs["row_bytes"], float), row_elements=np.asarray(rows.inputs["row"], float),
        vector_ops_per_s=device.peak_ops_per_s["fp32"].value,
    )  # fmt: skip


def _rows(operation: str, kind: StreamingKind, columns: dict[str, Array], seconds: Array) -> Rows:
    return Rows(DEVICE, operation, {"kind": np.full(len(seconds), kind), **columns}, seconds)


def _torch(path: Path, kind: StreamingKind) -> Rows:
    with path.open() as file:
        table = list(csv.DictReader(file))
    n = np.array([float(row["n"]) for row in table])
    m = np.array([float(row.get("m") or 1) for row in table])
    zero = np.zeros_like(n)
    columns = {
        "elements": m * n, "bytes": 2 * ELEMENT_BYTES * m * n,
        "row_bytes": zero if kind == "gelu" else ELEMENT_BYTES * n, "row": zero, "width": zero + 1, "eager": zero + 1,
    }  # fmt: skip
    return _rows(f"{kind} torch", kind, columns, np.array([float(row["latency_us_derived"]) for row in table]) * 1e-6)


def _engine(path: Path) -> Iterator[Rows]:
    with path.open() as file:
        table = list(csv.DictReader(file))
    tokens = np.array([float(row["num_tokens"]) for row in table])
    width = np.array([float(row["num_tensor_parallel_workers"]) for row in table])
    results = {
        "norm": tokens * HIDDEN, "rope": 2 * tokens * HIDDEN / width, "activation": tokens * INNER / width,
        "add": tokens * HIDDEN,
    }  # fmt: skip
    operands = {"norm": 2, "rope": 2, "activation": 3, "add": 3}
    for name, kind in ENGINE.items():
        seconds = np.array([float(row[f"time_stats.{name}.median"]) for row in table]) * 1e-3
        long = seconds >= SHORTEST_S
        zero = np.zeros(long.sum())
        elements = results[kind][long]
        columns = {
            "elements": elements, "bytes": operands[kind] * ELEMENT_BYTES * elements,
            "row_bytes": zero + (HIDDEN * ELEMENT_BYTES if kind == "norm" else 0), "row": elements / tokens[long],
            "width": width[long], "eager": zero,
        }  # fmt: skip
        yield _rows(f"{kind} engine", kind, columns, seconds[long])


TABLES = (StreamingTable(),)
