"""Scoreboard: how far the cost models are from measurements, per table, device, operation and regime.

    python benchmarks/accuracy.py --data DIR [--table NAME ...] [--json]
    python benchmarks/accuracy.py --data DIR --write     replace these tables in docs/reference/kernel-cost-accuracy.md
    python benchmarks/accuracy.py --schemas              the files expected in DIR, and where to obtain them

Nothing is fitted here: predictions come from the packaged device files. Rows used for fitting and rows never used
are scored apart. Each module of ``accuracy_tables`` adds its kinds of measurement.
"""

import argparse
import importlib
import json
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import accuracy_tables
from accuracy_tables import Array, Mask, Prediction, Rows, Table

DOCS = Path(__file__).resolve().parents[1] / "docs" / "reference" / "kernel-cost-accuracy.md"
SCHEMA = "systolith-accuracy-1"
LEFT_OUT = ", device left out"
"""Ends the names of tables whose device no fit has seen."""


@dataclass(frozen=True)
class Score:
    """One line of the board; shares, not percent."""

    table: str
    device: str
    operation: str
    regime: str
    used: bool
    """Rows that fitting looked at, or rows that it never saw."""
    rows: int
    mape: float
    """Mean of abs(predicted / measured - 1)."""
    median: float
    """Median of the same."""
    bias: float
    """Median of predicted / measured - 1."""
    inside: float
    """Share of measurements inside their 90 % interval."""
    half_width: float
    """Median of (high - low) / (2 predicted)."""
    rivals: dict[str, float]
    """MAPE of simpler models on the same rows."""


def tables(names: Sequence[str] = ()) -> list[Table]:
    """The tables of every module of ``accuracy_tables``, or those named.

    Raises
    ------
    ValueError
        If there is no table of a name.
    """
    modules = sorted(module.name for module in pkgutil.iter_modules(accuracy_tables.__path__))
    found = [
        table
        for module in modules
        for table in getattr(importlib.import_module(f"accuracy_tables.{module}"), "TABLES", ())
    ]
    known = {table.name for table in found}
    for name in names:
        if name not in known:
            raise ValueError(f"--table: {name!r} is unknown: allowed are {', '.join(sorted(known))}")
    return [table for table in found if not names or table.name in names]


def score(table: Table, data: Path) -> Iterator[Score]:
    """Lines of one table: per device and operation, all regimes together and each apart."""
    for rows in table.rows(data):
        used, prediction = table.used(rows), table.predict(rows)
        for seen in (True, False):
            chosen = used if seen else ~used
            regimes = [str(regime) for regime in np.unique(prediction.regime[chosen])]
            for regime in ["all", *regimes]:
                part = chosen if regime == "all" else chosen & (prediction.regime == regime)
                if part.any():
                    yield _line(table, rows, prediction, part, regime, seen)


def _line(table: Table, rows: Rows, prediction: Prediction, part: Mask, regime: str, seen: bool) -> Score:
    truth, value = rows.measured[part], prediction.value[part]
    low, high = prediction.low[part], prediction.high[part]
    return Score(
        table.name, rows.device, rows.operation, regime, seen, int(part.sum()),
        mape=_mape(value, truth),
        median=float(np.median(np.abs(value / truth - 1))),
        bias=float(np.median(value / truth - 1)),
        inside=float(np.mean((low <= truth) & (truth <= high))),
        half_width=float(np.median((high - low) / (2 * value))),
        rivals={name: _mape(rival[part], truth) for name, rival in prediction.rivals.items()},
    )  # fmt: skip


def _mape(predicted: Array, measured: Array) -> float:
    return float(np.mean(np.abs(predicted / measured - 1)))


def markdown(scores: Sequence[Score]) -> str:
    """Scores of one table as Markdown; simpler models in columns of their own."""
    rivals = list(dict.fromkeys(name for line in scores for name in line.rivals))
    names = ["device", "operation", "regime", "rows", "MAPE", "median", "bias", "inside 90 %", "half width"]
    head = [*names, *(f"{name} MAPE" for name in rivals)]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for line in scores:
        cells = [
            line.device, line.operation, line.regime, f"{line.rows}", f"{line.mape:.1%}", f"{line.median:.1%}",
            f"{line.bias:+.1%}", f"{line.inside:.0%}", f"{line.half_width:.0%}",
        ]  # fmt: skip
        others = [f"{line.rivals[name]:.0%}" if name in line.rivals else "" for name in rivals]
        lines.append(f"| {' | '.join([*cells, *others])} |")
    return "\n".join(lines)


