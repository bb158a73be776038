"""Fit products and attention on a TPU to measurements, set their intervals, and write them into its file and class.

    python benchmarks/fit_tpu.py --data DIR [--write]

Two parameters of products, four of attention and one constant of its kernel; seconds on one core.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from accuracy_tables import Array, Rows
from accuracy_tables import attention_tpu as cached
from accuracy_tables.attention import part, phase_of
from accuracy_tables.tpu import DEVICE, TABLES, layer_terms
from fit_files import datum, folder, other_errors, regime_errors, restate
from fitting import Parameters, arguments, descend, distance, fit
from intervals import Scored, together
from systolith_sim.devices.classes import class_of
from systolith_sim.devices.device import AttentionParameters, KernelParameters, RegimeError
from systolith_sim.devices.kernel import regimes
from systolith_sim.devices.library import find_device
from systolith_sim.devices.ragged import RAGGED, RaggedFit
from systolith_sim.devices.toml import device_toml

KERNEL_S = 5.5e-7
"""Shortest kernel inside an XLA program: a norm of 1 to 64 rows in the table, 0.5 to 0.6 us."""
FEED = 22 * 1.64e12 / 2
"""Bytes per second into one array: no part of this model, stands for the scratchpad's bandwidth."""
CLASS_WIDER = 2.0
"""Exponent on the spread of the one TPU measured, for the others."""
FITTED, SCORED, SCORED_ATTENTION = "fitted", "scored_matmul", "scored_attention"
ORIGIN = "TPU v6e layers of casys-kaist/LLMServingSim@5daddb2, by benchmarks/fit_tpu.py"
ORIGIN_ATTENTION = "TPU v6e attention of casys-kaist/LLMServingSim@5daddb2, by benchmarks/fit_tpu.py"
STARTS = {"launch_s": 5e-6, "efficiency": 0.06, "start_s": 2e-6, "stream_share": 0.3}


def main() -> None:
    """Fit, print, and with ``--write`` update device and class."""
    chosen = arguments(__doc__, write="update the device file and its class")
    (table,) = TABLES
    (rows,) = table.rows(chosen.data)
    used, tokens = table.used(rows), np.asarray(rows.inputs["tokens"], float)

    def loss(trial: dict[str, float]) -> float:
        own = {**trial, "launch_s": KERNEL_S}
        return distance(layer_terms(tokens[used], own).total_s, rows.measured[used])

    own = descend(loss, {"compute_efficiency": 0.8, "memory_efficiency": 0.9})
    own = {name: min(value, 0.98) for name, value in own.items()}
    terms = layer_terms(tokens, {**own, "launch_s": KERNEL_S})
    off = np.abs(terms.total_s / rows.measured - 1)
    print(own, f"used {off[used].mean():.2%}, never {off[~used].mean():.2%}")
    attention = list(cached.TABLES[0].rows(chosen.data))
    found = fit_attention(attention)
    spread = score_attention(attention, found)
    if chosen.write:
        hundreds = np.char.mod("%d", tokens // 100)
        products = Scored(rows.measured / terms.total_s, regimes(terms), np.full(len(rows), ""), hundreds).rows(used)
        write(own, products, found, spread)


def fit_attention(every: Sequence[Rows]) -> Parameters:
    """Parameters of attention over a cache, prefill and decode with the same weight, and the share of small blocks."""
    device, (table,) = find_device(DEVICE), cached.TABLES
    used = {rows.operation: part(rows, table.used(rows)) for rows in every}

    def residuals(rows: Rows, trial: Mapping[str, float]) -> Array:
        own = RaggedFit(**{name: trial[name] for name in STARTS})
        constants = replace(RAGGED, small_share=trial["small_share"])
        return np.log(cached.cache_terms(device, rows, own, constants).total_s / rows.measured)

    parts = {name: lambda trial, rows=rows: residuals(rows, trial) for name, rows in used.items()}
    found = fit(parts, {**STARTS, "small_share": RAGGED.small_share}, {}, rounds=30)
    print({name: float(f"{value:.4g}") for name, value in found.items()})
    return found


def score_attention(every: Sequence[Rows], found: Mapping[str, float]) -> Scored:
    """Errors printed; the rows of the fit against the packaged constants, in groups of 256 tokens of the cache."""
    device, (table,) = find_device(DEVICE), cached.TABLES
    parts = []
    for rows in every:
        terms = cached.cache_terms(device, rows, RaggedFit(**{name: found[name] for name in STARTS}))
        used, ratio = table.used(rows), rows.measured / terms.total_s
        off = np.abs(1 / ratio - 1)
        print(rows.operation, f"used {off[used].mean():.2%}, never {off[~used].mean():.2%}")
        keys = np.char.mod("%d", np.asarray(rows.inputs["keys"], float) // 256)
        parts.append(Scored(ratio, regimes(terms), np.full(len(rows), phase_of(rows)), keys).rows(used))
    return together(parts)


def pooled(errors: Sequence[RegimeError]) -> tuple[RegimeError, ...]:
    """The widest of all for each: few token counts are memory bound, and those alike."""
    low, high = min(error.low for error in errors), max(error.high for error in errors)
    return tuple(error.model_copy(update={"low": low, "high": high}) for error in errors)


def write(
    products: Mapping[str, float], scored: Scored, attention: Mapping[str, float], spread: Scored
) -> None:
    """Parameters and intervals of the device, and its class with wider ones."""
    device, family = find_device(DEVICE), class_of("tpu")
    own = {name: datum(value, FITTED) for name, value in {**products, "launch_s": KERNEL_S}.items()}
    still = {"feed_bytes_per_s": datum(FEED, FITTED), "k_step_s": datum(0.0, FITTED)}
    figures = {name: datum(attention[name], f"{FITTED}_attention") for name in STARTS}
    fused = AttentionParameters.model_validate({"library": "ragged-paged-attention", **figures})

    def errors(widen: float) -> tuple[RegimeError, ...]:
        return (
            *pooled(regime_errors("matmul", scored, SCORED, widen=widen)),
            *regime_errors("attention", spread, SCORED_ATTENTION, widen=widen, least=20),
        )

    kernel = KernelParameters.model_validate({**own, **still, "attention": fused})
    kept_errors = other_errors(other_errors(device.errors, "matmul"), "attention")
    sources = {
        FITTED: ORIGIN, SCORED: ORIGIN, f"{FITTED}_attention": ORIGIN_ATTENTION, SCORED_ATTENTION: ORIGIN_ATTENTION,
    }  # fmt: skip
    restate(device, sources, kernel=kernel, errors=(*errors(1.0), *kept_errors))
    kept = {name: getattr(family, name) for name in family.model_fields_set}
    wider = {name: f"to the power {CLASS_WIDER}, {sources[name]}" for name in (SCORED, SCORED_ATTENTION)}
    changed = {
        **kept, **own, "attention": fused, "errors": errors(CLASS_WIDER),
        "sources": {**family.sources, **sources, **wider},
    }  # fmt: skip
    (folder() / "classes" / "tpu.toml").write_text(device_toml(type(family).model_validate(changed)), "utf-8")


if __name__ == "__main__":
    main()
