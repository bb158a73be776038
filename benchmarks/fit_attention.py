"""Fit fused attention to measured rows, set its intervals, and write both into the device files.

    python benchmarks/fit_attention.py --data DIR            print the fits and their errors
    python benchmarks/fit_attention.py --data DIR --write    update device files and the GPU class too
    python benchmarks/fit_attention.py --data DIR --shared   refit what all GPUs and each library share, and print it

Run it after fit_gemm.py: launch, memory efficiency and feed of a device come from its matrix products.
Intervals come from the rows of the fit, each head shape predicted by a fit without it. About a minute on one core.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np

from accuracy_tables import Array, Rows, Words
from accuracy_tables.attention import FITTED_SHAPES, TABLES, attention_terms, part, shape_mask
from fit_files import datum, folder, other_errors, regime_errors, restate
from fitting import arguments, descend, distance
from systolith_sim.devices.attention import ATTENTION, LIBRARIES, AttentionConstants, AttentionLibrary
from systolith_sim.devices.classes import DeviceClass, class_of
from systolith_sim.devices.device import AttentionParameters, Device
from systolith_sim.devices.figures import Datum
from systolith_sim.devices.gemm import Terms
from systolith_sim.devices.kernel import regimes
from systolith_sim.devices.library import find_device
from systolith_sim.devices.toml import device_toml

Parameters = dict[str, float]
USES = {"a100-80": "flash-attention-2", "h100-sxm": "flash-attention-3", "h200": "flash-attention-3"}
STARTS = {"launch_s": 5e-6, "efficiency": 0.85, "start_s": 2e-6}
FREE = {
    "flash-attention-2": ("lone_softmax", "combine_s", "combine_split_s", "regroup_s"),
    "flash-attention-3": (
        "combine_s", "combine_split_s", "plan_s", "quantized_multiply", "quantized_softmax", "quantizing_passes",
    ),
}  # fmt: skip
"""Constants of each library that are fitted; the others are recalled."""
FITTED, SCORED = "fitted_attention", "scored_attention"
ORIGIN = "attention tables of ai-dynamo/aiconfigurator@095f58a, by benchmarks/fit_attention.py"
CLASS_WIDER = 2.0
"""Exponent on the spread of one device predicted by another's fit: the two that can be crossed share a die."""
Residuals = tuple[Array, Words, Words]
"""Measured over predicted, regime, and operation of each row."""
Libraries = Mapping[str, AttentionLibrary]


def parameters(device: str, fit: Mapping[str, float]) -> AttentionParameters:
    """A fit as a device file states it; no thread block exceeds the peak."""
    kept = {**fit, "efficiency": min(fit["efficiency"], 1.0)}
    figures = {
        name: Datum.model_construct(value=float(value), source="fitted", confidence="derived")
        for name, value in kept.items()
    }
    return AttentionParameters.model_construct(None, library=USES[device], **figures)


def tables(data: Path) -> dict[str, list[Rows]]:
    """Rows that the fit may see, by device."""
    (table,) = TABLES
    found: dict[str, list[Rows]] = {}
    for rows in table.rows(data):
        found.setdefault(rows.device, []).append(part(rows, table.used(rows)))
    return found


def misfit(
    device: Device,
    fit: Mapping[str, float],
    seen: Sequence[Rows],
    constants: AttentionConstants,
    libraries: Libraries,
) -> float:
    """Mean distance of a device's tables, each counting the same."""
    own = parameters(device.id, fit)
    return sum(
        distance(attention_terms(device, rows, own, constants, libraries[own.library]).total_s, rows.measured)
        for rows in seen
    ) / len(seen)  # fmt: skip


def fit_device(
    device: Device,
    seen: Sequence[Rows],
    constants: AttentionConstants = ATTENTION,
    libraries: Libraries = LIBRARIES,
    start: Mapping[str, float] = STARTS,
) -> Parameters:
    """Launch, efficiency and start of one library on one GPU; a launch of quantized caches where there are any."""
    known = dict(start)
    if any((np.asarray(rows.inputs["kv_bytes"], float) < 2).any() for rows in seen):
        known.setdefault("quantized_launch_s", 3e-7)
    best = descend(lambda trial: misfit(device, trial, seen, constants, libraries), known)
    return {**best, "efficiency": min(best["efficiency"], 1.0)}


def fit_shared(data: Path) -> tuple[AttentionConstants, dict[str, AttentionLibrary]]:
    """What all GPUs share and what each library has, alternating with each device's own parameters."""
    seen = tables(data)
    devices = {name: find_device(name) for name in seen}
    constants, libraries = ATTENTION, dict(LIBRARIES)
    fits = {name: dict(STARTS) for name in seen}

    def whole(c: AttentionConstants, known: Libraries) -> float:
        return sum(misfit(devices[name], fits[name], rows, c, known) for name, rows in seen.items())

    for _ in range(4):
        for name, device in devices.items():
            fits[name] = fit_device(device, seen[name], constants, libraries, fits[name])
        for library, names in FREE.items():
            libraries[library] = fit_library(libraries, library, names, partial(whole, constants))
        shared = descend(lambda trial: whole(AttentionConstants(**trial), libraries), asdict(constants))
        constants = AttentionConstants(**shared)
    return constants, libraries


