"""Fit products on a TPU to measured layers, set their intervals, and write both into the device file and its class.

    python benchmarks/fit_tpu.py --data DIR [--write]

Two parameters, a second on one core.
"""

from collections.abc import Sequence

import numpy as np

from accuracy_tables.tpu import DEVICE, TABLES, layer_terms
from fit_files import datum, folder, other_errors, regime_errors, restate
from fitting import arguments, descend, distance
from intervals import Scored
from systolith_sim.devices.classes import class_of
from systolith_sim.devices.device import KernelParameters, RegimeError
from systolith_sim.devices.kernel import regimes
from systolith_sim.devices.library import find_device
from systolith_sim.devices.toml import device_toml

KERNEL_S = 5.5e-7
"""Shortest kernel inside an XLA program: a norm of 1 to 64 rows in the table, 0.5 to 0.6 us."""
FEED = 22 * 1.64e12 / 2
"""Bytes per second into one array: no part of this model, stands for the scratchpad's bandwidth."""
CLASS_WIDER = 2.0
"""Exponent on the spread of the one TPU measured, for the others."""
FITTED, SCORED = "fitted", "scored_matmul"
ORIGIN = "TPU v6e layers of casys-kaist/LLMServingSim@5daddb2, by benchmarks/fit_tpu.py"


def main() -> None:
    """Fit, print, and with ``--write`` update device and class."""
    chosen = arguments(__doc__, write="update the device file and its class")
    (table,) = TABLES
    (rows,) = table.rows(chosen.data)
    used, tokens = table.used(rows), np.asarray(rows.inputs["tokens"], float)

    def loss(trial: dict[str, float]) -> float:
        own = {**trial, "launch_s": KERNEL_S}
        return distance(layer_terms(tokens[used], own).total_s, rows.measured[used])

    fit = descend(loss, {"compute_efficiency": 0.8, "memory_efficiency": 0.9})
    fit = {name: min(value, 0.98) for name, value in fit.items()}
    terms = layer_terms(tokens, {**fit, "launch_s": KERNEL_S})
    off = np.abs(terms.total_s / rows.measured - 1)
    print(fit, f"used {off[used].mean():.2%}, never {off[~used].mean():.2%}")
    if chosen.write:
        hundreds = np.char.mod("%d", tokens // 100)
        write(fit, Scored(rows.measured / terms.total_s, regimes(terms), np.full(len(rows), ""), hundreds).rows(used))


def pooled(errors: Sequence[RegimeError]) -> tuple[RegimeError, ...]:
    """The widest of all for each: few token counts are memory bound, and those alike."""
    low, high = min(error.low for error in errors), max(error.high for error in errors)
    return tuple(error.model_copy(update={"low": low, "high": high}) for error in errors)


def write(fit: dict[str, float], scored: Scored) -> None:
    """Parameters and intervals of the device, and its class with wider ones."""
    device, family = find_device(DEVICE), class_of("tpu")
    values = {**fit, "launch_s": KERNEL_S}
    own = {name: datum(value, FITTED) for name, value in values.items()}
    still = {"feed_bytes_per_s": datum(FEED, FITTED), "k_step_s": datum(0.0, FITTED)}
    errors = pooled(regime_errors("matmul", scored, SCORED))
    kernel = KernelParameters.model_validate({**own, **still})
    errors = (*errors, *other_errors(device.errors, "matmul"))
    restate(device, {FITTED: ORIGIN, SCORED: ORIGIN}, kernel=kernel, errors=errors)
    wider = pooled(regime_errors("matmul", scored, SCORED, widen=CLASS_WIDER))
    kept = {name: getattr(family, name) for name in family.model_fields_set}
    note = f"to the power {CLASS_WIDER}, {ORIGIN}"
    changed = {**kept, **own, "errors": wider, "sources": {**family.sources, FITTED: ORIGIN, SCORED: note}}
    (folder() / "classes" / "tpu.toml").write_text(device_toml(type(family).model_validate(changed)), "utf-8")


if __name__ == "__main__":
    main()
