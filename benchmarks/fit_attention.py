"""Fit fused attention to measured rows, set its intervals, and write both into the device files.

    python benchmarks/fit_attention.py --data DIR            print the fits and their errors
    python benchmarks/fit_attention.py --data DIR --write    update device files and the GPU class too
    python benchmarks/fit_attention.py --data DIR --shared   refit what all GPUs and each library share, and print it

Run it after fit_gemm.py: launch, memory efficiency and feed of a device come from its matrix products.
Intervals come from the rows of the fit, each head shape predicted by a fit without it. About a minute on one core.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np

from accuracy_tables import Array, Rows
from accuracy_tables.attention import FITTED_SHAPES, TABLES, attention_terms, part, phase_of, shape_mask
from fit_files import datum, folder, other_errors, regime_errors, restate
from fitting import arguments, descend, distance
from fitting import fit as fit_together
from intervals import Scored, together
from systolith_sim.devices.attention import ATTENTION, AttentionConstants
from systolith_sim.devices.attention_library import LIBRARIES, AttentionLibrary
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
LEAST_S = 1e-9
"""Start of a figure that a fit took to nothing."""
FITTED, SCORED = "fitted_attention", "scored_attention"
ORIGIN = "attention tables of ai-dynamo/aiconfigurator@095f58a, by benchmarks/fit_attention.py"
CLASS_WIDER = 2.0
"""Exponent on the spread of one device predicted by another's fit: the two that can be crossed share a die."""
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
        if rows.device in USES:
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
    """What all GPUs share and what each library has, together with each device's own parameters."""
    seen = tables(data)
    start: Parameters = {f"shared.{name}": value for name, value in asdict(ATTENTION).items()}
    own: dict[str, tuple[str, ...]] = {}
    for library, names in FREE.items():
        start |= {f"{library}.{name}": getattr(LIBRARIES[library], name) for name in names}
        users = tuple(part for part in _parts(seen) if USES[part.split()[0]] == library)
        own |= {f"{library}.{name}": users for name in names}
    for device, rows in seen.items():
        known = fit_device(find_device(device), rows)
        start |= {f"{device}.{name}": max(value, LEAST_S) for name, value in known.items()}
        own |= {f"{device}.{name}": tuple(_parts({device: rows})) for name in known}

    def misses(device: str, rows: Rows, trial: Mapping[str, float]) -> Array:
        constants, libraries = shared_of(trial)
        own_fit, library = parameters(device, below(device, trial)), libraries[USES[device]]
        return np.log(attention_terms(find_device(device), rows, own_fit, constants, library).total_s / rows.measured)

    parts = {name: partial(misses, name.split()[0], rows) for name, rows in _parts(seen).items()}
    return shared_of(fit_together(parts, start, own, rounds=25))


def _parts(seen: Mapping[str, Sequence[Rows]]) -> dict[str, Rows]:
    """Every table of rows, by device and operation."""
    return {f"{device} {rows.operation}": rows for device, every in seen.items() for rows in every}


def below(name: str, trial: Mapping[str, float]) -> Parameters:
    """The figures of one device, library or of all among those of a trial."""
    return {key.removeprefix(f"{name}."): value for key, value in trial.items() if key.startswith(f"{name}.")}


def shared_of(trial: Mapping[str, float]) -> tuple[AttentionConstants, dict[str, AttentionLibrary]]:
    """Constants and libraries of a trial."""
    libraries = {name: replace(known, **below(name, trial)) for name, known in LIBRARIES.items()}
    return AttentionConstants(**below("shared", trial)), libraries


def scored(rows: Rows, terms: Terms) -> Scored:
    """Rows against their prediction, grouped by head shape."""
    shape = [np.asarray(rows.inputs[name], int).astype(str) for name in ("heads", "kv_heads", "head_size")]
    group = np.char.add(np.char.add(shape[0], np.char.add("/", shape[1])), np.char.add("x", shape[2]))
    return Scored(rows.measured / terms.total_s, regimes(terms), np.full(len(rows), phase_of(rows)), group)


def left_out(device: Device, seen: Sequence[Rows], fit: Parameters) -> Scored:
    """Residuals of the fit's own rows, each head shape predicted without it."""
    found: list[Scored] = []
    for shape in FITTED_SHAPES:
        if not any(shape_mask(rows, shape).any() for rows in seen):
            continue
        others = [part(rows, ~shape_mask(rows, shape)) for rows in seen]
        refit = parameters(device.id, fit_device(device, others, start=fit))
        for rows in seen:
            own = part(rows, shape_mask(rows, shape))
            if len(own):
                found.append(scored(own, attention_terms(device, own, refit)))
    return together(found)


def fitted(data: Path) -> dict[str, tuple[Parameters, Scored]]:
    """Fit, and residuals of shapes left out, by device; prints errors on the way."""
    (table,) = TABLES
    every, seen = list(table.rows(data)), tables(data)
    found: dict[str, tuple[Parameters, Scored]] = {}
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


def crossed(data: Path, fits: Mapping[str, tuple[Parameters, Scored]]) -> Scored:
    """Residuals of each device with the parameters of another that runs the same library."""
    found: list[Scored] = []
    for name, rows in tables(data).items():
        for other in (one for one in fits if one != name and USES[one] == USES[name]):
            for one in rows:
                terms = attention_terms(find_device(name), one, parameters(name, fits[other][0]))
                found.append(scored(one, terms))
    return together(found)


def stated(library: str, fit: Mapping[str, float]) -> AttentionParameters:
    """A fit as a file states it, to four digits."""
    figures = {name: datum(value, FITTED) for name, value in fit.items()}
    return AttentionParameters.model_validate({"library": library, **figures})


def at_class_clock(device: str, fit: Parameters) -> Parameters:
    """A fit with its latencies as they would be at the clock of the GPU class."""
    slower = class_of("gpu").latency_factor(find_device(device))
    return {name: value / slower if name.endswith("_s") else value for name, value in fit.items()}


def mean_fit(fits: Sequence[Parameters]) -> Parameters:
    """Geometric mean, of the figures that all of them have."""
    names = [name for name in fits[0] if all(name in fit for fit in fits)]
    return {name: float(np.exp(np.mean([np.log(fit[name]) for fit in fits]))) for name in names}


def write(data: Path, found: Mapping[str, tuple[Parameters, Scored]]) -> None:
    """Device files of the fits, and what the GPU class says of attention."""
    for name, (fit, off) in found.items():
        device = find_device(name)
        assert device.kernel is not None  # packaged data
        errors = regime_errors("attention", off, SCORED)
        restate(
            device, {FITTED: ORIGIN, SCORED: f"each head shape left out of {ORIGIN}"},
            kernel=device.kernel.model_copy(update={"attention": stated(USES[name], fit)}),
            errors=(*other_errors(device.errors, "attention"), *errors),
        )  # fmt: skip
    family = class_of("gpu")
    fits = {name: at_class_clock(name, fit) for name, (fit, _) in found.items()}
    by_library = {library: mean_fit([fits[name] for name in fits if USES[name] == library]) for library in LIBRARIES}
    errors = regime_errors("attention", crossed(data, found), SCORED, widen=CLASS_WIDER)
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
