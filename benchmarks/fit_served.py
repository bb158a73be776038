"""Fit and score the constants of TensorRT-LLM 1.0 on time per token of a served model, by tensor parallel width.

    python benchmarks/fit_served.py --data DIR            print constants and errors
    python benchmarks/fit_served.py --data DIR --write    and put them into the engine's file

Rows: Llama-3.1-8B on H100 in the serving sample of ai-dynamo/aiconfigurator@095f58a (Apache-2.0): 8 to 128 requests in
flight, 1,024 to 4,096 tokens in, 128 to 512 out, on 1, 2, 4 and 8 devices. Three constants: time a step, time a
sequence of it, and host time an operation of a pass with prompts, which no graph launches. Scores and intervals: rows
of 1 and 4 devices with the constants fitted on those of 2 and 8, and the other way round; intervals hold rows of a
number in flight that they were not set on. The kernels' own parameters are not touched.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fit_engines import Array, mape, write
from fitting import Parameters, arguments, descend, distance
from intervals import Scored, interval
from systolith_model.formats import Formats
from systolith_sim.devices.figures import Datum
from systolith_sim.devices.library import find_device
from systolith_sim.estimate.engine import Engine, find_engine
from systolith_sim.estimate.models import find_model
from systolith_sim.estimate.replica import Replica
from systolith_sim.parallel.layout import Layout

ENGINE, SAMPLE = "tensorrt-llm-1.0", "aiconfigurator/e2e_serving_silicon_sample.csv"
MODEL, DEVICE = "llama-3.1-8b", "h100-sxm"
"""What the constants are fitted on; rows of others are scored alone."""
MODELS = {"meta-llama/Llama-3.1-8B-Instruct": "llama-3.1-8b", "Qwen/Qwen3-32B": "qwen3-32b"}
SYSTEMS = {"h100_sxm": "h100-sxm", "h200_sxm": "h200"}
HALVES = ((1, 4), (2, 8))
"""Widths of groups that are left out together: each has a narrow one and a wide one, so all constants show in both."""
GROUPS = ((1, 2), (4, 8))
"""Widths whose errors are taken together: bound by the device, and by its host."""
START = {"step_s": 4e-4, "sequence_s": 1e-5, "eager_operation_s": 6e-5}


@dataclass(frozen=True)
class Sizes:
    """One measured point: ``width`` devices, ``flight`` requests of ``prompt`` tokens in and ``generate`` out."""

    model: str
    device: str
    width: int
    flight: int
    prompt: int
    generate: int


@dataclass(frozen=True)
class Row:
    """A point, and what kernels and messages alone say of its passes."""

    sizes: Sizes
    measured_s: float
    step_s: float
    """A decode step."""
    mixed_s: float
    """The same with one prompt."""
    operations: float
    """Kernels and messages of the pass with a prompt."""


def measured(data: Path) -> list[tuple[Sizes, float]]:
    """Points of the models and devices there are, with seconds a token; none where the file lacks."""
    path, found = data / SAMPLE, []
    if not path.exists():
        return []
    with path.open() as file:
        for row in csv.DictReader(file):
            model, device = MODELS.get(row["model_path"]), SYSTEMS.get(row["system"])
            if model is None or device is None:
                continue
            width, flight = int(float(row["tp_size"])), int(float(row["batch_size"]))
            sizes = Sizes(model, device, width, flight, int(row["isl"]), int(row["osl"]))
            found.append((sizes, float(row["silicon_tpot_ms"]) * 1e-3))
    return found


def bare() -> Engine:
    """The engine without its constants."""
    none = Datum(value=0.0, source="fitted", confidence="derived")
    return find_engine(ENGINE).model_copy(update=dict.fromkeys(START, none))


def predicted(data: Path) -> list[Row]:
    """Rows that the constants are fitted on."""
    replicas: dict[int, Replica] = {}
    rows = []
    for sizes, seconds in measured(data):
        if (sizes.model, sizes.device) != (MODEL, DEVICE):
            continue
        if sizes.width not in replicas:
            layout = Layout(tp=sizes.width)
            replicas[sizes.width] = Replica(find_device(DEVICE), find_model(MODEL), layout, bare(), Formats())
        rows.append(_row(replicas[sizes.width], sizes, seconds))
    return rows


def _row(replica: Replica, sizes: Sizes, seconds: float) -> Row:
    done = 1 + sizes.generate // 2
    step = replica.step_tally(batch=sizes.flight, prompt=sizes.prompt, done=done)
    mixed = replica.mixed_tally(batch=sizes.flight, prompt=sizes.prompt, done=done)
    # The pass of an engine that needs one second an operation is as long as it has operations.
    datum = Datum(value=1.0, source="fitted", confidence="derived")
    slow = replace(replica, engine=replica.engine.model_copy(update={"eager_operation_s": datum}))
    operations = slow.mixed_tally(batch=sizes.flight, prompt=sizes.prompt, done=done).seconds
    return Row(sizes, seconds, step.seconds, mixed.seconds, operations)


def ratios(rows: Sequence[Row], constants: Mapping[str, float]) -> Array:
    """Predicted over measured."""
    found = []
    for row in rows:
        flight, entering = row.sizes.flight, (row.sizes.flight - 1) / row.sizes.generate
        mixed_s = max(row.mixed_s, row.operations * constants["eager_operation_s"]) + constants["sequence_s"]
        token_s = row.step_s + entering * (mixed_s - row.step_s)
        token_s += constants["step_s"] + constants["sequence_s"] * flight
        found.append(token_s / row.measured_s)
    return np.array(found)


def fit(rows: Sequence[Row], free: Sequence[str] = tuple(START)) -> Parameters:
    """The three constants, least absolute logarithms; those that are not ``free`` are 0."""
    held = {name: 0.0 for name in START if name not in free}
    start = {name: START[name] for name in free}
    return held | descend(lambda trial: distance(ratios(rows, held | trial), np.ones(len(rows))), start)


def left_out(rows: Sequence[Row], free: Sequence[str] = tuple(START)) -> dict[int, Array]:
    """Predicted over measured by width, each half of the widths with the constants fitted on the other."""
    found = {}
    for half in HALVES:
        constants = fit([row for row in rows if row.sizes.width not in half], free)
        own = [row for row in rows if row.sizes.width in half]
        report(own, constants, f"scored on TP {half}, fitted on the others")
        for width in half:
            found[width] = ratios([row for row in rows if row.sizes.width == width], constants)
    return found


def errors(rows: Sequence[Row], scored: Mapping[int, Array], widths: Sequence[int]) -> Scored:
    """Rows of some widths; those of one width with as many requests in flight go together, as they queue alike."""
    own = [row for width in widths for row in rows if row.sizes.width == width]
    none = np.full(len(own), "")
    groups = np.array([f"{row.sizes.width} {row.sizes.flight}" for row in own])
    return Scored(1 / np.concatenate([scored[width] for width in widths]), none, none, groups)


def report(rows: Sequence[Row], constants: Mapping[str, float], title: str) -> None:
    """Print constants, and their error by width."""
    print(f"\n{title}: {constants['step_s'] * 1e3:.3f} ms a step, {constants['sequence_s'] * 1e6:.1f} us a sequence, "
          f"{constants['eager_operation_s'] * 1e6:.1f} us an operation that no graph launches")  # fmt: skip
    for width in sorted({row.sizes.width for row in rows}):
        values = ratios([row for row in rows if row.sizes.width == width], constants)
        print(f"  TP {width}: {mape(values):.1%}, bias {np.median(values) - 1:+.1%}, {len(values)} rows")


def main() -> None:
    """Fit, score, print, and with ``--write`` update the engine's file."""
    chosen = arguments(__doc__, write="update the engine's file")
    rows = predicted(chosen.data)
    report(rows, dict.fromkeys(START, 0.0), "kernels alone")
    constants = fit(rows)
    report(rows, constants, "fitted on all")
    left_out(rows, ("step_s", "sequence_s"))
    scored = left_out(rows)
    groups = {min(group): np.concatenate([scored[width] for width in group]) for group in GROUPS}
    ends = {min(group): interval(errors(rows, scored, group)) for group in GROUPS}
    for width, (low, high) in ends.items():
        print(f"measured over predicted from TP {width} on: {low:.3f} to {high:.3f}")
    if chosen.write:
        write(ENGINE, DEVICE, constants, groups, ends)


if __name__ == "__main__":
    main()
