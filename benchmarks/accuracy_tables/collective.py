"""Collectives between GPUs of one node: NCCL, an engine's own all-reduce, and profiles over other links.

Inputs: ``kind`` (as in ``collective.COLLECTIVES``, or ``custom``), ``bytes`` of the whole tensor, ``devices``,
``link`` (name in the device file), ``adds`` (1 where the switch can add the format), ``eager`` (1 where the call
is launched from the host and copies its operand).
"""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from accuracy_tables import Array, Mask, Prediction, Rows
from systolith_sim.devices.collective import (
    COLLECTIVES,
    CONSTANTS,
    Collective,
    CollectiveConstants,
    LinkTerms,
    Wire,
    collective,
    custom_all_reduce,
    link_error_factors,
    wire_of,
)
from systolith_sim.devices.device import Device
from systolith_sim.devices.library import find_device
from systolith_sim.devices.parameters import CollectiveParameters, CustomParameters

SYSTEMS = {"a100_sxm": "a100-80", "h100_sxm": "h100-sxm"}
NAMES = {"alltoall": "all_to_all"}
ELEMENT_BYTES = {"half": 2, "bfloat16": 2, "int8": 1, "float": 4}
FITTED_DEVICES = (2, 8)
"""NCCL and engine rows of these group sizes are fitted; every other size is never used."""


HALVED = ("all_reduce pcie", "send pairs", "all_reduce profile pairs")
"""Profiles of which every other size is looked at."""


class HostCall(NamedTuple):
    """A call that torch launches from the host, where two processes meet."""

    floor_s: float
    """Least time: the median of messages between 0.1 and 4 MB."""
    low: float
    high: float
    """Interval of calls at the floor, over it, on the rows used (fit_collective.py prints it)."""


HOST_CALLS = {"all_reduce profile pairs": HostCall(6.3e-5, 0.635, 1.175)}
"""Facts of that profile, not of the link; the same call over PCIe takes longer than its host."""


@dataclass(frozen=True)
class CollectiveTable:
    """One class's reader is a method; which rows were fitted differs by origin."""

    name: str = "collective"
    origin: str = (
        "github.com/ai-dynamo/aiconfigurator, commit 095f58a (Apache-2.0): NCCL 2.27.3 on A100, 2.29.2 on H100, "
        "custom all-reduce of vLLM; github.com/PrincetonUniversity/LLMCompass, commit 2e015fd (BSD-3): four A100; "
        "github.com/microsoft/vidur, commit 7d47513 (MIT): A100 in NVLink pairs, four over PCIe"
    )
    schema: str = (
        "aiconfigurator/nccl_collectives_all_systems.csv: system, op_name, nccl_dtype, num_gpus, message_size "
        "(elements), latency (ms); aiconfigurator/custom_allreduce_all_systems.csv: system, allreduce_dtype, "
        "num_gpus, message_size, latency, each key twice; llmcompass/allreduce_4xA100_nvlink3.csv: bytes, "
        "latency_us; vidur/all_reduce_a100_pairwise_nvlink.csv and send_recv_*: median (ms), num_workers, size "
        "(bytes), devices_per_node"
    )
    rule: str = (
        "by devices: groups of 2 and 8 are fitted, every other size of the profiles of pairs, sends and PCIe, "
        "nothing else"
    )
    unit: str = "s"

    def rows(self, data: Path) -> Iterable[Rows]:
        """NCCL per operation, the engine's all-reduce, and the profiles."""
        yield from _nccl(data / "aiconfigurator" / "nccl_collectives_all_systems.csv")
        yield from _custom(data / "aiconfigurator" / "custom_allreduce_all_systems.csv")
        yield from _llmcompass(data / "llmcompass" / "allreduce_4xA100_nvlink3.csv")
        yield from _vidur(data / "vidur")

    def used(self, rows: Rows) -> Mask:
        """See ``rule``."""
        devices = np.asarray(rows.inputs["devices"], float)
        if rows.operation in HALVED:
            return np.arange(len(rows)) % 2 == 0
        if "profile" in rows.operation:
            return np.zeros(len(rows), bool)
        return np.isin(devices, FITTED_DEVICES)

    def predict(self, rows: Rows) -> Prediction:
        """With the device's parameters of the link, or the class's."""
        device = find_device(rows.device)
        terms = link_terms(device, rows)
        regime, total = terms.regime, terms.total_s
        low, high = link_error_factors(device, str(rows.inputs["link"][0]), regime)
        if (host := HOST_CALLS.get(rows.operation)) is not None:
            floored = total < host.floor_s
            total, regime = np.maximum(total, host.floor_s), np.where(floored, "launch", regime)
            low, high = np.where(floored, host.low, low), np.where(floored, host.high, high)
        bandwidth = wire_of(device, str(rows.inputs["link"][0])).bytes_per_s
        bare = np.asarray(rows.inputs["bytes"], float) / bandwidth
        return Prediction(total, total * low, total * high, regime, {"bytes over bandwidth": bare})


