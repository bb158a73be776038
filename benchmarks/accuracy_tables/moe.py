"""Layers of routed experts in vLLM on A100: the grouped products, and what the library runs around them.

Inputs: ``tokens``, ``hidden``, ``width`` (of a whole expert), ``top_k``, ``experts``, ``tp``, ``ep`` (counts),
``alpha`` (exponent of the power law that deals tokens to experts). A row times vLLM's ``fused_experts`` alone,
replayed in a graph over ten routings with one set of weights: sorting by expert, gate and up in one product of twice
the width over ``tp``, the activation of every pair, the product down, the sum of a token's rows. Router and top-k are
not timed. With ``ep`` above 1 the device holds the experts of the busiest group, yet activates, clears and sums the
pairs of all tokens. Beyond 16,384 tokens the library calls itself again.
"""

import csv
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from accuracy_tables import Array, Mask, Prediction, Rows
from accuracy_tables.costed import bare_roofline, costed
from accuracy_tables.moe_routing import calls
from systolith_sim.devices.device import Device
from systolith_sim.devices.gemm import Machine, Terms
from systolith_sim.devices.grouped import HEIGHTS, VLLM, GroupedLibrary, Routing, grouped_gemm
from systolith_sim.devices.library import find_device
from systolith_sim.devices.products import machine_of, parameters_of
from systolith_sim.devices.streaming import KERNELS, StreamingKernel, streaming

DEVICE = "a100-80"
FILE = Path("aiconfigurator") / "moe_a100_sxm_vllm-0.14.0.csv"
NAMES = ("tokens", "hidden", "width", "top_k", "experts", "tp", "ep", "alpha")
COLUMNS = ("num_tokens", "hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size", "moe_ep_size")
FITTED_SITES = ((2688, 1856), (4096, 2688), (6144, 2560), (7168, 2048))
"""(hidden, width): every second of the eight sites in rising order, from the second on."""
KEPT_PAIRS = 4
"""The rows need no sorting while this many times the pairs do not outnumber the experts of the layer."""
BYTES = 2


@dataclass(frozen=True)
class Calls:
    """Calls of the library that rows of the table make, one after the other."""

    row: NDArray[np.intp]
    """Index of the row, one entry a call."""
    routing: Routing
    hidden: Array
    width: Array
    """Of an expert's share on one device."""
    pairs: Array
    """Tokens times experts a token goes to, of all devices."""
    experts: Array
    spread: Mask
    """Whether experts stand on several devices."""


