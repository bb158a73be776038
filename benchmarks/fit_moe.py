"""Fit grouped products of routed experts to measured layers, and set their intervals.

    python benchmarks/fit_moe.py --data DIR            print the constants of sim/.../grouped.py, and errors
    python benchmarks/fit_moe.py --data DIR --write    write intervals into A100's file and the GPU class

Everything else is as packaged: the device's parameters come from single products, the kernels around the grouped
products from streaming ones. Only A100 was measured: other GPUs take its constants, and a wider interval.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace

import numpy as np

from accuracy_tables import Rows
from accuracy_tables.attention import part
from accuracy_tables.moe import DEVICE, TABLES, by_row, calls_of, layer_terms
from fit_files import folder, other_errors, pooled_errors, restate
from fitting import Array, Parameters, arguments, fit
from intervals import Scored
from systolith_sim.devices.classes import DeviceClass, class_of
from systolith_sim.devices.device import RegimeError
from systolith_sim.devices.gemm import Terms
from systolith_sim.devices.grouped import VLLM, GroupedLibrary
from systolith_sim.devices.kernel import regimes
from systolith_sim.devices.library import find_device
from systolith_sim.devices.toml import device_toml

FREE = (
    "rate_share", "tuned_rate_share", "sharpness", "step_share", "gather_loss", "gather_reach_bytes", "unaligned_s",
    "sort_s_per_expert",
)  # fmt: skip
"""Constants that are fitted; the bandwidth share is set, what else a library holds are facts of it."""
SCORED = "scored_grouped"
SCORED_ON = "each site left out of the MoE table of ai-dynamo/aiconfigurator@095f58a, by benchmarks/fit_moe.py"
CLASS_WIDER = 2.0
"""Exponent on the one GPU's spread."""


def terms_of(rows: Rows, library: GroupedLibrary) -> Terms:
    """Terms of each row with trial constants."""
    given = calls_of(rows)
    return by_row(given, layer_terms(find_device(rows.device), given, library))


def fit_library(rows: Rows) -> GroupedLibrary:
    """The library's constants that say best what the rows took."""
    device, given, packaged = find_device(rows.device), calls_of(rows), asdict(VLLM)

    def residuals(trial: Mapping[str, float]) -> Array:
        terms = layer_terms(device, given, replace(VLLM, **trial))
        return np.log(by_row(given, terms).total_s / rows.measured)

    found: Parameters = fit({"rows": residuals}, {name: packaged[name] for name in FREE}, {}, rounds=25)
    return replace(VLLM, **found)


def left_out(rows: Rows) -> Scored:
    """Each row, its site predicted by constants fitted on the other sites; new models bring new sites."""
    ratio, words = np.empty(len(rows)), np.empty(len(rows), dtype="<U8")
    hidden = np.asarray(rows.inputs["hidden"], float)
    for one in np.unique(hidden):  # each fitted site has its own
        own = hidden == one
        terms = terms_of(part(rows, own), fit_library(part(rows, ~own)))
        ratio[own], words[own] = rows.measured[own] / terms.total_s, regimes(terms)
    return Scored(ratio, words, np.full(len(rows), ""), np.char.mod("%d", hidden))


def write(rows: Rows) -> None:
    """Intervals into A100 and, wider, into the class."""
    device, family = find_device(DEVICE), class_of("gpu")
    scored = left_out(rows)

    def errors(widen: float) -> tuple[RegimeError, ...]:
        # Four sites set no interval for each regime; little hides behind the other, so their errors are alike.
        return pooled_errors("grouped", scored, SCORED, widen=widen, others=widen > 1)

    own = (*other_errors(device.errors, "grouped"), *errors(1.0))
    restate(device, {SCORED: SCORED_ON}, errors=own)
    changed: Mapping[str, object] = {
        **{name: getattr(family, name) for name in family.model_fields_set},
        "errors": (*other_errors(family.errors, "grouped"), *errors(CLASS_WIDER)),
        "sources": {**family.sources, SCORED: f"{SCORED_ON}, to the power {CLASS_WIDER}"},
    }
    text = device_toml(DeviceClass.model_validate(changed))
    (folder() / "classes" / "gpu.toml").write_text(text, "utf-8")


def main() -> None:
    """Fit, print, and with ``--write`` update the intervals."""
    chosen = arguments(__doc__, write="update the intervals of A100 and of the GPU class")
    (table,) = TABLES
    (rows,) = table.rows(chosen.data)
    used = table.used(rows)
    library = fit_library(part(rows, used))
    print({name: float(f"{value:.4g}") for name, value in asdict(library).items() if name in FREE})
    for name, mask in (("fitted", used), ("others", ~used)):
        some = part(rows, mask)
        for what, own in (("packaged", VLLM), ("refitted", library)):
            off = terms_of(some, own).total_s / some.measured - 1
            print(f"{name}, {what}: MAPE {np.mean(np.abs(off)):.2%}, bias {np.median(off):+.2%}, {len(some)} rows")
    if chosen.write:
        write(part(rows, used))


if __name__ == "__main__":
    main()
