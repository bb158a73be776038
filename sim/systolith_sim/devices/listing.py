"""Devices for people and programs: a row each, or every figure of one with its interval and source."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from systolith_model.graph import Format
from systolith_sim.devices.classes import class_of
from systolith_sim.devices.device import Device, DeviceKind, RegimeError, figures_of, published_figures, unit_of
from systolith_sim.devices.figures import Confidence, Datum, Figure
from systolith_sim.devices.library import device_names, find_device, user_folder
from systolith_sim.devices.products import parameters_of

LIST_SCHEMA: Literal["systolith.devices/1"] = "systolith.devices/1"
DEVICE_SCHEMA: Literal["systolith.device/1"] = "systolith.device/1"
TRUST: tuple[Confidence, ...] = ("read", "measured", "derived", "recalled")
"""Confidences, the most trusted first."""
HEADLINE: tuple[Format, ...] = ("bf16", "fp16", "int8", "fp32")
"""Formats whose peak stands for a device, in order of choice."""


class _Output(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, populate_by_name=True,
                              serialize_by_alias=True)


class DeviceRow(_Output):
    """One device of the list."""

    id: str
    """Short name."""
    name: str
    """Full name."""
    kind: DeviceKind
    """cpu, gpu, tpu or fpga."""
    aliases: tuple[str, ...]
    """Other names it answers to."""
    own: bool
    """Whether it comes from the user's folder."""
    units: str
    """How many of what work in parallel."""
    peak_ops_per_s: dict[str, float]
    """Dense, by format, two operations a multiply-accumulate."""
    memory_bytes: float
    """Of the main memory."""
    bandwidth_bytes_per_s: float
    """Of the main memory."""
    tdp_w: float | None
    """Limit of the power."""
    price_usd_per_hour: float | None
    """On demand."""
    confidence: Confidence
    """The weaker of peak and bandwidth."""
    kernel: str
    """Where the parameters of its kernels come from."""


class DeviceList(_Output):
    """All devices there are."""

    schema_id: Literal["systolith.devices/1"] = Field(default=LIST_SCHEMA, alias="schema")
    """Name and version of this format."""
    folder: str
    """Where a user's own files are found."""
    devices: tuple[DeviceRow, ...]
    """By id."""


class DeviceDetails(_Output):
    """One device with every figure."""

    schema_id: Literal["systolith.device/1"] = Field(default=DEVICE_SCHEMA, alias="schema")
    """Name and version of this format."""
    device: DeviceRow
    """As in the list."""
    note: str
    """What a reader must know before trusting the figures."""
    figures: dict[str, Figure]
    """By dotted path as in the file, with unit, interval and source."""
    kernel_figures: dict[str, Figure]
    """Parameters of the kernel models, its own or its class's."""
    errors: tuple[RegimeError, ...]
    """Scored error by operation and regime, its own or its class's; ``low`` and ``high`` are the interval's factors."""


def list_devices() -> DeviceList:
    """Rows of all devices.

    Raises
    ------
    DeviceError
        If a file of the user's folder is wrong.
    """
    return DeviceList(folder=str(user_folder()), devices=tuple(row(find_device(name)) for name in device_names()))


def row(device: Device) -> DeviceRow:
    """A device in one row."""
    peaks, memory = device.peak_ops_per_s, device.main_memory
    headline = next((peaks[name] for name in HEADLINE if name in peaks), next(iter(peaks.values())))
    weaker = max((headline, memory.bandwidth_bytes_per_s), key=lambda datum: TRUST.index(datum.confidence))
    limit, price = device.power.tdp_w, device.price_usd_per_hour
    return DeviceRow(
        id=device.id, name=device.name, kind=device.kind, aliases=device.aliases,
        own=Path(user_folder() / f"{device.id}.toml").is_file(), units=f"{device.units.count} {device.units.name}",
        peak_ops_per_s={name: datum.value for name, datum in peaks.items()},
        memory_bytes=memory.size_bytes.value, bandwidth_bytes_per_s=memory.bandwidth_bytes_per_s.value,
        tdp_w=limit.value if limit else None, price_usd_per_hour=price.value if price else None,
        confidence=weaker.confidence, kernel=_kernel(device),
    )  # fmt: skip


def details(device: Device) -> DeviceDetails:
    """Everything about a device."""
    family = class_of(device.kind)
    errors, sources = (device.errors, device.sources) if device.errors else (family.errors, family.sources)
    named = tuple(error.model_copy(update={"source": sources[error.source]}) for error in errors)
    return DeviceDetails(device=row(device), note=device.note, figures=published_figures(device),
                         kernel_figures={} if device.core else _kernel_figures(device), errors=named)


def _kernel(device: Device) -> str:
    if device.core is not None:
        return f"cycle model of the {device.core.preset} core"
    if device.kernel is not None:
        return "its own"
    if device.same_die:
        return f"of {device.same_die}, the same die"
    return f"of the {device.kind} class" + (", with published shares of the peaks" if device.achieved else "")


def _kernel_figures(device: Device) -> dict[str, Figure]:
    sibling = find_device(device.same_die) if device.same_die and not device.kernel else device
    sources: Mapping[str, str] = sibling.sources if sibling.kernel else device.sources | class_of(device.kind).sources
    return {path: _figure(path, datum, sources) for path, datum in figures_of(parameters_of(device), "kernel")}


def _figure(path: str, datum: Datum, sources: Mapping[str, str]) -> Figure:
    low, high = datum.interval
    how = "measured" if datum.confidence == "measured" else "derived"
    source = f"{sources[datum.source]} ({datum.confidence})" + (f": {datum.note}" if datum.note else "")
    return Figure(value=datum.value, unit=unit_of(path), how=how, source=source, low=low, high=high)