def link_terms(
    device: Device,
    rows: Rows,
    parameters: CollectiveParameters | CustomParameters | None = None,
    constants: CollectiveConstants = CONSTANTS,
) -> LinkTerms:
    """Predicted terms of rows of one operation, with the device's parameters or those given."""
    link = str(rows.inputs["link"][0])
    wire = wire_of(device, link)
    if isinstance(parameters, CollectiveParameters):
        wire = Wire.of(wire.bytes_per_s, wire.topology, parameters)
    size, devices = (np.asarray(rows.inputs[name], float) for name in ("bytes", "devices"))
    kind = str(rows.inputs["kind"][0])
    if kind == "custom":
        own = parameters if isinstance(parameters, CustomParameters) else device.links[link].custom
        assert own is not None  # packaged data
        eager = np.asarray(rows.inputs["eager"], float) > 0
        copy = device.main_memory.bandwidth_bytes_per_s.value
        return custom_all_reduce(size, devices, wire, own, eager=eager, copy_bytes_per_s=copy)
    known = known_kind(kind)
    switched = np.asarray(rows.inputs["adds"], float) > 0
    return collective(known, size, devices, wire, reduces_in_switch=switched, constants=constants)


def known_kind(kind: str) -> Collective:
    """The collective of a name."""
    for name in COLLECTIVES:
        if name == kind:
            return name
    raise ValueError(f"collective must be one of {', '.join(COLLECTIVES)}, not {kind!r}")


def _rows(device: str, operation: str, kind: str, link: str, columns: Array) -> Rows:
    """Columns: bytes, devices, adds, eager, seconds."""
    size, devices, adds, eager, seconds = columns.T
    words = {"kind": np.full(len(size), kind), "link": np.full(len(size), link)}
    numbers = {"bytes": size, "devices": devices, "adds": adds, "eager": eager}
    return Rows(device, operation, {**words, **numbers}, seconds)


def _nccl(path: Path) -> Iterator[Rows]:
    groups: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for row in _lines(path):
        kind = NAMES.get(row["op_name"], row["op_name"])
        size = float(row["message_size"]) * ELEMENT_BYTES[row["nccl_dtype"]]
        values = (size, float(row["num_gpus"]), float(row["nccl_dtype"] != "int8"), 0.0, float(row["latency"]) * 1e-3)
        if row["system"] in SYSTEMS:
            groups.setdefault((SYSTEMS[row["system"]], kind), []).append(values)
    for (device, kind), values in groups.items():
        yield _rows(device, f"{kind} nccl", kind, "nvlink", np.array(values))


def _custom(path: Path) -> Iterator[Rows]:
    """Every key stands twice: the shorter time was replayed from a graph, the longer launched by the framework."""
    groups: dict[str, dict[tuple[float, float], list[float]]] = {}
    for row in _lines(path):
        if row["system"] in SYSTEMS:
            key = (float(row["message_size"]) * ELEMENT_BYTES[row["allreduce_dtype"]], float(row["num_gpus"]))
            groups.setdefault(SYSTEMS[row["system"]], {}).setdefault(key, []).append(float(row["latency"]) * 1e-3)
    for device, keys in groups.items():
        for eager, word in ((0.0, "replayed"), (1.0, "eager")):
            values = [(*key, 1.0, eager, (max if eager else min)(times)) for key, times in keys.items()]
            yield _rows(device, f"custom all_reduce {word}", "custom", "nvlink", np.array(values))


def _llmcompass(path: Path) -> Iterator[Rows]:
    values = [(float(row["bytes"]), 4.0, 1.0, 0.0, float(row["latency_us"]) * 1e-6) for row in _lines(path)]
    if values:
        yield _rows("a100-80", "all_reduce profile LLMCompass", "all_reduce", "nvlink", np.array(values))


def _vidur(folder: Path) -> Iterator[Rows]:
    """Pairs over NVLink; four devices cross PCIe. Times are rounded to 1 us: those below 10 us are left out."""
    places = (
        ("all_reduce", "2", "2", "nvlink", "all_reduce profile pairs", "all_reduce"),
        ("all_reduce", "4", "4", "pcie", "all_reduce pcie", "all_reduce"),
        ("send_recv", "2", "2", "nvlink", "send pairs", "send"),
    )
    for file, workers, per_node, link, operation, kind in places:
        lines = _lines(folder / f"{file}_a100_pairwise_nvlink.csv")
        chosen = [row for row in lines if (row["num_workers"], row["devices_per_node"]) == (workers, per_node)]
        medians = [(float(row["size"]), float(row[f"time_stats.{file}.median"]) * 1e-3) for row in chosen]
        values = [(size, float(workers), 1.0, 0.0, seconds) for size, seconds in medians if seconds >= 1e-5]
        if values:
            yield _rows("a100-80", operation, kind, link, np.array(values))


def _lines(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open() as file:
        return list(csv.DictReader(file))


TABLES = (CollectiveTable(),)
