"""What the board power of products identifies on H200: a floor, energy of a byte by level, energy of an operation.

    python benchmarks/fit_power.py --data DIR            print figures, intervals, identifiability and errors
    python benchmarks/fit_power.py --data DIR --write    and put the floor into the files of H200's die

Rows: GEMM tables of ai-dynamo/aiconfigurator@095f58a with a power column, which H200 alone has. NVML's average lags
behind short runs: at some numbers of rows (2, 3, 17, 32, 64, 128, 192, 256 ...) the power is half of what their
neighbours draw that move the same bytes in the same time, so only ``STEADY`` numbers of rows count, and those from
``LARGE`` on, which run long. Power columns of the attention tables carry nothing: the same 8.6 us of a decode of one
token read 180 to 710 W, what ran before.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from accuracy_tables import Array, Mask
from accuracy_tables.gemm import FILES
from fit_files import folder, restate, restate_floor
from fitting import arguments, fit
from systolith_sim.devices.figures import Datum
from systolith_sim.devices.gemm import missing_share
from systolith_sim.devices.library import find_device, load_device
from systolith_sim.devices.products import machine_of

STEADY = (*range(4, 14), 15, 16, 33, 48, 49, 65, 80, 81, 96, 97, 112, 113, 129, 160, 161, 193, 224, 225)
LARGE = 1280
COPIES = 6
"""Copies of the weights that the benchmark walks over."""
LIMIT_W = 0.993 * 700.0
"""Where the measured power saturates."""
COLD_BYTES = 33e6
"""Weights whose copies are four times the last cache: read from main memory, as a model's are."""
START = {"floor_w": 140.0, "cache_j": 3e-11, "main_j": 5e-11, "op_j": 6e-13}
NAMES = ("floor, W", "byte touched, J", "the same from main memory, more, J", "operation, J")
RESAMPLES = 40
DIES = ("h200", "gh200", "gh200-144", "h100-sxm")
SOURCE = (
    "steady rows of the bf16 matmul table with power of ai-dynamo/aiconfigurator@095f58a (h200_sxm, vllm 0.22.0), by "
    "benchmarks/fit_power.py"
)


@dataclass(frozen=True)
class Products:
    """Measured products, what they move and do each second, and which the fit may use."""

    rows: Array
    weight_bytes: Array
    site: Array
    per_second: Array
    """Columns: 1, bytes touched, bytes from main memory, operations."""
    watts: Array

    @property
    def steady(self) -> Mask:
        """Rows whose power is that of the product."""
        return np.isin(self.rows, STEADY)

    @property
    def used(self) -> Mask:
        """Half the sites, as products are split."""
        return self.site % 1000003 % 2 == 0


def products(data: Path, numbers: str, width: int) -> Products:
    """Rows of one format, ``width`` bytes an operand."""
    with (data / "aiconfigurator" / FILES["h200"]).open() as file:
        found = [row for row in csv.DictReader(file) if row["gemm_dtype"] == numbers and row["power"]]
    m, k, n, ms, watts = (np.array([float(row[c]) for row in found]) for c in ("m", "k", "n", "latency", "power"))
    weight, other = width * n * k, width * m * k + 2 * m * n
    cache = machine_of(find_device("h200"), "bf16").cache_bytes
    main = weight * missing_share(COPIES * weight + other, cache) + other * missing_share(weight + other, cache)
    per_second = np.stack([np.ones_like(m), *(each / (ms * 1e-3) for each in (weight + other, main, 2 * m * n * k))], 1)
    return Products(m, weight, n * 7919 + k * 104729, per_second, watts)


def power_w(rows: Array, constants: Array) -> Array:
    """Modelled power, up to the limit."""
    return np.minimum(rows @ constants, LIMIT_W)


