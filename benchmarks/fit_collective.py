"""Fit collectives to measured rows, set their intervals, and write both into device files and link classes.

    python benchmarks/fit_collective.py --data DIR            print the fits and their errors
    python benchmarks/fit_collective.py --data DIR --write    update device files and link classes too
    python benchmarks/fit_collective.py --data DIR --shared   refit what all links share, and print it

Groups of 2 and 8 devices are fitted; groups of other sizes are never looked at.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import numpy as np

from accuracy_tables import Rows
from accuracy_tables.attention import part
from accuracy_tables.collective import HALVED, HOST_CALLS, TABLES, link_terms
from fit_files import datum, folder, restate
from fitting import arguments, descend, distance
from intervals import SHARE, Ends, Scored, interval, shortest, together, within
from systolith_sim.devices.collective import CONSTANTS, CollectiveConstants, link_class
from systolith_sim.devices.figures import Datum
from systolith_sim.devices.library import find_device
from systolith_sim.devices.parameters import CollectiveParameters, CustomParameters, LinkClass, LinkError
from systolith_sim.devices.toml import device_toml

Parameters = dict[str, float]
START: Parameters = {
    "launch_s": 6e-6, "step_s": 8e-7, "low_latency_share": 0.15, "handover_s": 2e-5, "bandwidth_share": 0.75,
}  # fmt: skip
CUSTOM_START: Parameters = {
    "launch_s": 4.5e-6, "step_s": 2e-7, "share": 0.6, "second_s": 3e-6, "eager_s": 3e-5,
}  # fmt: skip
SWITCH_REDUCES = ("h100-sxm",)
"""Devices whose switch reduced in the measurements (NVLink SHARP)."""
FITTED, SCORED = "fitted_collective", "scored_collective"
ORIGIN = "NCCL and custom all-reduce tables of ai-dynamo/aiconfigurator@095f58a, by benchmarks/fit_collective.py"
PCIE_ORIGIN = "all-reduce of four A100 over PCIe 4 in microsoft/vidur@7d47513, by benchmarks/fit_collective.py"
SAME_LINK = {"h100-sxm": ("h200",)}
"""Devices behind the same links and switches as a measured one."""
LEAST_ROWS = 20
"""A regime with fewer scored rows has no interval."""
PCIE_WIDER = 4.0
"""Exponent on the spread of rows of the one group over PCIe that was measured: stands for all other groups."""
WEIGHTS = {"all_reduce nccl": 2.0}
"""Tensor parallelism is all-reduces: they count twice."""


def figures(fit: Mapping[str, float]) -> dict[str, Datum]:
    return {
        name: Datum.model_construct(value=float(value), source="fitted_collective", confidence="derived")
        for name, value in fit.items()
    }


def bounded(fit: Mapping[str, float]) -> Parameters:
    """No link carries more than its peak."""
    return {name: min(value, 1.0) if name.endswith("share") else value for name, value in fit.items()}


def library_loss(device: str, seen: Sequence[Rows], constants: CollectiveConstants) -> Callable[[Parameters], float]:
    found = find_device(device)

    def loss(trial: Parameters) -> float:
        own = parameters("nccl", trial)
        return sum(
            WEIGHTS.get(rows.operation, 1.0) * distance(link_terms(found, rows, own, constants).total_s, rows.measured)
            for rows in seen
        )

    return loss


def fit_library(
    device: str, seen: Sequence[Rows], constants: CollectiveConstants = CONSTANTS, start: Parameters | None = None
) -> Parameters:
    begin = dict(start or START)
    if device in SWITCH_REDUCES and any(rows.inputs["link"][0] == "nvlink" for rows in seen):
        begin.setdefault("switch_share", 0.6)
    return bounded(descend(library_loss(device, seen, constants), begin))


def fit_custom(device: str, seen: Sequence[Rows]) -> Parameters:
    found = find_device(device)

    def loss(trial: Parameters) -> float:
        own = parameters("custom", trial)
        return sum(distance(link_terms(found, rows, own).total_s, rows.measured) for rows in seen)

    return bounded(descend(loss, CUSTOM_START))


def parameters(family: str, fit: Mapping[str, float]) -> CollectiveParameters | CustomParameters:
    """A fit as the models take it."""
    kind = CustomParameters if family == "custom" else CollectiveParameters
    return kind.model_construct(None, **figures(bounded(fit)))


def tables(data: Path) -> dict[tuple[str, str], list[Rows]]:
    """Rows the fits may see, by device and family."""
    (table,) = TABLES
    found: dict[tuple[str, str], list[Rows]] = {}
    for rows in table.rows(data):
        if (used := table.used(rows)).any() and rows.operation not in HOST_CALLS:
            found.setdefault((rows.device, families(rows)), []).append(part(rows, used))
    return found


def families(rows: Rows) -> str:
    """Which fit predicts rows: nccl, custom or pcie."""
    if rows.inputs["kind"][0] == "custom":
        return "custom"
    return "pcie" if rows.inputs["link"][0] == "pcie" else "nccl"


def report(data: Path, device: str, family: str, fit: Parameters) -> None:
    """Print a fit, and its error on every table that it predicts."""
    (table,) = TABLES
    print(device, family, {name: f"{value:.4g}" for name, value in fit.items()})
    for rows in table.rows(data):
        if rows.device == device and families(rows) == family:
            total = link_terms(find_device(device), rows, parameters(family, fit)).total_s
            off, used = np.abs(total / rows.measured - 1), table.used(rows)
            words = [
                f"{word} {off[mask].mean():.1%}" for word, mask in (("used", used), ("never", ~used)) if mask.any()
            ]
            print(f"  {rows.operation}: {', '.join(words)}")


def report_host(data: Path) -> None:
    """Print what calls from the host spread to, on the rows used: the interval of ``HOST_CALLS``."""
    (table,) = TABLES
    for rows in table.rows(data):
        if (host := HOST_CALLS.get(rows.operation)) is not None:
            floored = link_terms(find_device(rows.device), rows).total_s < host.floor_s
            ratio = rows.measured[table.used(rows) & floored] / host.floor_s
            print(f"{rows.operation}: {len(ratio)} rows at the floor within {shortest(ratio, SHARE)} of it")


def scored(device: str, family: str, seen: Sequence[Rows], fit: Parameters) -> Scored:
    """Rows against their prediction, grouped by operation, number of devices and size within a factor of 8."""
    found: list[Scored] = []
    for rows in seen:
        terms = link_terms(find_device(device), rows, parameters(family, fit))
        band = np.floor(np.log2(np.asarray(rows.inputs["bytes"], float)) / 3)
        group = np.array(
            [f"{rows.operation} {n} {size}" for n, size in zip(rows.inputs["devices"], band, strict=True)]
        )
        empty = np.full(len(rows), "")
        found.append(Scored(rows.measured / terms.total_s, terms.regime, empty, group))
    return together(found)


def errors(
    whole: Scored, widen: float = 1.0, ends: Callable[[Scored], Ends] = interval
) -> tuple[LinkError, ...]:
    """Intervals by regime."""
    found = []
    regimes: tuple[Literal["launch", "link"], ...] = ("launch", "link")
    for word in regimes:
        rows = whole.rows(whole.regimes == word)
        if len(rows.ratio) >= LEAST_ROWS:
            low, high = (round(end**widen, 3) for end in ends(rows))
            found.append(LinkError(regime=word, low=low, high=high, rows=len(rows.ratio), source=SCORED))
    return tuple(found)


def stated(kind: type[CollectiveParameters] | type[CustomParameters], fit: Mapping[str, float]) -> object:
    """A fit as a file states it, to four digits."""
    return kind.model_validate({name: datum(value, FITTED) for name, value in fit.items()})


def write_class(name: str, fit: Parameters, found: tuple[LinkError, ...], origin: str, spread: str) -> None:
    """Parameters and errors of a class of links."""
    family = link_class(name)
    kept = {field: getattr(family, field) for field in family.model_fields_set}
    changed = {
        **kept, "collective": stated(CollectiveParameters, fit), "errors": found,
        "sources": {FITTED: origin, SCORED: spread},
    }  # fmt: skip
    text = device_toml(LinkClass.model_validate(changed))
    (folder() / "links" / f"{name}.toml").write_text(text, "utf-8")


def write(seen: Mapping[tuple[str, str], Sequence[Rows]], fits: Mapping[tuple[str, str], Parameters]) -> None:
    """Device files, and the classes of NVLink and PCIe."""
    libraries = {device: fit for (device, family), fit in fits.items() if family == "nccl"}
    for name, fit in libraries.items():
        device = find_device(name)
        link = device.links["nvlink"].model_copy(
            update={
                "collective": stated(CollectiveParameters, fit),
                "custom": stated(CustomParameters, fits[name, "custom"]),
            }
        )
        off = []
        for family in ("nccl", "custom"):
            groups = [rows for rows in seen[name, family] if rows.operation not in HALVED]
            off.append(scored(name, family, groups, fits[name, family]))
        spread = errors(together(off))
        restate(
            device, {FITTED: ORIGIN, SCORED: f"groups of 2 and 8 in {ORIGIN}"},
            links={**device.links, "nvlink": link}, link_errors=spread,
        )  # fmt: skip
        for twin in SAME_LINK.get(name, ()):
            other = find_device(twin)
            origin = f"measured on {name}, {ORIGIN}"
            restate(other, {FITTED: origin, SCORED: origin}, links={**other.links, "nvlink": link}, link_errors=spread)
    crossed = [
        scored(name, "nccl", seen[name, "nccl"], fit)
        for name in libraries
        for other, fit in libraries.items()
        if other != name
    ]
    origin, other = f"geometric mean, {ORIGIN}", "A100 and H100 each with the other's parameters"
    write_class("nvlink", mean(list(libraries.values())), errors(together(crossed)), origin, other)
    for (device, family), fit in fits.items():
        if family == "pcie":
            spread = errors(scored(device, family, seen[device, family], fit), PCIE_WIDER, within)
            write_class("pcie", fit, spread, PCIE_ORIGIN, f"the one group measured, to the power {PCIE_WIDER}")


def mean(fits: Sequence[Parameters]) -> Parameters:
    """Geometric mean of the figures that all fits have."""
    names = [name for name in fits[0] if all(name in fit for fit in fits)]
    return {name: float(np.exp(np.mean([np.log(fit[name]) for fit in fits]))) for name in names}


def fit_shared(seen: Mapping[tuple[str, str], Sequence[Rows]]) -> CollectiveConstants:
    """What all links share, alternating with each library's own parameters; sends apart."""
    constants, fits = CONSTANTS, dict[str, Parameters]()
    tables = {device: rows for (device, family), rows in seen.items() if family == "nccl"}
    for _ in range(3):
        fits = {device: fit_library(device, rows, constants, fits.get(device)) for device, rows in tables.items()}

        def loss(trial: Parameters, fits: Mapping[str, Parameters] = fits) -> float:
            shared = CollectiveConstants(**bounded(trial))
            return sum(library_loss(device, tables[device], shared)(fit) for device, fit in fits.items())

        constants = CollectiveConstants(**bounded(descend(loss, asdict(constants))))
    return constants


def main() -> None:
    """Fit, print, and with ``--write`` update the files."""
    chosen = arguments(__doc__, write="update device files and link classes",
                       shared="refit what all links share, and print it")
    seen = tables(chosen.data)
    if chosen.shared:
        print(fit_shared(seen))
        return
    fits = {
        (device, family): fit_custom(device, rows) if family == "custom" else fit_library(device, rows)
        for (device, family), rows in seen.items()
    }
    for (device, family), fit in fits.items():
        report(chosen.data, device, family, fit)
    report_host(chosen.data)
    if chosen.write:
        write(seen, fits)


if __name__ == "__main__":
    main()
