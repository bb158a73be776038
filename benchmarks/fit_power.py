"""Fit the power of a GPU's board to products: a floor, energy of a byte touched and of an operation.

    python benchmarks/fit_power.py --data DIR

Prints the figures that stand, with this source, in the files of H200 and its relatives.
"""

import csv

import numpy as np

from accuracy_tables import Array
from accuracy_tables.gemm import FILES
from fitting import arguments, descend, distance

LIMIT_W = 0.993 * 700.0
"""Where the measured power saturates."""


def main() -> None:
    """Fit and print."""
    chosen = arguments(__doc__)
    with (chosen.data / "aiconfigurator" / FILES["h200"]).open() as file:
        rows = [row for row in csv.DictReader(file) if row["gemm_dtype"] == "bfloat16" and row["power"]]
    m, k, n, seconds, measured = (
        np.array([float(row[name]) for row in rows]) for name in ("m", "k", "n", "latency", "power")
    )
    seconds = seconds * 1e-3
    moved, work = 2 * (n * k + m * k + m * n) / seconds, 2 * m * n * k / seconds
    used = ((n * 7919 + k * 104729) % 1000003) % 2 == 0  # by site, as products are

    def power(trial: dict[str, float]) -> Array:
        return np.minimum(trial["floor_w"] + trial["j_per_byte"] * moved + trial["j_per_op"] * work, LIMIT_W)

    start = {"floor_w": 140.0, "j_per_byte": 1e-10, "j_per_op": 8e-13}
    fit = descend(lambda trial: distance(power(trial)[used], measured[used]), start)
    error = np.abs(power(fit)[~used] / measured[~used] - 1)
    print(fit, f"median error on other sites {np.median(error):.1%}, {np.mean(measured > LIMIT_W):.0%} at the limit")


if __name__ == "__main__":
    main()
