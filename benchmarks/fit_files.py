"""Fitted figures into packaged files: only what a script fitted changes, the rest of a file stays."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np

from intervals import Ends, Scored, interval, mirrored
from systolith_model.graph import Format
from systolith_sim.devices.device import REGIMES, Device, Operator, Regime, RegimeError, named_sources
from systolith_sim.devices.figures import Datum
from systolith_sim.devices.library import write_device

LEAST_ROWS = 50
"""A regime, or a case of it, with fewer scored rows has no interval of its own."""
LEAST_GROUPS = 3
"""The same for groups."""


def folder() -> Path:
    """Where the packaged device files lie."""
    return Path(str(resources.files("systolith_sim.devices") / "data"))


def datum(value: float, source: str) -> Datum:
    """A fitted figure, to four digits."""
    return Datum(value=float(f"{value:.4g}"), source=source, confidence="derived")


def regime_errors(
    operator: Operator,
    scored: Scored,
    source: str,
    *,
    form: str = "",
    widen: float = 1.0,
    least: int = LEAST_ROWS,
    ends: Callable[[Scored], Ends] = interval,
) -> tuple[RegimeError, ...]:
    """Intervals by regime, and by case of it; a case with too few rows takes the interval of the whole regime.

    Parameters
    ----------
    form : str
        Format that the rows were measured in, as in ``RegimeError``.
    widen : float
        Exponent on both ends.
    least : int
        Least rows of an interval.
    ends : callable
        Interval of rows that belong together.
    """

    def error(rows: Scored, word: Regime, case: str) -> RegimeError:
        low, high = (round(end**widen, 3) for end in ends(rows))
        named = {"format": form} if form else {}
        named |= {"case": case} if case else {}
        return RegimeError.model_validate(
            {
                "operator": operator, **named, "regime": word, "low": low, "high": high, "mape": round(rows.mape, 4),
                "rows": len(rows.ratio), "source": source,
            }
        )  # fmt: skip

    def enough(rows: Scored) -> bool:
        return len(rows.ratio) >= least and len(np.unique(rows.groups)) >= min(LEAST_GROUPS, kinds)

    found: list[RegimeError] = []
    kinds = len(np.unique(scored.groups))
    for word in REGIMES:
        whole = scored.rows(scored.regimes == word)
        parts = {str(case): whole.rows(whole.cases == case) for case in np.unique(whole.cases)}
        alone = {case: rows for case, rows in parts.items() if case and enough(rows)}
        found += [error(rows, word, case) for case, rows in alone.items()]
        if len(alone) < len(parts) and enough(whole):
            found.append(error(whole, word, ""))
    return tuple(found)


def pooled_errors(
    operator: Operator, scored: Scored, source: str, *, widen: float = 1.0, others: bool = False
) -> tuple[RegimeError, ...]:
    """One interval for every regime, from the rows of all: where groups are too few to set one for each.

    ``others`` says that it is for devices that were not measured, which may err on the other side.
    """

    def ends(rows: Scored) -> Ends:
        return mirrored(interval(rows)) if others else interval(rows)

    return tuple(
        error
        for regime in REGIMES
        for error in regime_errors(
            operator, replace(scored, regimes=np.full(len(scored.ratio), regime)), source, widen=widen, ends=ends
        )
    )


def widest(parts: Iterable[Sequence[RegimeError]]) -> tuple[RegimeError, ...]:
    """Of intervals that each of several devices needs, those that hold all of them, by format, regime and case."""
    found: dict[tuple[str, str, str, str], RegimeError] = {}
    for error in (error for part in parts for error in part):
        key = (error.operator, error.format, error.regime, error.case)
        if (other := found.get(key)) is not None:
            rows = error.rows + other.rows
            error = error.model_copy(
                update={
                    "low": min(error.low, other.low), "high": max(error.high, other.high), "rows": rows,
                    "mape": round((error.mape * error.rows + other.mape * other.rows) / rows, 4),
                }
            )  # fmt: skip
        found[key] = error
    return tuple(found.values())


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
