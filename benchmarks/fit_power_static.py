"""Fit and score A100's energies of a byte and of an operation on board power of static batches.

    python benchmarks/fit_power_static.py --data DIR            print figures, identifiability and errors
    python benchmarks/fit_power_static.py --data DIR --write    and put them into the files of A100's die

Rows: power of argonne-lcf/LLM-Inference-Bench@4211f5d (BSD-3), one A100 40 GB, 1024 + 1024 tokens, batches that fit,
vLLM and TensorRT-LLM. DeepSpeed-MII is left out: its power shows work that is not in the graph (380 W where 0.5 TB/s
are needed). Two models do not tell the floor from bytes, so it is the file's idle power times the ratio of its class.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from accuracy_tables import Array
from fit_energy import condition, executed
from fit_engines import ENGINES, FOLDER, MODELS, fits, mape, reweighted
from fit_files import restate_energy
from fitting import arguments
from systolith_model.formats import Formats
from systolith_sim.devices.figures import Datum
from systolith_sim.devices.library import find_device
from systolith_sim.energy.device_energy import floor_power
from systolith_sim.estimate.engine import find_engine
from systolith_sim.estimate.generate import estimate
from systolith_sim.estimate.models import find_model
from systolith_sim.estimate.request import Request
from systolith_sim.parallel.layout import Layout

DEVICE, SAME_DIE = "a100-40", "a100-80"
NOTE = "bytes and operations share the scored interval of their sum, see benchmarks/fit_power_static.py"
SOURCE = (
    "board power of static batches, argonne-lcf/LLM-Inference-Bench@4211f5d, each model scored with the fit on the "
    "other, by benchmarks/fit_power_static.py"
)


@dataclass(frozen=True)
class Row:
    """One batch: what was measured, and what the graph says."""

    engine: str
    model: str
    batch: int
    length: int
    seconds: float
    watts: float
    predicted_s: float
    bytes: float
    flops: float
    """Executed, in operations of bf16."""

    @property
    def joules(self) -> float:
        """Measured, of the whole batch."""
        return self.watts * self.seconds


def measured(data: Path) -> list[tuple[str, str, int, int, float, float]]:
    """(engine, model, batch, length, seconds, watts) of the rows that count."""
    found = []
    with (data / FOLDER / "power_results.csv").open() as file:
        for row in csv.DictReader(file):
            engine, name = ENGINES.get(row["Framework"]), MODELS[row["Model"]]
            batch, length = int(row["Batch Size"]), int(row["Input Output Length"])
            if engine is not None and fits(find_model(name), 1, length, batch):
                found.append((engine, name, batch, length, float(row["Latency"]), float(row["avg_power"]) * 1e-3))
    return found


def rows(data: Path) -> list[Row]:
    """The same with the graph's bytes and operations."""
    found = []
    for engine, name, batch, length, seconds, watts in measured(data):
        request = Request(batch=batch, prompt=length, generate=length, formats=Formats.parse("fp16"))
        one = estimate(name, find_model(name), find_device(DEVICE), request, Layout(), find_engine(engine))
        steps, passes = length - 1, one.passes
        found.append(
            Row(
                engine, name, batch, length, seconds, watts, one.result.total_s,
                bytes=sum(tally.bytes for tally in one.tallies.values()),
                flops=executed(passes["prefill"]) + steps * executed(passes["decode"]),
            )
        )  # fmt: skip
    return found


def columns(chosen: Sequence[Row], *, predicted: bool = False) -> Array:
    """What floor, byte and operation multiply, over measured joules."""
    return np.array(
        [(row.predicted_s if predicted else row.seconds, row.bytes, row.flops) for row in chosen]
    ) / [[row.joules] for row in chosen]


def fit(chosen: Sequence[Row], floor_w: float) -> Array:
    """Floor, byte and operation; the latter two by least absolute deviations with the measured time."""
    matrix = columns(chosen)
    return np.array([floor_w, *reweighted(matrix[:, 1:], 1 - floor_w * matrix[:, 0])])


def write(constants: Array, ratio: Array) -> None:
    """Both files; ``ratio`` is measured over predicted joules of bytes and operations."""
    low, high = min(float(ratio.min()), 1.0), max(float(ratio.max()), 1.0)
    figures = [
        Datum(
            value=float(f"{value:.4g}"), low=float(f"{low * value:.4g}"), high=float(f"{high * value:.4g}"),
            source="staticpower", confidence="derived", note=NOTE,
        )
        for value in constants[1:]
    ]  # fmt: skip
    for name in (DEVICE, SAME_DIE):
        restate_energy(find_device(name), ("staticpower", SOURCE), figures[0], figures[1], {})


def main() -> None:
    """Fit, score, print, and with ``--write`` update the files."""
    chosen = arguments(__doc__, write="update the files of A100's die")
    every, floor = rows(chosen.data), floor_power(find_device(DEVICE))
    assert floor is not None  # the file states its idle power
    with_measured, with_predicted, dynamic = [], [], []
    for name in sorted({row.model for row in every}):
        own, others = [row for row in every if row.model == name], [row for row in every if row.model != name]
        constants, matrix = fit(others, floor.value), columns(own)
        with_measured.append(matrix @ constants)
        with_predicted.append(columns(own, predicted=True) @ constants)
        dynamic.append((1 - constants[0] * matrix[:, 0]) / (matrix[:, 1:] @ constants[1:]))
        print(f"{name:12} {mape(with_measured[-1]):.1%} with measured, {mape(with_predicted[-1]):.1%} with predicted "
              "time")  # fmt: skip
    measured_error, predicted_error = (mape(np.concatenate(part)) for part in (with_measured, with_predicted))
    print(f"the other model left out: {measured_error:.1%} with measured, {predicted_error:.1%} with predicted time, "
          f"{len(every)} rows")  # fmt: skip
    constants, matrix = fit(every, floor.value), columns(every)
    print(f"condition number {condition(matrix):.1f} with the floor free, {condition(matrix[:, 1:]):.1f} without it")
    print(f"floor {floor.value:.0f} W, {constants[1] * 1e12:.1f} pJ a byte, {constants[2] * 1e12:.3f} pJ an operation")
    if chosen.write:
        write(constants, np.concatenate(dynamic))


if __name__ == "__main__":
    main()
