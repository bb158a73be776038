"""Fit norms, softmax, activations and additions to measured rows, and set their intervals.

    python benchmarks/fit_streaming.py --data DIR            print the constants of sim/.../streaming.py, and errors
    python benchmarks/fit_streaming.py --data DIR --write    write efficiency and intervals into device files and class

Only A100 was measured: other GPUs take its efficiency, and a wider interval from their class.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from accuracy_tables import Rows
from accuracy_tables.attention import part
from accuracy_tables.streaming import DEVICE, FITTED_WIDTHS, TABLES, TORCH, kind_of, streaming_terms
from fit_files import datum, folder, other_errors, pooled_errors, restate
from fitting import arguments, descend, distance
from intervals import Scored
from systolith_sim.devices.classes import DeviceClass, class_of
from systolith_sim.devices.device import RegimeError
from systolith_sim.devices.library import find_device
from systolith_sim.devices.streaming import EAGER_CALLS, KERNELS, EagerCall
from systolith_sim.devices.toml import device_toml

Parameters = dict[str, float]
FITTED, SCORED = "fitted_streaming", "scored_streaming"
ORIGIN = "torch on A100 in PrincetonUniversity/LLMCompass@2e015fd, by benchmarks/fit_streaming.py"
SCORED_ON = "A100 in LLMCompass@2e015fd and microsoft/vidur@7d47513, rows of the fit, by benchmarks/fit_streaming.py"
CLASS_WIDER = 2.0
"""Exponent on the one GPU's spread."""
FREE = {"gelu": ("efficiency",)}
"""What a kernel's rows fit beside its operations: long gelus are bound by memory."""


def fit_kernel(rows: Rows, efficiency: float) -> Parameters:
    """Operations of one kernel, the floor of its call, and what ``FREE`` adds."""
    device, known = find_device(rows.device), kind_of(rows)
    start = {"ops": KERNELS[known].ops}
    if known in EAGER_CALLS:
        start |= {"floor_s": float(rows.measured.min()), "hidden_s": EAGER_CALLS[known].hidden_s}
    start |= {name: efficiency for name in FREE.get(known, ())}

    def loss(trial: Parameters) -> float:
        full = {"efficiency": efficiency, **trial}
        call = EagerCall(full["floor_s"], full["hidden_s"]) if known in EAGER_CALLS else None
        if call is not None and call.hidden_s > call.floor_s:
            return float("inf")
        terms = streaming_terms(
            device, rows, replace(KERNELS[known], ops=full["ops"]), call, min(full["efficiency"], 0.98)
        )
        return distance(terms.total_s, rows.measured)

    return descend(loss, start)


def errors(seen: Sequence[Rows], widen: float) -> tuple[RegimeError, ...]:
    """One interval for all regimes, from the rows of the fit by kernel and width: too few to set one for each.

    Kernels were fitted at n widths; a new one deviates from their mean sqrt(1 + 1 / n) times as much as from the truth.
    """
    ratios, groups = [], []
    for rows in seen:
        ratios.append(rows.measured / streaming_terms(find_device(rows.device), rows).total_s)
        groups += [f"{rows.operation} {width}" for width in rows.inputs["width"]]
    ratio, empty = np.concatenate(ratios), np.full(len(groups), "")
    widths = (1 + 1 / len(FITTED_WIDTHS)) ** 0.5
    return pooled_errors(
        "streaming", Scored(ratio, empty, empty, np.array(groups)), SCORED, widen=widen * widths, others=widen > 1
    )


def write(seen: Sequence[Rows], efficiency: float) -> None:
    """Efficiency into every GPU that was fitted and the class, intervals into A100 and the class."""
    for name in (DEVICE, "h100-sxm", "h200", "l40s"):
        device = find_device(name)
        assert device.kernel is not None  # packaged data
        kernel = device.kernel.model_copy(update={"streaming_efficiency": datum(efficiency, FITTED)})
        own = errors(seen, 1.0) if name == DEVICE else ()
        sources = {FITTED: ORIGIN} | ({SCORED: SCORED_ON} if own else {})
        restate(device, sources, kernel=kernel, errors=(*other_errors(device.errors, "streaming"), *own))
    family = class_of("gpu")
    changed: Mapping[str, object] = {
        **{name: getattr(family, name) for name in family.model_fields_set},
        "streaming_efficiency": datum(efficiency, FITTED),
        "errors": (*other_errors(family.errors, "streaming"), *errors(seen, CLASS_WIDER)),
        "sources": {**family.sources, FITTED: ORIGIN, SCORED: f"{SCORED_ON}, to the power {CLASS_WIDER}"},
    }
    text = device_toml(DeviceClass.model_validate(changed))
    (folder() / "classes" / "gpu.toml").write_text(text, "utf-8")


def main() -> None:
    """Fit, print, and with ``--write`` update the files."""
    chosen = arguments(__doc__, write="update device files and the GPU class")
    (table,) = TABLES
    seen = [part(rows, table.used(rows)) for rows in table.rows(chosen.data)]
    gelu = next(rows for rows in seen if rows.inputs["kind"][0] == "gelu")
    efficiency = min(fit_kernel(gelu, 0.82)["efficiency"], 0.98)
    print(f"efficiency {efficiency:.4g}, fitted on {', '.join(TORCH)} and the engine's kernels")
    for rows in seen:
        print(rows.operation, {name: f"{value:.4g}" for name, value in fit_kernel(rows, efficiency).items()})
    if chosen.write:
        write(seen, efficiency)


if __name__ == "__main__":
    main()
