"""Fit the step of the kernel that decodes latent attention before Hopper, and print it.

    python benchmarks/fit_latent.py --data DIR

One constant, FLASH2 of attention_library.py; everything else is as packaged. A single head runs another kernel and
is left out of the fit.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from accuracy_tables.latent import FITTED, TABLES, latent_terms
from fitting import Array, arguments, fit
from systolith_sim.devices.attention_library import FLASH2, LatentDecode
from systolith_sim.devices.library import find_device


def main() -> None:
    """Fit and print."""
    chosen = arguments(__doc__)
    (table,), (name, operation, _) = TABLES, FITTED
    rows = next(rows for rows in table.rows(chosen.data) if (rows.device, rows.operation) == (name, operation))
    used, device = table.used(rows), find_device(name)

    def off(step_s: float) -> Array:
        library = replace(FLASH2, latent=LatentDecode(step_s))
        return latent_terms(device, rows, library).total_s / rows.measured

    def residuals(trial: Mapping[str, float]) -> Array:
        return np.log(off(trial["step_s"])[used])

    found = fit({"rows": residuals}, {"step_s": 4e-6}, {})["step_s"]
    single = np.asarray(rows.inputs["heads"], float) == 1
    print(f"step_s {found:.4g}")
    for word, mask in (("used", used), ("never, one head", single), ("never, more", ~used & ~single)):
        print(f"{word}: MAPE {np.abs(off(found)[mask] - 1).mean():.2%}, {mask.sum()} rows")


if __name__ == "__main__":
    main()
