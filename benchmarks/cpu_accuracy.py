"""The calibrated CPU against itself: reference layers of three models, predicted and measured in one run.

``python benchmarks/cpu_accuracy.py [--seconds S] [--threads N ...] [--format F] [--wall] [--json]`` calibrates for
each thread count and measures one decoder layer of each model, prefill and decode, before and after, with the same
clock: CPU time of the busiest thread, so that other work on the machine does not count. Curves are measured on pieces
of other sizes; no layer is used in the calibration but one of 96 elements a row, one token.
"""

import argparse
import json
import os
import sys

if "--wall" not in sys.argv:
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # a thread that waits must not count as busy

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from systolith_model import zoo
from systolith_model.config import TransformerConfig
from systolith_model.formats import Format
from systolith_sim.devices import measure
from systolith_sim.devices.calibrate import calibrate
from systolith_sim.devices.device import Device
from systolith_sim.devices.kernel import cost
from systolith_sim.devices.workloads import layer, layer_graph

MODELS = ("kjv-737k", "tinyllama-1.1b", "llama-3-8b")
PROMPTS = (32, 128)
CONTEXTS = (127, 511)
BUDGET_S = 0.6
ROUNDS = 2
"""Measurements of a layer before the calibration, and after it: as many in all as it takes rounds."""
SHAPE = ("vocab_size", "hidden_size", "n_layers", "n_heads", "n_kv_heads", "head_dim", "intermediate_size")
Case = tuple[str, int, int]
"""Model, new tokens, cached ones."""


def cases() -> list[Case]:
    """Two prompts and two contexts of each model, within its positions."""
    found: list[Case] = []
    for name in MODELS:
        longest = zoo.architecture(name).max_positions
        found += [(name, tokens, 0) for tokens in PROMPTS]
        found += [(name, 1, min(context, longest - 1)) for context in CONTEXTS]
    return found


def config_of(name: str) -> TransformerConfig:
    """The model with one layer."""
    shape = zoo.architecture(name)
    return TransformerConfig.model_validate({key: getattr(shape, key) for key in SHAPE} | {"n_layers": 1})


def predicted_s(device: Device, case: Case, numbers: Format) -> float:
    """Sum over the layer's operations."""
    name, tokens, context = case
    graph = layer_graph(zoo.architecture(name), tokens=tokens, context=context, numbers=numbers)
    return sum(time.seconds * operation.count for operation, time in cost(device, graph))


def run(threads: int, seconds: float, numbers: Format, wall: bool, console: Console) -> list[dict]:
    """Rows of one thread count: layers before, calibration, layers after."""
    clock = measure.wall_clock if wall else measure.cpu_clock(threads)
    measured: dict[Case, list[float]] = {case: [] for case in cases()}

    def layers() -> None:
        for case in [*measured] * ROUNDS:
            name, tokens, context = case
            action = layer(config_of(name), numbers, tokens=tokens, context=context)
            timing = measure.repeat(action, clock, BUDGET_S)
            measured[case].append(timing.seconds)

    with measure.torch_threads(threads), torch.inference_mode(), console.status(f"{threads} threads: layers"):
        layers()
        console.log(f"{threads} threads: layers measured, load {measure.load_average():.1f}")
        device = calibrate(threads=threads, seconds=seconds, clock=clock)
        console.log(f"{threads} threads: calibrated; {device.note}")
        layers()
        console.log(f"{threads} threads: layers measured again, load {measure.load_average():.1f}")
    return [row(device, case, numbers, times) for case, times in measured.items()]


def row(device: Device, case: Case, numbers: Format, times: list[float]) -> dict:
    """One line of the table."""
    found, wanted = min(times), predicted_s(device, case, numbers)
    return {"threads": device.units.count, "model": case[0], "tokens": case[1], "context": case[2],
            "predicted_s": wanted, "measured_s": found, "spread": max(times) / found,
            "error": wanted / found - 1}  # fmt: skip


def show(rows: list[dict], console: Console) -> None:
    """The table and its mean."""
    table = Table(title="one reference layer: predicted over measured")
    for column in ("threads", "model", "tokens", "context", "predicted us", "measured us", "after / before", "error"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for one in rows:
        table.add_row(str(one["threads"]), one["model"], str(one["tokens"]), str(one["context"]),
                      f"{one['predicted_s'] * 1e6:,.0f}", f"{one['measured_s'] * 1e6:,.0f}", f"{one['spread']:.2f}",
                      f"{one['error']:+.1%}")  # fmt: skip
    console.print(table)
    for name, chosen in (("all", rows), *((f"{n} threads", [r for r in rows if r["threads"] == n])
                                          for n in sorted({r["threads"] for r in rows}))):  # fmt: skip
        errors = np.array([one["error"] for one in chosen])
        console.print(f"{name}: MAPE {np.abs(errors).mean():.1%}, bias {errors.mean():+.1%}, "
                      f"worst {np.abs(errors).max():.1%}, {len(errors)} layers")  # fmt: skip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="of a calibration's repeats")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--format", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--wall", action="store_true", help="elapsed time: for a machine that does nothing else")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    console = Console(stderr=True)
    rows = [one for threads in arguments.threads
            for one in run(threads, arguments.seconds, arguments.format, arguments.wall, console)]  # fmt: skip
    if arguments.json:
        print(json.dumps(rows, indent=1))
    else:
        show(rows, Console(width=120))


if __name__ == "__main__":
    main()
