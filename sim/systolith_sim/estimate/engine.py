"""Inference engines: what belongs to the software around the kernels, at most two constants each, from files."""

import tomllib
from functools import cache
from importlib import resources
from typing import Annotated

from pydantic import Field, PositiveInt, ValidationError

from systolith_sim.devices.device import Device
from systolith_sim.devices.figures import Datum, Strict, tuples

NONE = "none"
"""The engine that adds nothing: kernels of the graph, one after the other."""


class ScoredError(Strict):
    """End-to-end error on measurements that no fit has seen: quantiles of measured over predicted seconds."""

    low: Annotated[float, Field(gt=0, le=1)]
    """5 % quantile of measured / predicted, at most 1."""
    high: Annotated[float, Field(ge=1)]
    """95 % quantile of measured / predicted, at least 1."""
    mape: Annotated[float, Field(ge=0)]
    """Mean of abs(predicted / measured - 1)."""
    rows: PositiveInt
    """Measured rows scored."""
    source: str
    """Key of ``sources``."""


class Engine(Strict):
    """One inference engine of one version."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
    """Name on the command line."""
    name: str
    """Full name, with the version its constants speak for."""
    note: str = ""
    """What a reader must know."""
    sources: dict[str, str]
    """Documents and measurements, by the key the figures use."""
    fuses: bool
    """Runs the kernels of ``fusion.fused`` instead of one an operation."""
    launch_share: Datum
    """Share of the kernels' start and end that is not hidden behind their neighbours. First constant."""
    sequence_s: Datum
    """Time a sequence adds to every step: scheduling, sampling, page tables. Second constant."""
    group_step_s: Datum
    """Time every step takes more where a tensor parallel group works in step, beside its messages."""
    memory_share: Datum
    """Share of a device's memory that weights, cache and activations may take together."""
    errors: tuple[ScoredError, ...] = ()
    """Scored with the model under test left out of the fit."""

    def cite(self, datum: Datum) -> str:
        """Source of a figure in words, with its confidence."""
        return f"{self.sources[datum.source]} ({datum.confidence})"


def engine_names() -> list[str]:
    """Engines there are, sorted."""
    return sorted(_packaged())


def find_engine(name: str) -> Engine:
    """An engine by its name.

    Raises
    ------
    ValueError
        If there is none: the sentence lists the names there are.
    """
    if name not in _packaged():
        raise ValueError(f"engine must be one of {', '.join(engine_names())}, not {name!r}")
    return _packaged()[name]


def default_engine(device: Device) -> str:
    """vLLM on a GPU; elsewhere no engine was measured."""
    return "vllm" if device.kind == "gpu" else NONE


def parse_engine(text: str, origin: str) -> Engine:
    """An engine from the text of its file.

    Raises
    ------
    ValueError
        If a field is missing or wrong: names file, field and what is wrong with it.
    """
    try:
        return Engine.model_validate(tuples(tomllib.loads(text)))
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{origin}: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from None


@cache
def _packaged() -> dict[str, Engine]:
    folder = resources.files("systolith_sim.estimate") / "engines"
    files = sorted((item for item in folder.iterdir() if item.name.endswith(".toml")), key=lambda item: item.name)
    engines = (parse_engine(item.read_text("utf-8"), item.name) for item in files)
    return {engine.id: engine for engine in engines}
