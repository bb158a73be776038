"""Whole models: latency of static batches, time per token of a served model; energy is in ``power``.

Inputs: ``model`` (name), ``devices``, ``prompt``, ``generate`` (tokens), ``batch`` (sequences). The regime is what
bounds most of the time. Constants of the engines were fitted on the static batches: their scores with the model under
test left out are printed by fit_engines.py.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import fit_engines
import fit_served
from accuracy_tables import Mask, Prediction, Rows
from systolith_model.formats import Formats
from systolith_sim.devices.library import find_device
from systolith_sim.estimate.closed_loop import ClosedLoop, closed_loop
from systolith_sim.estimate.engine import find_engine
from systolith_sim.estimate.generate import estimate, with_engine
from systolith_sim.estimate.models import find_model
from systolith_sim.estimate.replica import Replica
from systolith_sim.estimate.request import Request
from systolith_sim.parallel.layout import Layout

Sizes = Mapping[str, object]
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class EndToEndTable:
    """One kind of measurement of whole models; ``read`` gives (device, operation) -> sizes and measured values."""

    name: str
    origin: str
    schema: str
    rule: str
    unit: str
    read: Callable[[Path], dict[tuple[str, str], list[tuple[Sizes, float]]]]
    say: Callable[[str, Sizes], tuple[Triple, str]]
    fitted: Callable[[Rows], bool]
    """Whether a fit has looked at the rows of one device and operation."""

    def rows(self, data: Path) -> Iterable[Rows]:
        """All rows, where the files are there."""
        for (device, operation), found in self.read(data).items():
            names = list(found[0][0])
            inputs = {name: np.array([sizes[name] for sizes, _ in found]) for name in names}
            yield Rows(device, operation, inputs, np.array([value for _, value in found]))

    def used(self, rows: Rows) -> Mask:
        """All of them, or none."""
        return np.full(len(rows), self.fitted(rows))

    def predict(self, rows: Rows) -> Prediction:
        """With the packaged devices and engines."""
        what = {"what": rows.operation}
        said = [
            self.say(rows.device, {name: column[place] for name, column in rows.inputs.items()} | what)
            for place in range(len(rows))
        ]
        low, value, high = (np.array([triple[end] for triple, _ in said]) for end in range(3))
        return Prediction(value, low, high, np.array([bound for _, bound in said]), {})


def _static(data: Path) -> dict[tuple[str, str], list[tuple[Sizes, float]]]:
    if not (data / fit_engines.FOLDER / "all_results.csv").exists():
        return {}
    found = defaultdict(list)
    for (engine, model, devices, length, batch), seconds in sorted(fit_engines.measured(data).items()):
        if fit_engines.fits(find_model(model), devices, length, batch):
            sizes: Sizes = {"model": model, "devices": devices, "prompt": length, "generate": length, "batch": batch}
            found["a100-40", f"{engine} TP {devices}"].append((sizes, seconds))
    return found


def _say_static(device: str, sizes: Sizes) -> tuple[Triple, str]:
    engine, width = str(sizes["what"]).partition(" ")[0], int(str(sizes["devices"]))
    request = Request(
        batch=int(str(sizes["batch"])), prompt=int(str(sizes["prompt"])), generate=int(str(sizes["generate"])),
        formats=Formats.parse("fp16"),
    )  # fmt: skip
    name = str(sizes["model"])
    one = estimate(name, find_model(name), find_device(device), request, Layout(tp=width), find_engine(engine))
    low, high = one.result.interval["total_s"]
    return (low, one.result.total_s, high), one.result.bound_by


def _served(data: Path) -> dict[tuple[str, str], list[tuple[Sizes, float]]]:
    found = defaultdict(list)
    for one, seconds in fit_served.measured(data):
        sizes: Sizes = {
            "model": one.model, "devices": one.width, "prompt": one.prompt, "generate": one.generate,
            "batch": one.flight,
        }  # fmt: skip
        found[one.device, f"time per token TP {one.width}"].append((sizes, seconds))
    return found


def _say_served(device: str, sizes: Sizes) -> tuple[Triple, str]:
    loop, replica = loop_of(device, sizes, fit_served.ENGINE, "bf16")
    low, high = with_engine(loop.tpot_s, loop.interval_s, replica)
    return (low, loop.tpot_s, high), loop.work.bound_by


def loop_of(device: str, sizes: Sizes, engine: str, formats: str) -> tuple[ClosedLoop, Replica]:
    """The steady state of a served model, and its replica."""
    model, layout = find_model(str(sizes["model"])), Layout(tp=int(str(sizes["devices"])))
    replica = Replica(find_device(device), model, layout, find_engine(engine), Formats.parse(formats))
    loop = closed_loop(
        replica, concurrency=int(str(sizes["batch"])), prompt=int(str(sizes["prompt"])),
        generate=int(str(sizes["generate"])),
    )  # fmt: skip
    return loop, replica


TABLES = (
    EndToEndTable(
        "static", "github.com/argonne-lcf/LLM-Inference-Bench, commit 4211f5d (BSD-3)",
        "argonne-llm-inference-bench/{all_results,tp_ep_pp}.csv: Hardware, Num of Hardware, Framework, Model, Input "
        "Output Length (tokens), Batch Size, Latency (s)",
        "none left out: fit_engines.py scores each model with the constants fitted on the others", "s",
        _static, _say_static, lambda rows: True,
    ),
    EndToEndTable(
        "served", "github.com/ai-dynamo/aiconfigurator, commit 095f58a (Apache-2.0), serving sample",
        f"{fit_served.SAMPLE}: model_path, system, isl, osl (tokens), batch_size (requests in flight), "
        "tp_size, silicon_tpot_ms",
        "by device and model: fit_served.py scores half of the widths with the constants fitted on the other", "s",
        _served, _say_served, lambda rows: rows.device == fit_served.DEVICE,
    ),
)  # fmt: skip
