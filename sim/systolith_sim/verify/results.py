"""What ``systolith rtl`` prints with ``--json``."""

import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

GEMM_SCHEMA: Literal["systolith.rtl-gemm/1"] = "systolith.rtl-gemm/1"
CAMPAIGN_SCHEMA: Literal["systolith.rtl-campaign/1"] = "systolith.rtl-campaign/1"


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, populate_by_name=True,
                              serialize_by_alias=True)


class MemoryInfo(_Result):
    """The memory behind the port, cycles."""

    latency: int
    """From a read's acceptance to its first beat."""
    port_bytes: int
    """Bytes of a beat."""
    burst_overhead: int
    """Cycles of a burst beyond its beats."""
    write_latency: int
    """From a write's last beat to its response."""


class GemmResult(_Result):
    """One GEMM on the RTL."""

    schema_id: Literal["systolith.rtl-gemm/1"] = Field(default=GEMM_SCHEMA, alias="schema")
    """Name and version of this format."""
    core: str
    """Preset or file."""
    m: int
    """Rows of activations."""
    k: int
    """Depth of the product."""
    n: int
    """Outputs of a row."""
    macs: int
    """m * k * n."""
    peak_macs_per_cycle: int
    """rows * cols of the core."""
    cycles: int
    """On RTL, start pulse to done."""
    model_cycles: int
    """By the cycle model; an estimate with random stalls."""
    bound_cycles: int
    """No schedule can be faster: the longer of passes and port traffic, plus start-up."""
    bit_exact: bool
    """Every byte equals the integer contract."""
    array_utilization: float
    """macs / (peak * cycles)."""
    busy_utilization: float
    """macs / (peak * cycles from the first to the last row entering the array)."""
    stalls: dict[str, dict[str, int]]
    """{queue: {cause: cycles}}, counted by the RTL."""
    model_stalls: dict[str, dict[str, int]] | None
    """The same by the cycle model; null with random stalls."""
    memory: MemoryInfo
    """Memory behind the port."""
    simulated_cycles_per_s: float
    """Cycles of RTL per second of wall time."""
    build_s: float
    """Seconds to compile the RTL, or to find it compiled."""
    seed: int
    """Of the data."""
    stall_seed: int | None
    """Of the random memory; null with the deterministic one."""

    @property
    def exact(self) -> bool:
        """Bits equal, and, where the contract defines them, cycles and stalls."""
        return self.bit_exact and (self.stall_seed is not None or (
            self.cycles == self.model_cycles and self.stalls == self.model_stalls))


class CampaignResult(_Result):
    """Random GEMMs on a list of cores."""

    schema_id: Literal["systolith.rtl-campaign/1"] = Field(default=CAMPAIGN_SCHEMA, alias="schema")
    """Name and version of this format."""
    seed: int
    """Of the campaign; case i of core c depends on (seed, c, i) alone."""
    stalls: bool
    """Whether the memory stalled at random."""
    cores: dict[str, int]
    """Cases run on each core."""
    cases: int
    """Cases run."""
    cycles: int
    """RTL cycles of all of them."""
    bit_mismatches: int
    """Cases with a wrong byte."""
    cycle_mismatches: int
    """Cases in which cycles or a stall counter differ from the model, which plays the waits of a random memory too."""
    model_error: float | None
    """With random stalls: mean absolute relative error of an estimate from mean waits, over long runs; else null."""
    long_runs: int
    """Runs of at least 20,000 cycles."""
    failures: list[str]
    """What repeats each failing case."""


def schema_text(model: type[BaseModel]) -> str:
    """JSON Schema of a result; the packaged copies are in systolith_sim/schemas."""
    schema = model.model_json_schema(by_alias=True, mode="serialization")
    return json.dumps({"$id": model.model_fields["schema_id"].default, **schema}, indent=1, sort_keys=True) + "\n"
