"""Fit collectives to measured rows, set their intervals, and write both into device files and link classes.

    python benchmarks/fit_collective.py --data DIR            print the fits and their errors
    python benchmarks/fit_collective.py --data DIR --write    update device files and link classes too
    python benchmarks/fit_collective.py --data DIR --shared   refit what all links share, and print it

Groups of 2 and 8 devices are fitted; groups of other sizes are never looked at.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from accuracy_tables import Array, Rows, Words
from accuracy_tables.attention import part
from accuracy_tables.collective import TABLES, link_terms

from fit_devices import descend, distance
from systolith_sim.devices.collective import CONSTANTS, CollectiveConstants
from systolith_sim.devices.figures import Datum
from systolith_sim.devices.library import find_device
from systolith_sim.devices.parameters import CollectiveParameters, CustomParameters

Parameters = dict[str, float]
START: Parameters = {
    "launch_s": 6e-6, "step_s": 8e-7, "low_latency_share": 0.15, "handover_s": 2e-5, "bandwidth_share": 0.75,
}  # fmt: skip
CUSTOM_START: Parameters = {
    "launch_s": 4.5e-6, "step_s": 2e-7, "share": 0.6, "second_s": 3e-6, "eager_s": 3e-5,
}  # fmt: skip
SWITCH_REDUCES = ("h100-sxm",)
"""Devices whose switch reduced in the measurements (NVLink SHARP)."""
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


def library_loss(
    device: str, seen: Sequence[Rows], constants: CollectiveConstants
) -> Callable[[Parameters], float]:
    found = find_device(device)

    def loss(trial: Parameters) -> float:
        stated = CollectiveParameters.model_construct(**figures(bounded(trial)))
        return sum(
            WEIGHTS.get(rows.operation, 1.0)
            * distance(link_terms(found, rows, stated, constants).total_s, rows.measured)
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
        stated = CustomParameters.model_construct(**figures(bounded(trial)))
        return sum(distance(link_terms(found, rows, stated).total_s, rows.measured) for rows in seen)

    return bounded(descend(loss, CUSTOM_START))


def tables(data: Path) -> dict[tuple[str, str], list[Rows]]:
    """Rows the fits may see, by device and family: nccl, custom or pcie."""
    (table,) = TABLES
    found: dict[tuple[str, str], list[Rows]] = {}
    for rows in table.rows(data):
        if "profile" in rows.operation:
            continue
        family = "custom" if "custom" in rows.operation else "pcie" if "pcie" in rows.operation else "nccl"
        found.setdefault((rows.device, family), []).append(part(rows, table.used(rows)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--shared", action="store_true")
    chosen = parser.parse_args()
    seen = tables(chosen.data)
    if chosen.shared:
        constants = CONSTANTS
        fits: dict[str, Parameters] = {}
        for _ in range(3):
            for (device, family), rows in seen.items():
                if family == "nccl":
                    fits[device] = fit_library(device, rows, constants, fits.get(device))
            constants = CollectiveConstants(**descend(lambda trial: sum(
                library_loss(device, seen[device, "nccl"], CollectiveConstants(**trial))(fit) for device, fit in fits.items()
            ), asdict(constants)))
        print(constants)
        return
    (table,) = TABLES
    for (device, family), rows in seen.items():
        fit = fit_custom(device, rows) if family == "custom" else fit_library(device, rows)
        print(device, family, {k: f"{v:.4g}" for k, v in fit.items()})
        kind = CustomParameters if family == "custom" else CollectiveParameters
        stated = kind.model_construct(**figures(fit))
        for every in table.rows(chosen.data):
            if every.device == device and (every.inputs["link"][0] == ("pcie" if family == "pcie" else "nvlink")) and ((every.inputs["kind"][0] == "custom") == (family == "custom")):
                off = np.abs(link_terms(find_device(device), every, stated).total_s / every.measured - 1)
                used = table.used(every)
                print("  ", every.operation, f"used {off[used].mean():.1%}" if used.any() else "", f"never {off[~used].mean():.1%}")


if __name__ == "__main__":
    main()
