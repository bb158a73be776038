"""Energy and power: joules per token of served models, joules of static batches, watts of whole machines.

Inputs as in ``end_to_end``, and ``tokens_per_s`` (measured) for machines at the wall. Energies of a byte and of an
operation were fitted on these rows: scores with the model under test left out are printed by fit_energy.py,
fit_power_static.py and fit_power_wall.py.
"""

import csv
from collections import defaultdict
from pathlib import Path

import fit_energy
import fit_engines
import fit_power_static
import fit_power_wall
from accuracy_tables.end_to_end import EndToEndTable, Sizes, Triple, loop_of
from accuracy_tables.unfitted import BOARDS
from systolith_model.formats import Formats
from systolith_sim.devices.library import find_device
from systolith_sim.energy.device_energy import floor_power
from systolith_sim.energy.host_energy import host_power_w
from systolith_sim.estimate.engine import find_engine
from systolith_sim.estimate.generate import estimate, with_engine
from systolith_sim.estimate.models import find_model
from systolith_sim.estimate.request import Request
from systolith_sim.parallel.layout import Layout

Found = dict[tuple[str, str], list[tuple[Sizes, float]]]


def _served(data: Path) -> Found:
    found = defaultdict(list)
    for task, prompt in fit_energy.PROMPTS.items():
        path = data / "ml-energy" / f"{task}.csv"
        if not path.exists():
            continue
        with path.open() as file:
            for row in csv.DictReader(file):
                if row["architecture"] == "Dense Transformer":
                    sizes: Sizes = {
                        "model": fit_energy.MODELS[row["model_id"]], "devices": int(row["tensor_parallel"]),
                        "prompt": prompt, "generate": int(float(row["avg_output_len"])),
                        "batch": max(1, round(float(row["avg_batch_size"]))), "weights": row["weight_precision"],
                    }  # fmt: skip
                    found[fit_energy.DEVICE, task].append((sizes, float(row["energy_per_token_joules"])))
    return found


def _say_served(device: str, sizes: Sizes) -> tuple[Triple, str]:
    formats = "fp8/bf16" if sizes["weights"] == "fp8" else "bf16"
    loop, replica = loop_of(device, sizes, fit_energy.ENGINE, formats)
    ends = with_engine(loop.work.seconds, loop.work.interval_s, replica)
    joules = loop.work.limited_joules(replica.device, replica.layout.tp, ends)
    low, value, high = (each / int(str(sizes["generate"])) for each in joules)
    return (low, value, high), loop.work.bound_by


def _static(data: Path) -> Found:
    if not (data / fit_engines.FOLDER / "power_results.csv").exists():
        return {}
    found = defaultdict(list)
    for engine, model, batch, length, seconds, watts in fit_power_static.measured(data):
        sizes: Sizes = {"model": model, "batch": batch, "length": length}
        found[fit_power_static.DEVICE, engine].append((sizes, seconds * watts))
    return found


def _say_static(device: str, sizes: Sizes) -> tuple[Triple, str]:
    name, length = str(sizes["model"]), int(str(sizes["length"]))
    request = Request(
        batch=int(str(sizes["batch"])), prompt=length, generate=length, formats=Formats.parse("fp16")
    )
    engine = find_engine(str(sizes["what"]))
    one = estimate(name, find_model(name), find_device(device), request, Layout(), engine).result
    low, high = one.interval["energy_j"]
    return (low, one.energy_j or 0.0, high), one.bound_by


def _wall(data: Path) -> Found:
    if not (data / BOARDS).exists():
        return {}
    found = defaultdict(list)
    for row in fit_power_wall.rows(data):
        if row.device not in fit_power_wall.AROUND:
            sizes: Sizes = {"model": row.model, "moved_w": row.moved_w}
            found[row.device, "llama.cpp, 4 bits"].append((sizes, row.watts))
    return found


def _say_wall(name: str, sizes: Sizes) -> tuple[Triple, str]:
    device, moved = find_device(name), float(str(sizes["moved_w"]))
    floor, hosts, limit = floor_power(device), host_power_w(device, 1), device.power.tdp_w
    if floor is None or hosts is None or limit is None:
        raise ValueError(f"device {name!r} must state power.idle_w, power.tdp_w and host")
    ends = (floor.interval[0], floor.value, floor.interval[1])
    low, value, high = (
        min(watts + moved, most) + host
        for watts, host, most in zip(ends, hosts, (limit.value, limit.value, limit.interval[1]), strict=True)
    )
    return (low, value, high), "memory"


TABLES = (
    EndToEndTable(
        "energy", "github.com/ml-energy/leaderboard, commit 0cd52da (data Apache-2.0)",
        "ml-energy/*.csv: architecture, model_id, tensor_parallel, avg_batch_size, avg_output_len (tokens), "
        "energy_per_token_joules",
        "none left out: fit_energy.py scores each model with the constants fitted on the others", "J",
        _served, _say_served, lambda rows: True,
    ),
    EndToEndTable(
        "static energy", "github.com/argonne-lcf/LLM-Inference-Bench, commit 4211f5d (BSD-3)",
        "argonne-llm-inference-bench/power_results.csv: Framework, Model, Input Output Length (tokens), Batch Size, "
        "Latency (s), avg_power (mW)",
        "none left out: fit_power_static.py scores each model with the constants fitted on the other", "J",
        _static, _say_static, lambda rows: True,
    ),
    EndToEndTable(
        "wall power", "github.com/geerlingguy/ai-benchmarks, commit bdf94413 (MIT)",
        "llamacpp/cpu_gpu_power_geerlingguy.csv: model, system, eval_tokens_per_s, peak_wall_power_w",
        "none left out: fit_power_wall.py scores each model with the floor fitted on the others", "W",
        _wall, _say_wall, lambda rows: True,
    ),
)  # fmt: skip