def calls_of(rows: Rows) -> Calls:
    """What the benchmark asks of the library."""
    columns = np.array([np.asarray(rows.inputs[name], float) for name in NAMES]).T
    found = [
        (place, hidden, width // tp, call.tokens * top_k, experts, ep > 1, call.rows, call.active, call.tokens,
         experts // ep, *call.tiles)
        for place, (tokens, hidden, width, top_k, experts, tp, ep, alpha) in enumerate(columns)
        for call in calls(int(tokens), int(experts), int(top_k), int(ep), float(alpha))
    ]  # fmt: skip
    row, hidden, width, pairs, experts, spread, own, active, tokens, held, *tiles = np.array(found, float).T
    routing = Routing(own, active, dict(zip(HEIGHTS, tiles, strict=True)), tokens, held)
    return Calls(row.astype(np.intp), routing, hidden, width, pairs, experts, spread > 0)


def layer_terms(device: Device, given: Calls, library: GroupedLibrary = VLLM) -> Terms:
    """Terms of each call: two grouped products with sorting, activation and sum between and around them."""
    machine, routing = machine_of(device, "bf16"), given.routing
    hidden, width, pairs = given.hidden, given.width, given.pairs
    weights = 3 * routing.active * hidden * width * BYTES
    reuse = weights + pairs * (3 * width + hidden) * BYTES
    up = grouped_gemm(
        machine, library, routing, k=hidden, n=2 * width, width=width, reuse_bytes=reuse,
        gathered_bytes=routing.tokens * hidden * BYTES,
    )  # fmt: skip
    down = grouped_gemm(
        machine, library, routing, k=width, n=hidden, width=width, reuse_bytes=reuse,
        gathered_bytes=pairs * width * BYTES,
    )  # fmt: skip
    around = [
        _stream(device, machine, KERNELS["activation"], pairs * width, 3 * pairs * width * BYTES, row=width),
        _stream(device, machine, KERNELS["add"], pairs * hidden, (pairs + routing.tokens) * hidden * BYTES),
    ]
    clear = _stream(device, machine, StreamingKernel(1.0), pairs * hidden, pairs * hidden * BYTES)
    sorts = KEPT_PAIRS * pairs > given.experts
    sorting = sorts * (2 * machine.launch_s + library.sort_s_per_expert * given.experts)
    names = ("total_s", "launch_s", "compute_s", "memory_s")
    sums = [np.sum([getattr(part, name) for part in (up, down, *around)], axis=0) for name in names]
    sums = [total + given.spread * getattr(clear, name) for total, name in zip(sums, names, strict=True)]
    return Terms(sums[0] + sorting, sums[1] + sorting, sums[2], sums[3])


def _stream(
    device: Device, machine: Machine, kernel: StreamingKernel, elements: Array, moved: Array, row: Array | float = 0.0
) -> Terms:
    share = parameters_of(device).streaming_efficiency
    assert share is not None  # packaged data
    own = replace(machine, memory_efficiency=share.value)
    return streaming(
        own, kernel, elements=elements, moved_bytes=moved, row_elements=row,
        vector_ops_per_s=device.peak_ops_per_s["fp32"].value,
    )  # fmt: skip


def by_row(given: Calls, terms: Terms) -> Terms:
    """Terms of each row: those of its calls together."""
    names = ("total_s", "launch_s", "compute_s", "memory_s")
    return Terms(*(_summed(given, getattr(terms, name)) for name in names))


def _summed(given: Calls, seconds: Array) -> Array:
    return np.bincount(given.row, seconds).astype(float)


@dataclass(frozen=True)
class MoeTable:
    """Layer times of ai-dynamo/aiconfigurator."""

    name: str = "experts"
    origin: str = "github.com/ai-dynamo/aiconfigurator, commit 095f58a (Apache-2.0), MoE table of A100, vLLM 0.14"
    schema: str = f"{FILE}: {', '.join(COLUMNS)}, distribution (power_law_ALPHA), latency (ms)"
    rule: str = "by site (hidden size, expert width): every second is fitted, the others are never used, at any tokens"
    unit: str = "s"

    def rows(self, data: Path) -> Iterable[Rows]:
        """All rows, in bf16."""
        if not (data / FILE).exists():
            return
        with (data / FILE).open() as file:
            table = list(csv.DictReader(file))
        columns = [np.array([float(row[name]) for row in table]) for name in COLUMNS]
        columns.append(np.array([float(row["distribution"].rpartition("_")[2]) for row in table]))
        seconds = np.array([float(row["latency"]) for row in table]) * 1e-3
        yield Rows(DEVICE, "experts bf16", dict(zip(NAMES, columns, strict=True)), seconds)

    def used(self, rows: Rows) -> Mask:
        """Rows of ``FITTED_SITES``."""
        hidden, width = (np.asarray(rows.inputs[name], float) for name in ("hidden", "width"))
        return np.any([(hidden == h) & (width == w) for h, w in FITTED_SITES], axis=0)

    def predict(self, rows: Rows) -> Prediction:
        """With the packaged constants."""
        device, given = find_device(rows.device), calls_of(rows)
        terms = by_row(given, layer_terms(device, given))
        return costed(device, "grouped", terms, {"roofline": _roofline(device, given)})


def _roofline(device: Device, given: Calls) -> Array:
    """Larger of operations over peak, and of weights of active experts and tokens in and out over bandwidth."""
    routing = given.routing
    work = 6 * routing.rows * given.hidden * given.width
    moved = (3 * routing.active * given.width + 2 * routing.tokens) * given.hidden * BYTES
    seconds = bare_roofline(device, work, moved)
    return _summed(given, seconds)


TABLES = (MoeTable(),)
