"""Fit and score the engines' constants on static batches of Llama-like models on A100 40 GB, a model left out.

    python benchmarks/fit_engines.py --data DIR            print constants and errors
    python benchmarks/fit_engines.py --data DIR --write    and put them into the engines' files

Rows: Argonne's LLM-Inference-Bench (argonne-lcf/LLM-Inference-Bench@4211f5d, BSD-3), input and output of equal
length, batches that fit (weights + batch x 2 x length x KV bytes below 36.5 GB a device: larger ones ran in waves).
Three numbers an engine: the share of kernel launches that is not hidden, time a sequence and step, and time a step
of a tensor parallel group. Least absolute relative deviations; the kernels' own parameters are not touched.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fitting import arguments
from intervals import Ends
from systolith_model.formats import Formats
from systolith_model.parameters import kv_bytes, weight_bytes
from systolith_sim.devices.library import find_device
from systolith_sim.estimate.engine import find_engine
from systolith_sim.estimate.generate import estimate
from systolith_sim.estimate.models import Model, find_model
from systolith_sim.estimate.replica import Replica
from systolith_sim.estimate.request import Request
from systolith_sim.parallel.layout import Layout

FOLDER = "argonne-llm-inference-bench"
ENGINES = {"vLLM": "vllm", "TensorRT-LLM": "tensorrt-llm"}
MODELS = {
    "meta-llama/Llama-2-7b-hf": "llama-2-7b",
    "meta-llama/Meta-Llama-3-8B": "llama-3-8b",
    "mistralai/Mistral-7B-v0.1": "mistral-7b-v0.1",
    "Qwen/Qwen2-7B": "qwen2.5-7b",  # the same shape
    "meta-llama/Llama-2-70b-hf": "llama-2-70b",
    "meta-llama/Meta-Llama-3-70B": "llama-3-70b",
    "mistralai/Mixtral-8x7B-v0.1": "mixtral-8x7b",
}
TENSOR_PARALLEL = ("Tensor Parallelism", "TP")
OTHER_LAYOUTS = {
    ("Pipeline Parallelism", 2): Layout(pp=2),
    ("Pipeline Parallelism", 4): Layout(pp=4),
    ("PP", 2): Layout(pp=2),
    ("PP", 4): Layout(pp=4),
    ("Hybird Tensor (2) and Pipeline (2) Parallelism", 4): Layout(tp=2, pp=2),
    ("Hybrid TP = 2 and PP = 2", 4): Layout(tp=2, pp=2),
    ("EP", 4): Layout(tp=4, ep=4),
    ("Hybrid TP = 2 and EP = 2", 4): Layout(tp=4, ep=2),
}
"""By the table's words and devices."""
USABLE_BYTES = 36.5e9
BAD = {("tensorrt-llm", "llama-2-7b", 1, 128, 16, 3.432)}
"""Rows that the same table contradicts: 1.81 s elsewhere."""
ALIKE = {("tensorrt-llm", "mixtral-8x7b")}
"""Tables whose batches reach no more experts than one sequence does: batch 16 takes 1.3 times batch 1, where even
routing over 8 experts would read four times the weights; presumably one prompt, repeated. Not scored."""
DEVICE = "a100-40"
CONSTANTS: tuple[str, ...] = ("launch_share", "sequence_s", "group_step_s")
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """One measured configuration, and what the kernels alone say of it."""

    engine: str
    model: str
    devices: int
    length: int
    batch: int
    measured_s: float
    kernels_s: float
    """Kernels and messages without any launch."""
    features: tuple[float, float, float]
    """Seconds of launches, sequences times steps, steps of a group: what the constants multiply."""


