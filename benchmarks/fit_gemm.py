"""Fit matrix products on GPUs to measured rows, set their intervals, and write both down.

    python benchmarks/fit_gemm.py --data DIR             print fits, constants and errors
    python benchmarks/fit_gemm.py --data DIR --shared    refit what all GPUs of a kind share, too, and print it
    python benchmarks/fit_gemm.py --data DIR --write     update device files, the GPU class and gemm_left_out.json

``--shared`` prints the constants that stand in devices/tiles.py and, once these are in, those in
devices/quantized.py. Fits look at the sites that accuracy_tables/gemm.py gives them; each device left out is
predicted by constants fitted without it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace

import numpy as np

from accuracy_tables import Array, Rows
from accuracy_tables.gemm import (
    FILES,
    FIT_SHARE,
    format_of,
    gemm_rows,
    heat_of,
    in_blocks,
    joined,
    left_out_terms,
    part,
    sizes_of,
    tenth,
    with_host,
)
from fit_gemm_write import QUANTIZED, Quantized, relative, write
from fitting import Parameters, arguments, fit
from intervals import Scored
from systolith_sim.devices.classes import unit_peak
from systolith_sim.devices.device import Device
from systolith_sim.devices.gemm import Machine, Terms, tiled_gemm
from systolith_sim.devices.kernel import regimes
from systolith_sim.devices.library import find_device
from systolith_sim.devices.products import machine_of
from systolith_sim.devices.quantized import LIBRARIES, QuantizedLibrary, quantized_gemm
from systolith_sim.devices.tiles import NARROW, WIDE, TileConstants

KINDS = {"narrow": ("a100-80", "l40s"), "wide": ("h100-sxm", "h200")}
SHARED = {"narrow": NARROW, "wide": WIDE}
MACHINE = ("launch_s", "compute_efficiency", "memory_efficiency", "feed_bytes_per_s", "k_step_s")
STARTS = {
    "narrow": dict(zip(MACHINE, (2.5e-6, 0.85, 0.77, 5.3e10, 2.4e-7), strict=True)),
    "wide": dict(zip(MACHINE, (2.5e-6, 0.80, 0.91, 2.5e11, 9e-8), strict=True)),
}
FIXED = {"resident_area", "resident_max"}
"""Constants that are set, not fitted: the loss is flat or jumps in them."""
HELD = {"narrow": set[str](), "wide": {"divided_share", "divided_sharpness"}}
"""Constants that bf16 does not tell where all devices are seen: six copies of the weights seldom stay in a cache.
From 0.22 and 2.2 to 0.36 and 3.1 its error moves by 0.06 points, that of ``fp8_block`` on H100, with one copy, from
5.7 to 6.0 %."""
ROWS_FITTED = 6000
"""Rows of each table a fit looks at, a fixed sample."""
Fits = dict[str, Parameters]
Key = tuple[str, str]
"""Device and format."""
LeftOut = tuple[Parameters, TileConstants]


def kind_of(device: str) -> str:
    """narrow or wide."""
    return next(kind for kind, names in KINDS.items() if device in names)


def fitted(rows: Rows) -> Rows:
    """A fixed sample of the sites that fits look at."""
    allowed = np.flatnonzero(tenth(rows) < FIT_SHARE)
    return part(rows, np.random.default_rng(0).choice(allowed, min(ROWS_FITTED, len(allowed)), replace=False))


def machine(device: Device, own: Mapping[str, float]) -> Machine:
    """A machine with trial parameters; none sustains more than its peak, or 98 % of its bandwidth."""
    kept = {**own, "compute_efficiency": min(own["compute_efficiency"], 1.0)}
    kept["memory_efficiency"] = min(own["memory_efficiency"], 0.98)
    return replace(machine_of(device, "bf16"), **kept)


def terms_of(device: Device, own: Mapping[str, float], constants: TileConstants, rows: Rows) -> Terms:
    """Predictions in bf16 with trial parameters, in single precision."""
    trial = machine(device, own)
    return joined(
        [tiled_gemm(trial, constants=constants, precision=np.float32, **sizes_of(block)) for block in in_blocks(rows)]
    )


def own_of(device: str, trial: Mapping[str, float]) -> Parameters:
    """The parameters of one device among those of several."""
    return {name: trial[f"{device}.{name}"] for name in MACHINE}


def fit_kind(
    names: Sequence[str], tables: Mapping[str, Rows], constants: TileConstants, *, shared: Sequence[str] = ()
) -> tuple[Fits, TileConstants]:
    """Five parameters of each device, together with the ``shared`` constants of their kind."""
    start = {name: getattr(constants, name) for name in shared}
    own: dict[str, tuple[str, ...]] = {}
    for device in names:
        for name, value in STARTS[kind_of(device)].items():
            start[f"{device}.{name}"] = value
            own[f"{device}.{name}"] = (device,)

    def residuals(device: str, trial: Mapping[str, float]) -> Array:
        kind = replace(constants, **{name: trial[name] for name in shared})
        rows = tables[device]
        return np.log(terms_of(find_device(device), own_of(device, trial), kind, rows).total_s / rows.measured)

    found = fit({name: lambda trial, name=name: residuals(name, trial) for name in names}, start, own)
    return {name: own_of(name, found) for name in names}, replace(constants, **{name: found[name] for name in shared})


def free(kind: str, devices: Sequence[str]) -> list[str]:
    """Constants of a kind that rows of these devices can tell."""
    divided = any(machine_of(find_device(name), "bf16").cache_parts > 1 for name in devices)
    values = asdict(SHARED[kind])
    return [
        field.name for field in fields(TileConstants)
        if field.name not in FIXED and values[field.name] > 0 and (divided or not field.name.startswith("divided"))
    ]  # fmt: skip


def clock_of(device: str) -> float:
    """Clock of a device's units, Hz."""
    clock = find_device(device).units.clock_hz
    assert clock is not None  # packaged data
    return clock.value


