"""Fitted figures into packaged files: only what a script fitted changes, the rest of a file stays."""

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from accuracy_tables import Array, Words
from systolith_model.graph import Format
from systolith_sim.devices.device import Device, Operator, Regime, RegimeError, named_sources
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
    new = Device.model_validate(changed)
    used = {source for _, source in named_sources(new)}
    listed = {key: text for key, text in new.sources.items() if key in used}
    write_device(new.model_copy(update={"sources": listed}), folder() / f"{device.id}.toml")


def restate_floor(device: Device, floor: Datum, source: str) -> None:
    """Write a packaged device with another floor of its power; measured on one, carried over to those of its die."""
    if device.id != "h200":
        note = f"{floor.note}; measured on H200, the same die"
        floor = floor.model_copy(update={"confidence": "derived", "note": note})
    restate(device, {floor.source: source}, power=device.power.model_copy(update={"active_w": floor}))


NARROWER: tuple[Format, ...] = ("tf32", "fp8", "int8", "int4", "fp4")
"""Formats whose operations take the power of those in bf16, unless measured."""
MOST = 2.0
"""Most that an operation may cost over one in bf16: a unit that is all but absent draws no more."""
SAME_POWER = "bf16 times the ratio of their peaks: the same power"
RULE = "derived from other figures of this file, see the note"


def restate_energy(
    device: Device, source: tuple[str, str], per_byte: Datum, per_op: Datum, own: Mapping[str, Datum]
) -> None:
    """Write a packaged device with another energy of a byte of main memory and of an operation in bf16.

    Parameters
    ----------
    source : (str, str)
        Key and text of the source that the figures name.
    own : mapping
        By format, energies that have a source of their own; the others of ``NARROWER`` follow their peaks.
    """
    energies, peaks = {**device.op_energy_j, "bf16": per_op, "fp16": per_op, **own}, device.peak_ops_per_s
    energies = {name: item for name, item in energies.items() if name in device.op_energy_j}
    for name in NARROWER:
        if name not in energies or name in own:
            continue
        factor = min((peaks.get("bf16") or peaks["fp16"]).value / peaks[name].value, MOST)
        low, high = per_op.interval
        low, value, high = (float(f"{factor * end:.4g}") for end in (low, per_op.value, high))
        energies[name] = Datum(value=value, low=low, high=high, source="rule", confidence="derived", note=SAME_POWER)
    main = device.main_memory.model_copy(update={"energy_j_per_byte": per_byte})
    memories = {**device.memories, "main": main}
    restate(device, {source[0]: source[1], "rule": RULE}, op_energy_j=energies, memories=memories)
