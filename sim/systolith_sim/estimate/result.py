"""EstimateResult: what ``systolith estimate`` says of one device, as data; the JSON is a list of these."""

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA: Literal["systolith.estimate/1"] = "systolith.estimate/1"
"""Name and version of the format; a field that changes its meaning raises the version."""


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, populate_by_name=True, serialize_by_alias=True
    )


class Parallel(_Part):
    """How the model is dealt to the devices."""

    tp: int = Field(ge=1)
    """Tensor parallel width."""
    pp: int = Field(ge=1)
    """Pipeline stages."""
    dp: int = Field(ge=1)
    """Replicas."""
    ep: int = Field(ge=1)
    """Expert parallel width."""


class MemoryBytes(_Part):
    """Bytes on the fullest device."""

    weights: float = Field(ge=0)
    """Parameters; in training with gradients and optimizer states."""
    kv: float = Field(ge=0)
    """Keys and values of all sequences at their end."""
    activations: float = Field(ge=0)
    """Tensors alive at once beside those."""
    total: float = Field(ge=0)
    """All of it."""


class EstimateResult(_Part):
    """One model on one kind of device. A figure that no source supports is null; ``provenance`` says why."""

    schema_id: Literal["systolith.estimate/1"] = Field(default=SCHEMA, alias="schema")
    """Name and version of this format."""
    model: str
    """As asked for."""
    device: str
    """Id of the device."""
    devices: int = Field(ge=1)
    """How many of it."""
    parallel: Parallel
    """How the model is dealt to them."""
    format: str
    """Number formats: weights/activations/key-value cache."""
    engine: str
    """Software around the kernels."""
    ttft_s: float | None = Field(ge=0)
    """Start to the first token of every sequence; null in training."""
    tpot_s: float | None = Field(ge=0)
    """Mean time of each later token; null in training and where only one token is generated."""
    total_s: float = Field(ge=0)
    """Start to the last token of the batch; in training one iteration."""
    tokens_per_s: float = Field(ge=0)
    """Generated tokens of all sequences over ``total_s``; in training, tokens of the batch."""
    energy_j: float | None = Field(ge=0)
    """All devices over ``total_s``, without their hosts."""
    energy_j_per_token: float | None = Field(ge=0)
    """Per generated token; in training, per token of the batch."""
    power_w: float | None = Field(ge=0)
    """Mean of all devices together, without their hosts."""
    host_power_w: float | None = Field(default=None, ge=0)
    """Of the devices' share of the machines around them: processors, memory, adapters, fans, losses of the supply."""
    energy_with_host_j: float | None = Field(default=None, ge=0)
    """``pue`` times devices and that share of their hosts, over ``total_s``."""
    energy_with_host_j_per_token: float | None = Field(default=None, ge=0)
    """The same per token, counted as in ``energy_j_per_token``."""
    pue: float = Field(default=1.0, ge=1)
    """Energy of the building over that of its machines, as given; 1 counts the machines alone."""
    price_usd_per_million_tokens: float | None = Field(ge=0)
    """Per million generated tokens; in training, per million tokens of the batch."""
    carbon_g_per_million_tokens: float | None = Field(default=None, ge=0)
    """Grams of CO2 equivalent where the grid's are given: energy with hosts, else of the devices, times ``pue``."""
    memory_bytes: MemoryBytes
    """On the fullest device."""
    fits: bool
    """Whether that is within what the engine may use."""
    bound_by: str = Field(pattern="^(launch|memory|compute|link|engine|bubble)$")
    """What takes most of the time."""
    interval: dict[str, tuple[float, float]]
    """{field: [low, high]}: 90 % of measurements where the regime was scored."""
    provenance: dict[str, Any]
    """{topic: sentence or list of sources}: where the figures come from; ``fit`` says what would make it fit."""


def kind_of(result: EstimateResult) -> str:
    """What a result describes, for headings."""
    if result.ttft_s is None:
        return "training step"
    return "closed loop" if "served" in result.provenance else "static batch"


def json_schema() -> str:
    """JSON Schema of the command's output; the packaged copy is systolith_sim/schemas/estimate-1.json."""
    item = EstimateResult.model_json_schema(by_alias=True, mode="serialization")
    definitions = item.pop("$defs")
    schema = {"$id": SCHEMA, "type": "array", "minItems": 1, "items": item, "$defs": definitions}
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"


def results_json(results: list[EstimateResult]) -> str:
    """The list that the command prints."""
    return json.dumps([result.model_dump(mode="json", by_alias=True) for result in results])