def clock_law(fits: Mapping[str, Parameters]) -> Parameters:
    """Mean clock of fitted devices, and the power of it that launches go down with: latencies are in part cycles."""
    clocks = np.log([clock_of(name) for name in fits])
    launches = np.log([item["launch_s"] for item in fits.values()])
    slope = float(np.polyfit(clocks, launches, 1)[0]) if np.ptp(clocks) > 0 else 0.0
    return {"clock_hz": float(np.exp(clocks.mean())), "latency_exponent": float(np.clip(-slope, 0.0, 1.0))}


def class_rule(kind: str, fits: Mapping[str, Parameters]) -> Parameters:
    """What fitted devices say of another of a kind: geometric means, feed relative to the peak of a unit.

    Launch and compute efficiency, which drivers, clocks and power set, from all; memory efficiency, feed and
    latency, which the kind of unit sets, from those of the kind alone. Latencies are those at the mean clock.
    """
    law = clock_law(fits)

    def at_mean_clock(name: str, item: Parameters) -> Parameters:
        slower = (clock_of(name) / law["clock_hz"]) ** law["latency_exponent"]
        return relative(name, {**item, **{latency: item[latency] * slower for latency in ("launch_s", "k_step_s")}})

    every = [at_mean_clock(name, item) for name, item in fits.items()]
    same = [at_mean_clock(name, item) for name, item in fits.items() if kind_of(name) == kind]

    def mean(chosen: Sequence[Parameters], name: str) -> float:
        return float(np.exp(np.mean([np.log(item[name]) for item in chosen])))

    rule = law | {name: mean(every, name) for name in ("launch_s", "compute_efficiency")}
    return rule | {name: mean(same, name) for name in ("memory_efficiency", "k_step_s", "feed_bytes_per_op")}


def absolute(device: str, rule: Parameters) -> Parameters:
    """A class's parameters for one device."""
    slower = (rule["clock_hz"] / clock_of(device)) ** rule["latency_exponent"]
    kept = {name: rule[name] for name in ("compute_efficiency", "memory_efficiency")}
    latencies = {name: rule[name] * slower for name in ("launch_s", "k_step_s")}
    return {**kept, **latencies, "feed_bytes_per_s": rule["feed_bytes_per_op"] * unit_peak(find_device(device))}


def leave_out(device: str, tables: Mapping[str, Rows]) -> tuple[Parameters, TileConstants]:
    """Class rule and constants for a device that none of them saw."""
    kind, fits, constants = kind_of(device), {}, SHARED[kind_of(device)]
    for other, names in KINDS.items():
        seen = [name for name in names if name != device]
        if other == kind:
            start = replace(constants, **blind(device))
            own, constants = fit_kind(seen, tables, start, shared=free(other, seen))
        else:
            own, _ = fit_kind(seen, tables, SHARED[other])
        fits |= own
    return absolute(device, class_rule(kind, fits)), constants


def blind(device: str) -> Parameters:
    """Start of a device's constants without it: of the cache, what the other kind of unit says."""
    other = SHARED["wide" if kind_of(device) == "narrow" else "narrow"]
    return {name: getattr(other, name) for name in ("divided_share", "divided_sharpness")}


