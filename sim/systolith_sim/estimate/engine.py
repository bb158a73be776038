"""Inference engines: what belongs to the software around the kernels, few constants each, from files."""

import tomllib
from functools import cache
from importlib import resources
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, ValidationError

from systolith_sim.devices.device import Device
from systolith_sim.devices.figures import Datum, Strict, tuples

NONE = "none"
"""The engine that adds nothing: kernels of the graph, one after the other."""


CARRIED_OVER = 2**0.5
"""Width of an error, in logarithm, on a device that the engine was not measured on: that of the fit, and as much again
for carrying it over, independent of each other. Declared, not measured."""


class ScoredError(Strict):
    """End-to-end error on measurements that no fit has seen: quantiles of measured over predicted seconds."""

    device: str
    """Id of the device that was measured."""
    tp: PositiveInt = 1
    """Narrowest tensor parallel group it speaks for, up to that of the next entry."""
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
    mixes: bool
    """Prompts that enter share a pass with the decode step of those in flight, instead of taking one of their own."""
    pass_tokens: PositiveInt | None = None
    """Most tokens of a pass, so of prompts that enter together; null where nothing was stated."""
    all_reduce: Literal["library", "own"]
    """Who sums over a tensor parallel group: the collectives' library, or a kernel of the engine's own where the
    device's link has parameters of one."""
    launch_share: Datum
    """Share of the kernels' start and end that is not hidden behind their neighbours. First constant."""
    sequence_s: Datum
    """Time a sequence adds to every step: scheduling, sampling, page tables. Second constant."""
    step_s: Datum
    """Time every step takes beside its kernels: sampling, inputs, the gap to the next step."""
    eager_operation_s: Datum
    """Host time of launching one operation of a pass with prompts, where graphs cover decode steps alone: such a pass
    takes at least the sum over its operations and messages."""
    group_step_s: Datum
    """Time every step takes more where a tensor parallel group works in step, beside its messages."""
    memory_share: Datum
    """Share of a device's memory that weights, cache and activations may take together."""
    errors: tuple[ScoredError, ...] = ()
    """Scored with the model under test left out of the fit."""

    def error_factors(self, device: Device, tp: int) -> tuple[float, float]:
        """(low, high) factors of the 90 % interval of a group of ``tp`` devices; (1, 1) where nothing was scored."""
        spoken = [error for error in self.errors if error.tp <= tp]
        if not spoken:
            return 1.0, 1.0
        error = max(spoken, key=lambda error: error.tp)
        power = 1.0 if error.device == device.id else CARRIED_OVER
        return error.low**power, error.high**power

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