def measured(data: Path) -> dict[tuple[str, str, int, int, int], float]:
    """Median latency by (engine, model, devices, length, batch); tensor parallel configurations alone."""
    found = defaultdict(list)
    for name, kinds in (("all_results.csv", None), ("tp_ep_pp.csv", TENSOR_PARALLEL)):
        with (data / FOLDER / name).open() as file:
            for row in csv.DictReader(file):
                engine, model = ENGINES.get(row["Framework"]), MODELS.get(row["Model"])
                if engine is None or model is None or (kinds and row["Parallelism Type"] not in kinds):
                    continue
                sizes = tuple(int(row[key]) for key in ("Num of Hardware", "Input Output Length", "Batch Size"))
                if (engine, model) in ALIKE:
                    continue
                latency = float(row["Latency"])
                if (engine, model, *sizes, round(latency, 3)) not in BAD:
                    found[engine, model, *sizes].append(latency)
    return {key: float(np.median(values)) for key, values in found.items()}


def fits(model: Model, devices: int, length: int, batch: int) -> bool:
    """Whether a batch ran at once."""
    formats = Formats.parse("fp16")
    cache = kv_bytes(model.shape, tokens=2 * length, batch=batch, format="fp16")
    return (weight_bytes(model.shape, formats) + cache) / devices < USABLE_BYTES


def predicted(data: Path) -> list[Row]:
    """Rows that fit, with the kernels' share of each."""
    device, models = find_device(DEVICE), {name: find_model(name) for name in MODELS.values()}
    replicas: dict[tuple[str, int], Replica] = {}
    rows = []
    for (engine, name, devices, length, batch), seconds in sorted(measured(data).items()):
        model = models[name]
        if not fits(model, devices, length, batch):
            continue
        key = name, devices
        if key not in replicas:
            replicas[key] = Replica(device, model, Layout(tp=devices), find_engine("none"), Formats.parse("fp16"))
        rows.append(_row(replicas[key], engine, name, devices, length, batch, seconds))
    return rows


