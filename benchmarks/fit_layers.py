"""Fit products of an engine's layers on an RTX 4090, and set their intervals.

    python benchmarks/fit_layers.py --data DIR [--write]    print parameters and errors, and write them into its file

Three of the five parameters of a device: no product here is so short that its launch, or a step along K, would show,
and both stay the class's, as do the tile constants of narrow units. No GPU takes more than its peak, or 98 % of its
bandwidth. The class is fitted on other GPUs and does not see these rows.
"""

from collections.abc import Mapping

import numpy as np

from accuracy_tables import Rows
from accuracy_tables.attention import part
from accuracy_tables.layers import GEFORCE, TABLES, product_terms
from fit_files import datum, other_errors, regime_errors, restate
from fitting import Array, Parameters, arguments, fit
from intervals import Scored
from systolith_sim.devices.classes import class_of
from systolith_sim.devices.device import Device, KernelParameters
from systolith_sim.devices.kernel import regimes
from systolith_sim.devices.library import find_device

STARTS = {"compute_efficiency": 0.9, "memory_efficiency": 0.9, "feed_bytes_per_s": 5e10}
MOST = {"compute_efficiency": 1.0, "memory_efficiency": 0.98}
FITTED, SCORED, CLASS = "fitted_matmul", "scored_matmul", "class"
ORIGIN = "Llama-3.1-8B layers on an RTX 4090 in casys-kaist/LLMServingSim@5daddb2, by benchmarks/fit_layers.py"


def trial(device: Device, own: Mapping[str, float]) -> Device:
    """The device with parameters of its own."""
    kept = {name: min(value, MOST.get(name, value)) for name, value in own.items()}
    figures = {name: datum(value, FITTED) for name, value in kept.items()}
    rule = class_of(device.kind).parameters(device)
    of_class = {
        name: datum(figure.value, CLASS)
        for name in ("launch_s", "k_step_s", "streaming_efficiency")
        if (figure := getattr(rule, name)) is not None
    }
    kernel = KernelParameters.model_validate({**figures, **of_class})
    return device.model_copy(update={"kernel": kernel})


def fit_products(device: Device, rows: Rows) -> Parameters:
    """Parameters that say best what the rows took."""

    def residuals(own: Mapping[str, float]) -> Array:
        return np.log(product_terms(trial(device, own), rows).total_s / rows.measured)

    return fit({"rows": residuals}, STARTS, {}, rounds=30)


def main() -> None:
    """Fit, print, and with ``--write`` update the device file."""
    chosen = arguments(__doc__, write="update the device file")
    (table,), device = TABLES, find_device(GEFORCE)
    every = {rows.operation: rows for rows in table.rows(chosen.data) if rows.device == GEFORCE}
    rows = every["matmul bf16"]
    used = table.used(rows)
    fitted = trial(device, fit_products(device, part(rows, used)))
    for name, some in (
        ("used", part(rows, used)), ("never", part(rows, ~used)), ("lm_head", every["matmul lm_head"]),
    ):  # fmt: skip
        off = product_terms(fitted, some).total_s / some.measured - 1
        print(f"{name}: MAPE {np.abs(off).mean():.2%}, bias {np.median(off):+.2%}, {len(some)} rows")
    print(fitted.kernel)
    if chosen.write:
        own = part(rows, used)
        terms = product_terms(fitted, own)
        groups = np.char.mod("%d", np.log2(np.asarray(own.inputs["m"], float)))  # doublings of the rows
        scored = Scored(own.measured / terms.total_s, regimes(terms), np.full(len(own), ""), groups)
        errors = regime_errors("matmul", scored, SCORED)
        sources = {FITTED: ORIGIN, SCORED: f"products of the fit, {ORIGIN}", CLASS: "the class of GPUs"}
        restate(device, sources, kernel=fitted.kernel, errors=(*other_errors(device.errors, "matmul"), *errors))


if __name__ == "__main__":
    main()