def by_regime(scores: Sequence[Score]) -> str:
    """Intervals on rows never used, all operations together: half widths are the median row's, by its line's median."""
    lines = ["| devices | regime | rows | inside 90 % | half width |", "|---|---|---|---|---|"]
    own = [line for line in scores if not line.used and line.regime != "all"]
    for title, left_out in (("as their files are", False), ("left out", True)):
        some = [line for line in own if line.table.endswith(LEFT_OUT) is left_out]
        for regime in sorted({line.regime for line in some}):
            parts = sorted((line for line in some if line.regime == regime), key=lambda line: line.half_width)
            rows = np.array([line.rows for line in parts])
            inside = rows @ [line.inside for line in parts] / rows.sum()
            middle = parts[int(np.searchsorted(rows.cumsum(), rows.sum() / 2))]
            lines.append(f"| {title} | {regime} | {rows.sum()} | {inside:.1%} | {middle.half_width:.0%} |")
    return "\n".join(lines)


def report(table: Table, scores: Sequence[Score]) -> str:
    """One table's section: rows never used first, each regime where there are several."""
    parts = [f"### {table.name}", f"Split {table.rule}."]
    whole = {(line.device, line.operation, line.used): line.rows for line in scores if line.regime == "all"}
    for seen, title in ((False, "Rows never used"), (True, "Rows used for fitting")):
        chosen = [
            line for line in scores
            if line.used is seen and (line.regime == "all" or (not seen and _is_part(line, whole)))
        ]  # fmt: skip
        if chosen:
            parts += [f"{title}:", markdown(chosen)]
    return "\n\n".join(parts)


def _is_part(line: Score, whole: Mapping[tuple[str, str, bool], int]) -> bool:
    return line.rows < whole[line.device, line.operation, line.used]


def schemas() -> str:
    """Files, columns and origins of every table, as Markdown."""
    return "\n".join(
        f"- **{table.name}** ({table.unit}): {table.schema}. {table.origin}." for table in tables()
    )


def between(text: str, name: str) -> str:
    """What stands between the markers of ``name``."""
    return text.split(f"<!-- {name}: begin -->")[1].split(f"<!-- {name}: end -->")[0]


def replace_between(text: str, name: str, part: str) -> str:
    """``text`` with what stands between the markers of ``name`` replaced.

    >>> replace_between("a<!-- x: begin -->old<!-- x: end -->b", "x", "new")
    'a<!-- x: begin -->\\nnew\\n<!-- x: end -->b'
    """
    start, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, rest = text.split(start)
    return f"{before}{start}\n{part}\n{end}{rest.split(end)[1]}"


def board(page: str, picked: Sequence[Table], scores: dict[str, list[Score]]) -> str:
    """Sections of all tables: new ones of those picked, the page's own of the others."""
    old = {part.split("\n", 1)[0]: part.strip() for part in between(page, "board").split("### ")[1:]}
    sections = {table.name: f"### {old[table.name]}" for table in tables() if table.name in old}
    sections |= {table.name: report(table, scores[table.name]) for table in picked}
    return "\n\n".join(sections[table.name] for table in tables() if table.name in sections)


def main() -> None:
    """Score, print, and with ``--write`` update the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of measured rows")
    parser.add_argument("--table", action="append", default=[], help="only this table; may be repeated")
    parser.add_argument("--json", action="store_true", help="a JSON object on stdout and nothing else")
    parser.add_argument("--write", action="store_true", help="replace the tables of the docs page, or those named")
    parser.add_argument("--schemas", action="store_true", help="print what DIR must hold, and stop")
    chosen = parser.parse_args()
    if chosen.schemas:
        print(schemas())
        return
    if chosen.data is None or not chosen.data.is_dir():
        parser.error(f"--data: {chosen.data} is no folder; --schemas says what it must hold")
    try:
        picked = tables(chosen.table)
    except ValueError as error:
        parser.error(str(error))
    scores = {table.name: list(score(table, chosen.data)) for table in picked}
    every = [line for part in scores.values() for line in part]
    if chosen.json:
        print(json.dumps({"schema": SCHEMA, "scores": [asdict(line) for line in every]}, indent=1))
    else:
        print("\n\n".join([*(report(table, scores[table.name]) for table in picked), by_regime(every)]))
    if chosen.write:
        text = replace_between(DOCS.read_text("utf-8"), "schemas", schemas())
        if not chosen.table:
            text = replace_between(text, "regimes", by_regime(every))
        DOCS.write_text(replace_between(text, "board", board(text, picked, scores)), "utf-8")


if __name__ == "__main__":
    main()
