"""Fitted figures into packaged files: only what a script fitted changes, the rest of a file stays."""

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from accuracy_tables import Array, Words
from systolith_sim.devices.device import Device, Operator, Regime, RegimeError
from systolith_sim.devices.figures import Datum
from systolith_sim.devices.library import write_device

LEAST_ROWS = 20
"""A regime with fewer scored rows takes the interval of its operator as a whole."""


INSIDE = 0.94
"""Share of the fit's rows inside an interval meant for 90 % of others."""


def folder() -> Path:
    """Where the packaged device files lie."""
    return Path(str(resources.files("systolith_sim.devices") / "data"))


def datum(value: float, source: str) -> Datum:
    """A fitted figure, to four digits."""
    return Datum(value=float(f"{value:.4g}"), source=source, confidence="derived")


def shortest(ratio: Array, widen: float = 1.0, inside: float = INSIDE) -> tuple[float, float]:
    """Ends of the shortest interval, in logarithm, that holds ``inside`` of measured over predicted, and 1.

    Outliers stand on one side (a slow replay), where quantiles of both ends would waste width. ``widen`` is an
    exponent.
    """
    ordered = np.sort(np.log(ratio))
    held = int(np.ceil(inside * len(ordered)))
    first = int((ordered[held - 1 :] - ordered[: len(ordered) - held + 1]).argmin())
    low, high = np.exp(widen * ordered[[first, first + held - 1]])
    return round(float(min(low, 1.0)), 3), round(float(max(high, 1.0)), 3)


def regime_errors(
    operator: Operator, ratio: Array, regimes: Words, groups: Words, source: str, *, widen: float = 1.0
) -> tuple[RegimeError, ...]:
    """Errors by regime from measured over predicted; the widest of the groups that have enough rows."""
    found: list[RegimeError] = []
    words: tuple[Regime, ...] = ("launch", "memory", "compute")
    for word in words:
        chosen = ratio[regimes == word]
        if len(chosen) >= LEAST_ROWS:
            own = groups[regimes == word]
            parts = [part for name in np.unique(own) if len(part := chosen[own == name]) >= LEAST_ROWS]
            ends = [shortest(part, widen) for part in parts or [chosen]]
            low, high = min(low for low, _ in ends), max(high for _, high in ends)
            found.append(
                RegimeError(
                    operator=operator, regime=word, low=low, high=high, rows=len(chosen), source=source,
                    mape=round(float(np.mean(np.abs(1 / chosen - 1))), 4),
                )
            )  # fmt: skip
    return tuple(found)


def other_errors(errors: Sequence[RegimeError], operator: Operator) -> tuple[RegimeError, ...]:
    """Errors of every other operator."""
    return tuple(error for error in errors if error.operator != operator)


def restate(device: Device, sources: Mapping[str, str], **fields: object) -> None:
    """Write a packaged device with some fields and sources replaced."""
    kept = {name: getattr(device, name) for name in device.model_fields_set}
    changed = {**kept, **fields, "sources": {**device.sources, **sources}}
    write_device(Device.model_validate(changed), folder() / f"{device.id}.toml")
