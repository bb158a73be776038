"""RunResults: everything one run of the main job found, as data; page and ``results.json`` are made of it."""

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError

from systolith_sim.devices.figures import Figure
from systolith_sim.devices.timeline import Span

SCHEMA_ID: Literal["systolith.run-results/1"] = "systolith.run-results/1"
"""Name and version of the format; a field that changes its meaning raises the version."""


class _Result(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        populate_by_name=True,
        serialize_by_alias=True,
    )


class CoreInfo(_Result):
    """The core that ran."""

    name: str
    """Preset, or stem of the file."""
    rows: PositiveInt
    """Processing elements along K."""
    cols: PositiveInt
    """Processing elements along N."""
    port_bytes: PositiveInt
    """Memory port, bytes a cycle."""
    clock_hz: Figure
    """Clock the cycles are turned into seconds with, and where it comes from."""
    config: dict[str, int | float | bool | str] = {}
    """All fields of the CoreConfig."""
    memory: dict[str, int] = {}
    """Memory behind the port: latency, burst_overhead, write_latency, in cycles."""


class LayerResult(_Result):
    """One operation of the model, as it ran on the core."""

    name: str
    """Place in the model."""
    m: PositiveInt
    """Activation rows."""
    k: PositiveInt
    """Depth of the product."""
    n: PositiveInt
    """Outputs of a row."""
    cycles: PositiveInt
    """On RTL, start write to done status."""
    model_cycles: PositiveInt | None = None
    """By the cycle model; None where it did not run."""
    bound_cycles: PositiveInt | None = None
    """No schedule can be faster."""
    bit_exact: bool
    """Every bit equals the integer contract."""
    utilization: Annotated[float, Field(ge=0, le=1)]
    """Multiply-accumulates over peak x cycles."""
    busy_utilization: Annotated[float, Field(ge=0, le=1)] | None = None
    """The same from the first to the last row entering the array."""
    stalls: dict[str, dict[str, NonNegativeInt]] = {}
    """{queue: {cause: cycles}}."""
    sqnr_db: float | None = None
    """Signal to quantization noise of the result against float, decibels."""
    cosine: Annotated[float, Field(ge=-1, le=1)] | None = None
    """Cosine of the result against float."""
    seconds: Annotated[float, Field(gt=0)]
    """Cycles at the core's clock."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.m * self.k * self.n


class OperationResult(_Result):
    """One operation on one device."""

    name: str
    """As in the graph."""
    count: PositiveInt = 1
    """Identical operations."""
    latency_s: Figure
    """Of one."""
    bound_by: str
    """launch, memory or compute; cycles for the core."""
    flops: NonNegativeInt
    """Of one, two a multiply-accumulate."""
    bytes: NonNegativeInt
    """Of one."""


class DeviceResult(_Result):
    """The same operations on one device."""

    id: str
    """As on the command line."""
    name: str
    """Full name."""
    kind: Literal["cpu", "gpu", "tpu", "fpga"]
    """Kind of machine."""
    format: str
    """Format of weights and activations it computes in."""
    latency_s: Figure
    """All operations, one after the other."""
    energy_j: Figure | None = None
    """All operations; None where no figure supports one."""
    energy_note: str = ""
    """Why there is no energy."""
    operations: tuple[OperationResult, ...] = ()
    """In the order of the graph."""
    figures: dict[str, Figure] = {}
    """Figures of the device that the models read, by their place in its file."""
    sources: dict[str, str] = {}
    """Documents behind the device's figures."""
    note: str = ""
    """What a reader must know."""


class RunResults(_Result):
    """One run of the main job."""

    schema_id: Literal["systolith.run-results/1"] = Field(default=SCHEMA_ID, alias="schema")
    """Name and version of this format."""
    title: str
    """Headline of the report."""
    model: str
    """Model that ran, and its checkpoint."""
    workload: str
    """What was asked of it: tokens, layers, formats."""
    created: str = ""
    """Date and time, ISO 8601."""
    command: str = ""
    """Command that repeats the run."""
    versions: dict[str, str] = {}
    """Software by name."""
    core: CoreInfo
    """The core that ran."""
    layers: tuple[LayerResult, ...]
    """What ran on it, in order."""
    devices: tuple[DeviceResult, ...]
    """The same on other machines; the core itself is one of them."""
    quality: dict[str, Figure] = {}
    """Of the whole model: perplexity and the like."""
    timeline: tuple[Span, ...] = ()
    """Queues of the core; tracks are queue names."""
    notes: tuple[str, ...] = ()
    """What a reader must know before quoting a figure."""

    @property
    def cycles(self) -> int:
        """Cycles of all layers."""
        return sum(layer.cycles for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all layers."""
        return sum(layer.macs for layer in self.layers)


def write_results(results: RunResults, path: Path) -> None:
    """Write ``results.json``, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(results.model_dump_json(indent=1, by_alias=True) + "\n", "utf-8")
    partial.replace(path)


def read_results(path: Path) -> RunResults:
    """Read ``results.json`` back.

    Raises
    ------
    ValueError
        If the file does not follow the schema: names the field and what is wrong with it.
    """
    try:
        return RunResults.model_validate_json(path.read_text("utf-8"))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "file"
        raise ValueError(f"{path}: {field}: {first['msg']}") from None


def json_schema() -> str:
    """JSON Schema of ``results.json``; the packaged copy is systolith_sim/schemas/run-results-1.json."""
    schema = RunResults.model_json_schema(by_alias=True, mode="serialization")
    return json.dumps({"$id": SCHEMA_ID, **schema}, indent=1, sort_keys=True) + "\n"
