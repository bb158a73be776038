"""Fit and score energy per token top-down, and the constants of vLLM of 2025, on H100 rows of ML.ENERGY.

    python benchmarks/fit_energy.py --data DIR            print constants and errors
    python benchmarks/fit_energy.py --data DIR --write    and put them into the engine's and the device's file

Rows: dense transformers of ml-energy/leaderboard@0cd52da (data Apache-2.0): joules and board power of all GPUs,
tokens per second, mean batch, in steady state. Energy per token = floor x devices x time + e_byte x bytes + e_op x
operations, with those on the padding of decode attention's tiles, and narrower operations at ``RELATIVE``.
The rows alone do not tell the floor from bytes (their columns' condition number is printed), so the floor is what
fit_power.py identified on H200, the same die; bytes and operations share the interval of their sum.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fit_engines import CONSTANTS, Array, mape, reweighted, write
from fit_files import restate_energy
from fitting import arguments
from systolith_model.formats import Formats
from systolith_sim.devices.figures import Datum
from systolith_sim.devices.library import find_device
from systolith_sim.estimate.engine import find_engine
from systolith_sim.estimate.models import find_model
from systolith_sim.estimate.passes import Pass
from systolith_sim.estimate.replica import Replica
from systolith_sim.parallel.layout import Layout

DEVICE, ENGINE = "h100-sxm", "vllm-2025"
PROMPTS = {"lm-arena-chat": 75, "gpqa": 200, "image-chat": 500}
"""Tokens of a prompt, which the rows do not state. Assumed: LMSYS-Chat-1M's users wrote 70 on average (recalled);
a GPQA question with its choices and an image are a few hundred."""
MODELS = {
    "Qwen/Qwen3-8B": "qwen3-8b",
    "Qwen/Qwen3-14B": "qwen3-14b",
    "Qwen/Qwen3-32B": "qwen3-32b",
    "Qwen/Qwen3-VL-8B-Instruct": "qwen3-8b",  # the language model's shape
    "Qwen/Qwen3-VL-32B-Instruct": "qwen3-32b",
    "google/gemma-3-12b-it": "gemma-3-12b",
    "google/gemma-3-27b-it": "gemma-3-27b",
    "meta-llama/Llama-3.1-8B-Instruct": "llama-3.1-8b",
    "meta-llama/Llama-3.1-70B-Instruct": "llama-3.1-70b",
    "meta-llama/Llama-3.3-70B-Instruct": "llama-3.1-70b",  # the same shape
    "meta-llama/Llama-3.1-405B-Instruct-FP8": "llama-3.1-405b",
}


NOTE = "bytes and operations share the scored interval of their sum, see benchmarks/fit_energy.py"
SOURCE = (
    "least absolute deviations on dense models of ml-energy/leaderboard@0cd52da, each scored with the fit on the "
    "others, by benchmarks/fit_energy.py"
)
RELATIVE = {"fp8": 1 / 1.43}
"""Energy of an operation over one in bf16: at its limit of power, H200 does so many more (fit_power.py)."""


@dataclass(frozen=True)
class Row:
    """One steady state: what was measured, and what the kernels say of one token of a request."""

    model: str
    devices: int
    batch: int
    measured_s: float
    """Mean time between two tokens of a request."""
    joules: float
    """Per token, all devices."""
    kernels_s: float
    features: tuple[float, float, float]
    """Seconds of launches, sequences and group steps in that time: what the engine's constants multiply."""
    bytes: float
    flops: float
    """Executed, in operations of bf16."""

    def energy_features(self, seconds: float) -> tuple[float, float, float]:
        """What the floor, e_byte and e_op multiply."""
        return self.devices * seconds / self.batch, self.bytes, self.flops


def floor_w() -> float:
    """Power while kernels run, before bytes and operations."""
    floor = find_device(DEVICE).power.active_w
    assert floor is not None  # fit_power.py wrote it
    return floor.value


def executed(work: Pass) -> float:
    """Operations on one device, with padding, in operations of bf16."""
    return sum(
        kernel.count * (kernel.time.flops + kernel.time.padding_flops) * RELATIVE.get(kernel.time.format, 1.0)
        for kernel in work.kernels
    )


def rows(data: Path) -> list[Row]:
    """All rows of dense transformers."""
    engine = find_engine("none")
    replicas: dict[tuple[str, int, str], Replica] = {}
    found = []
    for task, prompt in PROMPTS.items():
        with (data / "ml-energy" / f"{task}.csv").open() as file:
            for row in csv.DictReader(file):
                if row["architecture"] != "Dense Transformer":
                    continue
                formats = "fp8/bf16" if row["weight_precision"] == "fp8" else "bf16"
                key = row["model_id"], int(row["tensor_parallel"]), formats
                if key not in replicas:
                    model, layout = find_model(MODELS[key[0]]), Layout(tp=key[1])
                    replicas[key] = Replica(find_device(DEVICE), model, layout, engine, Formats.parse(formats))
                found.append(_row(replicas[key], row, prompt))
    return found