def quantized_terms(
    device: Device, rows: Rows, own: Parameters, library: QuantizedLibrary, step: float
) -> tuple[Terms, Array]:
    """Terms and seconds, the latter not below the benchmark's host."""
    trial = replace(machine(device, own), peak_ops_per_s=device.peak_ops_per_s["fp8"].value)
    parts = []
    for block in in_blocks(rows):
        sizes = sizes_of(block)
        parts.append(quantized_gemm(trial, library, quantize_s_per_element=step, precision=np.float32, **sizes))
    terms = joined(parts)
    return terms, with_host(rows, terms.total_s)


def fit_quantized(device: str, rows: Rows, own: Parameters) -> Quantized:
    """Seconds to quantize an element, with what the library brings."""
    known, old = find_device(device), LIBRARIES[QUANTIZED[device, format_of(rows)]]
    told = {name: getattr(old, name) for name in ("launch_s", "rate_share", "step_share", "row_s_per_element")}
    start = {"step": 5e-12} | {name: value for name, value in told.items() if value > 0}

    def library(trial: Mapping[str, float]) -> QuantizedLibrary:
        return replace(old, **{name: value for name, value in trial.items() if name != "step"})

    def residuals(trial: Mapping[str, float]) -> Array:
        _, seconds = quantized_terms(known, rows, own, library(trial), trial["step"])
        return np.log(seconds / rows.measured)

    found = fit({"rows": residuals}, start, {})
    return found["step"], library(found)


def scored(rows: Rows, terms: Terms, seconds: Array) -> Scored:
    """Rows against their prediction, grouped by site."""
    n, k = (np.asarray(rows.inputs[name], int).astype(str) for name in "nk")
    site = np.char.add(np.char.add(n, "x"), k)
    return Scored(rows.measured / seconds, regimes(terms), heat_of(rows), site)


def score(every: Mapping[Key, Rows], fits: Fits, libraries: Mapping[Key, Quantized]) -> dict[Key, Scored]:
    """Each device and format on the sites of the fit, printed beside the others."""
    found = {}
    for (name, form), rows in every.items():
        device, used = find_device(name), tenth(rows) < FIT_SHARE
        if form == "bf16":
            terms = terms_of(device, fits[name], SHARED[kind_of(name)], rows)
            seconds = terms.total_s
        else:
            step, library = libraries[name, form]
            terms, seconds = quantized_terms(device, rows, fits[name], library, step)
        whole = scored(rows, terms, seconds)
        found[name, form] = whole.rows(used)
        print(name, form, f"fitted {whole.rows(used).mape:.2%}, others {whole.rows(~used).mape:.2%}", flush=True)
    return found


def score_left_out(every: Mapping[Key, Rows], outs: Mapping[str, LeftOut]) -> dict[str, Scored]:
    """Each device on all its rows in bf16, by what the others say of it."""
    found = {}
    for name, (rule, constants) in outs.items():
        rows = every[name, "bf16"]
        terms = left_out_terms(rows, rule, asdict(constants))
        found[name] = scored(rows, terms, terms.total_s)
        print(name, f"left out {found[name].mape:.2%}", rule, constants, flush=True)
    return found


def main() -> None:
    """Fit, print, and with ``--write`` update the files."""
    chosen = arguments(__doc__, write="update device files, class and left-out parameters",
                       shared="refit the constants all GPUs of a kind share")
    every = {(rows.device, format_of(rows)): rows for name in FILES for rows in gemm_rows(chosen.data, name)}
    tables = {name: fitted(rows) for (name, form), rows in every.items() if form == "bf16"}
    fits: Fits = {}
    for kind, names in KINDS.items():
        shared = [name for name in free(kind, names) if chosen.shared and name not in HELD[kind]]
        own, constants = fit_kind(names, tables, SHARED[kind], shared=shared)
        fits |= own
        SHARED[kind] = constants
        print(kind, constants, *own.items(), sep="\n", flush=True)
    libraries = {key: fit_quantized(key[0], fitted(every[key]), fits[key[0]]) for key in QUANTIZED}
    print(*libraries.items(), sep="\n", flush=True)
    outs = {name: leave_out(name, tables) for name in FILES}
    found = score(every, fits, libraries)
    ratios = score_left_out(every, outs)
    if chosen.write:
        write(fits, libraries, found, outs, ratios, {kind: class_rule(kind, fits) for kind in KINDS})


if __name__ == "__main__":
    main()
