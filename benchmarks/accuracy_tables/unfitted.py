"""Whole models on rows that no fit has seen: narrow formats, first tokens, a replay of requests, boards at home.

Inputs: ``model`` (name), ``prompt``, ``generate`` (tokens), ``batch`` (sequences), ``format`` (W/A/KV) and
``engine``. The regime is what bounds most of the time.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import fit_engines
from accuracy_tables.end_to_end import EndToEndTable, Sizes, Triple
from systolith_model.formats import Formats
from systolith_model.parameters import kv_bytes, weight_bytes
from systolith_sim.devices.library import find_device
from systolith_sim.estimate.engine import find_engine
from systolith_sim.estimate.generate import Estimate, estimate
from systolith_sim.estimate.models import find_model
from systolith_sim.estimate.request import Request
from systolith_sim.estimate.served import estimate_served
from systolith_sim.parallel.layout import Layout

Found = dict[tuple[str, str], list[tuple[Sizes, float]]]
QUANTIZED = f"{fit_engines.FOLDER}/quant_a100_h100.csv"
FIRST = f"{fit_engines.FOLDER}/ttft_itl.csv"
REPLAY = "llmservingsim/e2e_vllm_{}_RTX4090_Llama-3.1-8B.csv"
BOARDS = "llamacpp/cpu_gpu_power_geerlingguy.csv"
SYSTEMS = {
    "Pi CM5 - 16GB (Nvidia RTX 4090)": "rtx-4090",
    "Mac Studio (M3 Ultra 512GB)": "m3-ultra",
    "Pi 5 - 16GB": "raspberry-pi-5",
    "Pi 500+ - 16GB": "raspberry-pi-5",  # the same chip and memory
}
BOARD_MODELS = {
    "DeepSeek R1 14b": "qwen2.5-14b",  # distilled into this shape
    "Llama 3.2:3b": "llama-3.2-3b",
    "Llama 3.1:70b": "llama-3.1-70b",
    "Llama 3.1:405b": "llama-3.1-405b",
    "DeepSeek R1 671b": "deepseek-v3",  # the same shape
}
"""Without gpt-oss: experts in 4 bits and all else in 16 is no format here."""
BOARD_FORMAT = "int4-g32/bf16"
"""Nearest to the files' Q4_K_M."""


@dataclass(frozen=True)
class Case:
    """One request as a row's sizes say it."""

    model: str
    batch: int
    prompt: int
    generate: int
    format: str
    engine: str

    def sizes(self) -> Sizes:
        """As columns."""
        return vars(self)

    @classmethod
    def of(cls, sizes: Sizes) -> "Case":
        """From columns."""
        model, format, engine = (str(sizes[name]) for name in ("model", "format", "engine"))
        batch, prompt, generate = (int(str(sizes[name])) for name in ("batch", "prompt", "generate"))
        return cls(model, batch, prompt, generate, format, engine)

    def request(self) -> Request:
        """What is asked of the estimate."""
        formats = Formats.parse(self.format)
        return Request(batch=self.batch, prompt=self.prompt, generate=self.generate, formats=formats)


def _rows(path: Path) -> Iterator[dict[str, str]]:
    if path.exists():
        with path.open() as file:
            yield from csv.DictReader(file)


def _quantized(data: Path) -> Found:
    found = defaultdict(list)
    for row in _rows(data / QUANTIZED):
        engine, model = fit_engines.ENGINES[row["Framework"]], fit_engines.MODELS[row["Model"]]
        weights, cache = re.findall(r"= (\w+)", row["kv_cache_dtype"])
        length, batch = int(row["Input Output Length"]), int(row["Batch Size"])
        if weights == cache == "fp16":  # among the rows that the engines were fitted on
            continue
        case = Case(model, batch, length, length, f"{weights}/fp16/{cache}", engine)
        formats, shape = case.request().formats, find_model(model).shape
        held = weight_bytes(shape, formats) + kv_bytes(shape, tokens=2 * length, batch=batch, format=formats.kv)
        if held < fit_engines.USABLE_BYTES:
            name = f"{engine}, {weights} weights, {cache} cache"
            found[fit_engines.DEVICE, name].append((case.sizes(), float(row["latency"])))
    return found