def _row(replica: Replica, row: dict[str, str], prompt: int) -> Row:
    width, mean = replica.layout.tp, float(row["avg_batch_size"])
    batch, generate = max(1, round(mean)), int(float(row["avg_output_len"]))
    done = 1 + generate // 2
    enter = replica.prefill_tally(batch=1, prompt=prompt)
    step = replica.step_tally(batch=batch, prompt=prompt, done=done)
    # In the time of one token of each request, batch / generate prompts enter.
    entering = batch / generate
    step_work, enter_work = replica.work(batch=batch, prompt=prompt, done=done), replica.work(batch=1, prompt=prompt)
    launch_s = step_work.launch_s + entering * enter_work.launch_s
    return Row(
        row["model_id"], width, batch,
        measured_s=mean / float(row["output_throughput_tokens_per_sec"]),
        joules=float(row["energy_per_token_joules"]),
        kernels_s=step.seconds + entering * enter.seconds - launch_s,
        features=(launch_s, batch + entering, (1 + entering) * (width > 1)),
        bytes=width * (step.bytes / batch + enter.bytes / generate),
        flops=width * (executed(step_work) / batch + executed(enter_work) / generate),
    )  # fmt: skip


def fit_time(chosen: Sequence[Row]) -> Array:
    """The engine's three constants."""
    measured = np.array([row.measured_s for row in chosen])
    matrix = np.array([row.features for row in chosen]) / measured[:, None]
    return reweighted(matrix, (measured - [row.kernels_s for row in chosen]) / measured)


def fit_energy(chosen: Sequence[Row]) -> Array:
    """Floor, e_byte and e_op, the latter two fitted with the measured time."""
    matrix = energy_columns(chosen)
    return np.array([floor_w(), *reweighted(matrix[:, 1:], 1 - floor_w() * matrix[:, 0])])


def energy_columns(chosen: Sequence[Row]) -> Array:
    """Energy features over measured joules."""
    return np.array([row.energy_features(row.measured_s) for row in chosen]) / [[row.joules] for row in chosen]


def dynamic_ratio(chosen: Sequence[Row], energy: Array) -> Array:
    """Measured over predicted joules of bytes and operations, with the measured time."""
    matrix = energy_columns(chosen)
    return (1 - energy[0] * matrix[:, 0]) / (matrix[:, 1:] @ energy[1:])


def condition(matrix: Array) -> float:
    """Condition number of columns scaled to the same length."""
    return float(np.linalg.cond(matrix / np.linalg.norm(matrix, axis=0)))


def predicted_s(row: Row, constants: Array) -> float:
    """Time between two tokens."""
    return row.kernels_s + float(np.dot(row.features, constants))


def write_device(constants: Array, ratio: Array) -> None:
    """The device's energies of a byte and of an operation; ``ratio`` is measured over predicted, models left out."""
    low, high = np.quantile(ratio, (0.05, 0.95))

    def figure(value: float, note: str = NOTE) -> Datum:
        ends = [float(f"{end * value:.4g}") for end in (min(low, 1.0), 1.0, max(high, 1.0))]
        return Datum(value=ends[1], low=ends[0], high=ends[2], source="mlenergy", confidence="derived", note=note)

    own = {
        name: figure(share * constants[2], f"{share:.2f} of bf16, as at the limit of power on H200")
        for name, share in RELATIVE.items()
    }
    restate_energy(find_device(DEVICE), ("mlenergy", SOURCE), figure(constants[1]), figure(constants[2]), own)


def main() -> None:
    """Fit, score, print, and with ``--write`` update the files."""
    chosen = arguments(__doc__, write="update the engine's and the device's file")
    every = rows(chosen.data)
    times, measured, predicted, dynamic = [], [], [], []
    for name in sorted({row.model for row in every}):
        own, others = [row for row in every if row.model == name], [row for row in every if row.model != name]
        engine, energy = fit_time(others), fit_energy(others)
        seconds = np.array([predicted_s(row, engine) for row in own])
        joules = [
            np.array([np.dot(row.energy_features(s), energy) / row.joules for row, s in zip(own, which, strict=True)])
            for which in ([row.measured_s for row in own], seconds)
        ]
        ratio = seconds / [row.measured_s for row in own]
        times.append(ratio)
        measured.append(joules[0])
        predicted.append(joules[1])
        dynamic.append(dynamic_ratio(own, energy))
        print(f"{name:42} time {mape(ratio):6.1%}  energy {mape(joules[0]):6.1%} with measured, "
              f"{mape(joules[1]):6.1%} with predicted time")  # fmt: skip
    print(f"a model left out: time {mape(np.concatenate(times)):.1%}, energy {mape(np.concatenate(measured)):.1%} with "
          f"measured time, {mape(np.concatenate(predicted)):.1%} with predicted time, {len(every)} rows")  # fmt: skip
    constant = np.array([600 * row.energy_features(row.measured_s)[0] / row.joules for row in every])
    print(f"600 W x measured time: {mape(constant):.1%}")
    engine, energy = fit_time(every), fit_energy(every)
    columns = energy_columns(every)
    print(f"condition number {condition(columns):.1f} with the floor free, {condition(columns[:, 1:]):.1f} without it")
    print(f"launch share {engine[0]:.2f}, {engine[1] * 1e6:.1f} us a sequence, "
          f"{engine[2] * 1e3:.2f} ms a group step; floor {energy[0]:.0f} W, {energy[1] * 1e12:.1f} pJ a byte, "
          f"{energy[2] * 1e12:.3f} pJ an operation")  # fmt: skip
    if chosen.write:
        constants = dict(zip(CONSTANTS, engine.tolist(), strict=True))
        write(ENGINE, DEVICE, constants, {1: np.concatenate(times)})
        write_device(energy, np.concatenate(dynamic))


if __name__ == "__main__":
    main()