def fitted(rows: Array, watts: Array, **fixed: float) -> Array:
    """The four constants that minimize absolute deviations in logarithm, but for those ``fixed``."""

    def constants(trial: Mapping[str, float]) -> Array:
        return np.array([{**trial, **fixed}[name] for name in START])

    start = {name: value for name, value in START.items() if name not in fixed}
    return constants(fit({"power": lambda trial: np.log(power_w(rows, constants(trial)) / watts)}, start, {}))


def identified(rows: Array, watts: Array, site: Array) -> tuple[Array, Array, float]:
    """90 % intervals and correlations of the constants over resampled sites; condition number of the columns."""
    random, sites, drawn = np.random.default_rng(1), np.unique(site), []
    places = {one: np.flatnonzero(site == one) for one in sites}
    for _ in range(RESAMPLES):
        chosen = np.concatenate([places[one] for one in random.choice(sites, len(sites))])
        drawn.append(fitted(rows[chosen], watts[chosen]))
    columns = rows / watts[:, None]
    condition = np.linalg.cond(columns / np.linalg.norm(columns, axis=0))
    return np.quantile(drawn, (0.05, 0.95), axis=0), np.corrcoef(np.array(drawn).T), float(condition)


def mape(rows: Array, watts: Array, constants: Array) -> float:
    """Mean absolute error."""
    return float(np.mean(np.abs(power_w(rows, constants) / watts - 1)))


def write(constants: Array, ends: Array) -> None:
    """The floor into the files of this die, the energy of a byte from the cache into H200's."""
    notes = ("floor of board power while kernels run, before bytes and operations", "of a byte that a matmul touches")
    floor, cache = (
        Datum(
            value=float(f"{constants[place]:.4g}"), low=float(f"{ends[0, place]:.4g}"),
            high=float(f"{ends[1, place]:.4g}"), source="h200power", confidence="measured", note=note,
        )
        for place, note in enumerate(notes)
    )  # fmt: skip
    for name in DIES:
        restate_floor(load_device(folder() / f"{name}.toml"), floor, SOURCE)
    device = load_device(folder() / "h200.toml")
    level = device.memories["l2"].model_copy(update={"energy_j_per_byte": cache})
    restate(device, {"h200power": SOURCE}, memories={**device.memories, "l2": level})


def main() -> None:
    """Fit, print, and with ``--write`` update the files."""
    chosen = arguments(__doc__, write="update the floor in the files of this die")
    wide, narrow = products(chosen.data, "bfloat16", 2), products(chosen.data, "fp8_block", 1)
    seen, unseen = wide.steady & wide.used, wide.steady & ~wide.used
    constants = fitted(wide.per_second[seen], wide.watts[seen])
    ends, correlation, condition = identified(wide.per_second[seen], wide.watts[seen], wide.site[seen])
    for place, name in enumerate(NAMES):
        print(f"{name:36} {constants[place]:.4g} ({ends[0, place]:.3g} .. {ends[1, place]:.3g})")
    print(f"condition number {condition:.1f}; correlation of the two bytes {correlation[1, 2]:.2f}, of floor and byte "
          f"{correlation[0, 1]:.2f}; other sites {mape(wide.per_second[unseen], wide.watts[unseen], constants):.1%}, "
          f"{int(unseen.sum())} rows")  # fmt: skip
    cold = (wide.weight_bytes > COLD_BYTES) & (wide.steady | (wide.rows >= LARGE))
    rest, other = cold & wide.used, cold & ~wide.used
    alone = fitted(wide.per_second[rest], wide.watts[rest], floor_w=constants[0], main_j=0.0)
    print(f"weights from main memory, this floor: byte {alone[1]:.3g} J, operation {alone[3]:.3g} J; other sites "
          f"{mape(wide.per_second[other], wide.watts[other], alone):.1%}, {int(other.sum())} rows")  # fmt: skip
    rates = [np.median(some.per_second[(some.rows >= 4096) & (some.watts > 680), 3]) for some in (wide, narrow)]
    print(f"at the limit fp8_block does {rates[1] / rates[0]:.2f} times the operations of bf16 a second")
    if chosen.write:
        write(constants, ends)



if __name__ == "__main__":
    main()