def _row(
    replica: Replica, engine: str, name: str, devices: int, length: int, batch: int, seconds: float
) -> Row:
    steps = length - 1
    whole = replica.prefill_tally(batch=batch, prompt=length)
    whole = whole + replica.steps_tally(batch=batch, prompt=length, steps=steps)
    launch_s = replica.work(batch=batch, prompt=length).launch_s
    launch_s += steps * replica.work(batch=batch, prompt=length, done=max(1, steps // 2)).launch_s
    features = (launch_s, float(length * batch), float(length * (devices > 1)))
    return Row(engine, name, devices, length, batch, seconds, whole.seconds - launch_s, features)


def fit(rows: Sequence[Row]) -> Array:
    """The three constants, least absolute relative deviations."""
    measured_s = np.array([row.measured_s for row in rows])
    matrix = np.array([row.features for row in rows]) / measured_s[:, None]
    return reweighted(matrix, (measured_s - [row.kernels_s for row in rows]) / measured_s)


def reweighted(matrix: Array, target: Array) -> Array:
    """Constants c >= 0 with the least sum of abs(matrix c - target), by reweighting; a negative one becomes 0."""
    scale = np.abs(matrix).max(0)
    used, matrix = scale > 0, matrix / np.where(scale > 0, scale, 1.0)
    constants, weights = np.zeros(matrix.shape[1]), np.ones(len(target))
    for _ in range(80):
        free = np.linalg.lstsq(matrix[:, used] * weights[:, None], target * weights, rcond=None)[0]
        if (free < 0).any():
            used[np.flatnonzero(used)[np.argmin(free)]] = False
            constants[:], weights[:] = 0.0, 1.0
            continue
        constants[used] = free
        weights = 1 / np.sqrt(np.maximum(abs(target - matrix @ constants), 0.01))
    return constants / np.where(scale > 0, scale, 1.0)


def ratios(rows: Iterable[Row], constants: Array) -> Array:
    """Predicted over measured."""
    return np.array([(row.kernels_s + np.dot(row.features, constants)) / row.measured_s for row in rows])


def left_out(rows: Sequence[Row]) -> dict[tuple[str, int], Array]:
    """Predicted over measured by (model, devices), the constants fitted without the model."""
    found = {}
    for name in sorted({row.model for row in rows}):
        constants = fit([row for row in rows if row.model != name])
        for devices in sorted({row.devices for row in rows if row.model == name}):
            own = [row for row in rows if row.model == name and row.devices == devices]
            found[name, devices] = ratios(own, constants)
    return found


def report(engine: str, rows: Sequence[Row]) -> tuple[Array, dict[int, Array]]:
    """Print an engine's scores; gives its constants, and by width the ratios with the model left out."""
    found, constants, scored = left_out(rows), fit(rows), {}
    print(f"\n{engine}: launch share {constants[0]:.3f}, {constants[1] * 1e6:.1f} us a sequence, "
          f"{constants[2] * 1e3:.2f} ms a step of a group")  # fmt: skip
    for devices in sorted({row.devices for row in rows}):
        parts = {name: values for (name, count), values in found.items() if count == devices}
        every = scored[devices] = np.concatenate(list(parts.values()))
        each = ", ".join(f"{name} {mape(values):.1%}" for name, values in parts.items())
        print(f"  TP {devices}: {mape(every):.1%}, bias {np.median(every) - 1:+.1%}, {len(every)} rows ({each})")
    return constants, scored


def mape(values: Array) -> float:
    """Mean of abs(values - 1), for predicted over measured."""
    return float(np.mean(np.abs(values - 1)))


def other_layouts(data: Path) -> None:
    """Print how far pipelines and expert parallel groups are from rows under TensorRT-LLM on A100.

    Pipelines at batch 1, and of Llama-3-8B; those of Llama-2-7B take two to five times one GPU's time from batch 16 on.
    """
    device, engine = find_device(DEVICE), find_engine("tensorrt-llm")
    found = defaultdict(list)
    with (data / FOLDER / "tp_ep_pp.csv").open() as file:
        for row in csv.DictReader(file):
            layout = OTHER_LAYOUTS.get((row["Parallelism Type"], int(row["Num of Hardware"])))
            length, batch = int(row["Input Output Length"]), int(row["Batch Size"])
            if layout is None or (batch > 1 and not row["Model"].endswith("Llama-3-8B")) or row["Model"] not in MODELS:
                continue
            model = find_model(MODELS[row["Model"]])
            request = Request(batch=batch, prompt=length, generate=length, formats=Formats.parse("fp16"))
            took = estimate(row["Model"], model, device, request, layout, engine).result.total_s
            found["experts" if layout.ep > 1 else "pipelines"].append(took / float(row["Latency"]))
    print("\ntensorrt-llm, nothing fitted")
    for kind, values in found.items():
        print(f"  {kind}: {mape(np.array(values)):.1%}, {len(values)} rows")


def write(
    engine: str, device: str, constants: Mapping[str, float], ratios: Mapping[int, Array],
    ends: Mapping[int, Ends] | None = None,
) -> None:  # fmt: skip
    """Constants by name and scored errors by tensor parallel width into the engine's file.

    ``ends`` are intervals of measured over predicted by width; without them, the middle 90 % of ``ratios``.
    """
    path = Path(str(resources.files("systolith_sim.estimate") / "engines" / f"{engine}.toml"))
    text = path.read_text("utf-8").partition("[[errors]]")[0].rstrip() + "\n"
    for name, value in constants.items():
        text = re.sub(rf"^{name} = {{ value = [^,]+", f"{name} = {{ value = {value:.4g}", text, flags=re.M)
    for width, every in sorted(ratios.items()):
        low, high = ends[width] if ends else np.quantile(1 / every, (0.05, 0.95))
        text += f"""
[[errors]]
device = "{device}"
tp = {width}
low = {min(low, 1.0):.3f}
high = {max(high, 1.0):.3f}
mape = {mape(every):.4f}
rows = {len(every)}
source = "scored"
"""
    path.write_text(text, "utf-8")


def main() -> None:
    """Fit, score, print, and with ``--write`` update the engines' files."""
    chosen = arguments(__doc__, write="update the engines' files")
    rows = predicted(chosen.data)
    for engine in ENGINES.values():
        constants, scored = report(engine, [row for row in rows if row.engine == engine])
        if chosen.write:
            write(engine, DEVICE, dict(zip(CONSTANTS, constants.tolist(), strict=True)), scored)
    other_layouts(chosen.data)


if __name__ == "__main__":
    main()