def fit_library(
    libraries: Libraries, name: str, free: Sequence[str], whole: Callable[[Libraries], float]
) -> AttentionLibrary:
    """One library's free constants, the others as they are."""
    known = libraries[name]
    best = descend(
        lambda trial: whole({**libraries, name: replace(known, **trial)}),
        {constant: getattr(known, constant) for constant in free},
    )
    return replace(known, **best)


def residuals(rows: Rows, terms: Terms) -> Residuals:
    """Of rows and their prediction."""
    return rows.measured / terms.total_s, regimes(terms), np.full(len(rows), rows.operation)


def joined(parts: Sequence[Residuals]) -> Residuals:
    """Several residuals as one."""
    ratio, words, groups = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return ratio, words, groups


def left_out(device: Device, seen: Sequence[Rows], fit: Parameters) -> Residuals:
    """Residuals of the fit's own rows, each head shape predicted without it."""
    found: list[Residuals] = []
    for shape in FITTED_SHAPES:
        if not any(shape_mask(rows, shape).any() for rows in seen):
            continue
        others = [part(rows, ~shape_mask(rows, shape)) for rows in seen]
        refit = parameters(device.id, fit_device(device, others, start=fit))
        for rows in seen:
            own = part(rows, shape_mask(rows, shape))
            if len(own):
                found.append(residuals(own, attention_terms(device, own, refit)))
    return joined(found)


def fitted(data: Path) -> dict[str, tuple[Parameters, Residuals]]:
    """Fit, and residuals of shapes left out, by device; prints errors on the way."""
    (table,) = TABLES
    every, seen = list(table.rows(data)), tables(data)
    found: dict[str, tuple[Parameters, Residuals]] = {}
    for name, rows in seen.items():
        device = find_device(name)
        fit = fit_device(device, rows)
        print(name, {key: f"{value:.4g}" for key, value in fit.items()})
        for whole in (one for one in every if one.device == name):
            total = attention_terms(device, whole, parameters(name, fit)).total_s
            off, used = np.abs(total / whole.measured - 1), table.used(whole)
            print(f"  {whole.operation}: used {off[used].mean():.1%}, never used {off[~used].mean():.1%}")
        found[name] = (fit, left_out(device, rows, fit))
    return found


def crossed(data: Path, fits: Mapping[str, Parameters]) -> Residuals:
    """Residuals of each device with the parameters of another that runs the same library."""
    found: list[Residuals] = []
    for name, rows in tables(data).items():
        for other in (one for one in fits if one != name and USES[one] == USES[name]):
            for one in rows:
                terms = attention_terms(find_device(name), one, parameters(name, fits[other]))
                found.append(residuals(one, terms))
    return joined(found)


def stated(library: str, fit: Mapping[str, float]) -> AttentionParameters:
    """A fit as a file states it, to four digits."""
    figures = {name: datum(value, FITTED) for name, value in fit.items()}
    return AttentionParameters.model_validate({"library": library, **figures})


def mean_fit(fits: Sequence[Parameters]) -> Parameters:
    """Geometric mean, of the figures that all of them have."""
    names = [name for name in fits[0] if all(name in fit for fit in fits)]
    return {name: float(np.exp(np.mean([np.log(fit[name]) for fit in fits]))) for name in names}


def write(data: Path, found: Mapping[str, tuple[Parameters, Residuals]]) -> None:
    """Device files of the fits, and what the GPU class says of attention."""
    for name, (fit, off) in found.items():
        device = find_device(name)
        assert device.kernel is not None  # packaged data
        errors = regime_errors("attention", *off, SCORED)
        restate(
            device, {FITTED: ORIGIN, SCORED: f"each head shape left out of {ORIGIN}"},
            kernel=device.kernel.model_copy(update={"attention": stated(USES[name], fit)}),
            errors=(*other_errors(device.errors, "attention"), *errors),
        )  # fmt: skip
    fits = {name: fit for name, (fit, _) in found.items()}
    family = class_of("gpu")
    by_library = {library: mean_fit([fits[name] for name in fits if USES[name] == library]) for library in LIBRARIES}
    errors = regime_errors("attention", *crossed(data, fits), SCORED, widen=CLASS_WIDER)
    changed = {
        **{name: getattr(family, name) for name in family.model_fields_set},
        "attention": stated("flash-attention-2", by_library["flash-attention-2"]),
        "attention_wide": stated("flash-attention-3", by_library["flash-attention-3"]),
        "errors": (*other_errors(family.errors, "attention"), *errors),
        "sources": {
            **family.sources, FITTED: ORIGIN,
            SCORED: f"H100 and H200 each with the other's parameters, to the power {CLASS_WIDER}, {ORIGIN}",
        },
    }  # fmt: skip
    text = device_toml(DeviceClass.model_validate(changed))
    (folder() / "classes" / "gpu.toml").write_text(text, "utf-8")


def main() -> None:
    """Fit, score, print, and with ``--write`` update the files."""
    chosen = arguments(__doc__, write="update device files and the GPU class",
                       shared="refit what is shared, and print it")
    if chosen.shared:
        constants, libraries = fit_shared(chosen.data)
        print(constants, *libraries.values(), sep="\n")
        return
    found = fitted(chosen.data)
    if chosen.write:
        write(chosen.data, found)


if __name__ == "__main__":
    main()