def _first(data: Path) -> Found:
    found = defaultdict(list)
    for row in _rows(data / FIRST):
        engine, model = fit_engines.ENGINES.get(row["Framework"]), fit_engines.MODELS[row["Model"]]
        if engine is not None:
            batch, prompt = int(row["Batch Size"]), int(row["Input Length"])
            case = Case(model, batch, prompt, 1, "fp16", engine)
            found[fit_engines.DEVICE, f"first token, {engine}"].append((case.sizes(), float(row["TTFT Latency"])))
    return found


def _replayed(data: Path) -> Found:
    requests = list(_rows(data / REPLAY.format("requests")))
    if not requests:
        return {}
    running = [float(row["running"]) for row in _rows(data / REPLAY.format("timeseries")) if float(row["waiting"]) > 0]
    prompt, generate = (
        round(np.mean([float(row[name]) for row in requests])) for name in ("input_toks", "output_toks")
    )
    took = [
        (float(row["last_token_s"]) - float(row["first_token_s"])) / (float(row["output_toks"]) - 1)
        for row in requests
    ]
    case = Case("llama-3.1-8b", round(np.mean(running)), int(prompt), int(generate), "bf16", "vllm-2025")
    return {("rtx-4090", "time per token, replay"): [(case.sizes(), float(np.mean(took)))]}


def _boards(data: Path) -> Found:
    found = defaultdict(list)
    for row in _rows(data / BOARDS):
        device, model = SYSTEMS.get(row["system"]), BOARD_MODELS.get(row["model"])
        if device is not None and model is not None:
            case = Case(model, 1, 64, 256, BOARD_FORMAT, "none")
            found[device, "time per token, llama.cpp"].append((case.sizes(), 1 / float(row["eval_tokens_per_s"])))
    return found


def _static(device: str, case: Case) -> Estimate:
    model = find_model(case.model)
    return estimate(case.model, model, find_device(device), case.request(), Layout(), find_engine(case.engine))


def _say(field: str, one: Estimate) -> tuple[Triple, str]:
    low, high = one.result.interval[field]
    return (low, float(getattr(one.result, field)), high), one.result.bound_by


def _say_total(device: str, sizes: Sizes) -> tuple[Triple, str]:
    return _say("total_s", _static(device, Case.of(sizes)))


def _say_first(device: str, sizes: Sizes) -> tuple[Triple, str]:
    return _say("ttft_s", _static(device, Case.of(sizes)))


def _say_token(device: str, sizes: Sizes) -> tuple[Triple, str]:
    return _say("tpot_s", _static(device, Case.of(sizes)))


def _say_served(device: str, sizes: Sizes) -> tuple[Triple, str]:
    case = Case.of(sizes)
    model, engine = find_model(case.model), find_engine(case.engine)
    return _say("tpot_s", estimate_served(case.model, model, find_device(device), case.request(), Layout(), engine))


ARGONNE = "github.com/argonne-lcf/LLM-Inference-Bench, commit 4211f5d (BSD-3)"
TABLES = (
    EndToEndTable(
        "quantized", ARGONNE,
        f"{QUANTIZED}: Framework, Model, Input Output Length (tokens), Batch Size, kv_cache_dtype (of weights and "
        "cache), latency (s)",
        "nothing was fitted on them", "s", _quantized, _say_total, lambda rows: False,
    ),
    EndToEndTable(
        "first token", ARGONNE, f"{FIRST}: Framework, Model, Input Length (tokens), Batch Size, TTFT Latency (s)",
        "nothing was fitted on them", "s", _first, _say_first, lambda rows: False,
    ),
    EndToEndTable(
        "replayed", "github.com/casys-kaist/LLMServingSim, commit 5daddb2 (MIT)",
        f"{REPLAY.format('requests')}: input_toks, output_toks, first_token_s, last_token_s, and "
        f"{REPLAY.format('timeseries')}: running, waiting; mean lengths, and mean requests running while others wait",
        "nothing was fitted on it", "s", _replayed, _say_served, lambda rows: False,
    ),
    EndToEndTable(
        "boards", "github.com/geerlingguy/ai-benchmarks, commit bdf9441 (MIT)",
        f"{BOARDS}: model, system, eval_tokens_per_s; 4-bit weights in groups of 32 (4.6 bits), where the files' "
        "Q4_K_M has 4.8 to 5.0",
        "nothing was fitted on them", "s", _boards, _say_token, lambda rows: False,
    ),
)  # fmt: skip
