"""The GPU this runs on: whole modules predicted from a device file, and timed, weighed and metered.

``python benchmarks/gpu_accuracy.py --on h100-sxm [--seconds S] [--json]`` calibrates the GPU, then runs every module of
``gpu_modules.py`` and compares with `estimate_module` by the named file and by the calibrated one:

- seconds of a pass's kernels by torch's profiler, without the gaps between them, and of the pass called from Python,
  which the host may hold up (a CUDA graph is no third: transformers builds other masks and kernels in a capture);
- joules of a pass by the board's energy counter (NVML) while it repeats; compared where the host holds nothing up;
- the most bytes that torch's allocator held beside what it held before.

A training step is forward, backward and Adam on fp32 copies of the bf16 parameters. Needs torch with CUDA,
transformers and nvidia-ml-py; nothing is fitted here.
"""

import argparse
import gc
import importlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from gpu_modules import CASES, Build, Ready
from systolith_model.workload.module import module_graph
from systolith_sim.devices.calibrate_gpu import calibrate_gpu, gpu_facts
from systolith_sim.devices.device import Device
from systolith_sim.devices.library import find_device
from systolith_sim.estimate.module import estimate_module
from systolith_sim.parallel.layout import Layout

GPU = torch.device("cuda")
NVML = importlib.import_module("pynvml")
"""NVIDIA's bindings, which are installed only where a GPU is."""
Call = Callable[[], object]
BUSY = 0.9
"""Share of the time that kernels run, above which the board's energy is that of the kernels."""
PROFILED = 10
"""Calls in a profile, after as many without it."""


@dataclass
class Found:
    """One case: measured, and predicted by each device file."""

    case: str
    kernels_s: float
    eager_s: float
    joules: float
    watts: float
    bytes: int
    predicted: dict[str, dict[str, float | None]]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--on", required=True, help="device file that describes this GPU")
    parser.add_argument("--seconds", type=float, default=15.0, help="of the calibration's repeats")
    parser.add_argument("--each", type=float, default=1.5, help="seconds that each module repeats")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    console, named = Console(stderr=True, width=120), find_device(arguments.on)
    facts = gpu_facts()
    if facts is None:
        raise SystemExit("a GPU that torch sees is needed")
    start = time.perf_counter()
    with console.status("calibrating"):
        local = calibrate_gpu(facts, seconds=arguments.seconds)
    console.log(f"{facts.name} calibrated in {time.perf_counter() - start:.0f} s, torch {torch.__version__}")
    found: list[Found] = []
    for name, build in CASES.items():
        found.append(_case(name, build, [named, local], arguments.each))
        console.log(f"{name}: {found[-1].kernels_s:.6f} s")
    if arguments.json:
        print(json.dumps({"gpu": facts.name, "torch": torch.__version__, "local": local.model_dump(mode="json"),
                          "cases": [vars(one) for one in found]}, indent=1))  # fmt: skip
    else:
        _show(found, arguments.on, Console(width=140))


def _case(name: str, build: Build, devices: list[Device], seconds: float) -> Found:
    torch.manual_seed(0)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    ready = build(GPU)
    step = _training(ready) if ready.train else _inference(ready)
    eager_s, joules, watts = _metered(step, seconds)
    held = torch.cuda.max_memory_allocated() - before - ready.kept_bytes
    kernels_s = _kernels_s(step)
    del step, ready
    gc.collect()
    torch.cuda.empty_cache()
    return Found(name, kernels_s, eager_s, joules, watts, held, _predicted(name, build, devices))


def _predicted(name: str, build: Build, devices: list[Device]) -> dict[str, dict[str, float | None]]:
    ready = build(torch.device("meta"))
    traced = module_graph(ready.module, *ready.args, train=ready.train, **ready.kwargs)
    found: dict[str, dict[str, float | None]] = {}
    for device in devices:
        result = estimate_module(name, traced, device, Layout()).result
        low, high = result.interval["total_s"]
        found[device.id] = {"seconds": result.total_s, "low_s": low, "high_s": high, "joules": result.energy_j,
                            "bytes": result.memory_bytes.total}  # fmt: skip
    return found


def _inference(ready: Ready) -> Call:
    @torch.inference_mode()
    def step() -> object:
        ready.before()
        return ready.module(*ready.args, **ready.kwargs)

    return step


def _training(ready: Ready) -> Call:
    own = [parameter for parameter in ready.module.parameters() if parameter.requires_grad]
    masters = [parameter.detach().float() for parameter in own]
    adam = torch.optim.Adam(masters, lr=1e-5, fused=True)

    def step() -> object:
        ready.module(*ready.args, **ready.kwargs).loss.backward()
        for master, parameter in zip(masters, own, strict=True):
            master.grad = _taken(parameter)
        adam.step()
        adam.zero_grad()
        with torch.no_grad():
            for master, parameter in zip(masters, own, strict=True):
                parameter.copy_(master)
        return None

    return step


def _taken(parameter: Tensor) -> Tensor:
    """Its gradient in fp32, no longer its own."""
    assert parameter.grad is not None  # the loss depends on every parameter
    gradient, parameter.grad = parameter.grad.float(), None
    return gradient


def _kernels_s(step: Call) -> float:
    """Seconds that kernels take in a call, at the clock of a long load."""
    for _ in range(PROFILED):
        step()
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        for _ in range(PROFILED):
            step()
        torch.cuda.synchronize()
    return sum(event.self_device_time_total for event in seen.key_averages()) / PROFILED * 1e-6


def _metered(step: Call, seconds: float) -> tuple[float, float, float]:
    """(median seconds, joules, watts) of a call that repeats for ``seconds``."""
    handle = NVML.nvmlDeviceGetHandleByIndex(0)
    for _ in range(3):
        step()
    torch.cuda.synchronize()
    times: list[float] = []
    start, used = time.perf_counter(), NVML.nvmlDeviceGetTotalEnergyConsumption(handle)
    while time.perf_counter() - start < seconds:
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        calls = max(1, int(0.02 / times[-1])) if times else 1
        for _ in range(calls):
            step()
        last.record()
        last.synchronize()
        times.append(first.elapsed_time(last) / 1e3 / calls)
    elapsed = time.perf_counter() - start
    watts = (NVML.nvmlDeviceGetTotalEnergyConsumption(handle) - used) / 1e3 / elapsed
    median = float(np.median(times))
    return median, watts * median, watts


def _show(found: list[Found], on: str, console: Console) -> None:
    table = Table(title=f"{torch.cuda.get_device_name()}, torch {torch.__version__}: predicted over measured")
    heads = ("module", "kernels ms", "eager ms", "predicted ms", "error", "inside", "calibrated", "J", "error", "GB",
             "error")  # fmt: skip
    for head in heads:
        table.add_column(head, justify="left" if head == "module" else "right")
    errors: list[float] = []
    for one in found:
        known, local, seconds = one.predicted[on], one.predicted["local-gpu"], one.kernels_s
        errors.append((known["seconds"] or 0) / seconds - 1)
        inside = (known["low_s"] or 0) <= seconds <= (known["high_s"] or 0)
        joules = one.joules if one.kernels_s > BUSY * one.eager_s else None
        table.add_row(one.case, f"{seconds * 1e3:.3f}",
                      f"{one.eager_s * 1e3:.3f}", f"{(known['seconds'] or 0) * 1e3:.3f}", f"{errors[-1]:+.1%}",
                      "yes" if inside else "no", f"{(local['seconds'] or 0) / seconds - 1:+.1%}",
                      "" if joules is None else f"{joules:.3g}",
                      "" if joules is None else f"{(known['joules'] or 0) / joules - 1:+.1%}",
                      f"{one.bytes / 1e9:.2f}", f"{(known['bytes'] or 0) / one.bytes - 1:+.1%}")  # fmt: skip
    console.print(table)
    console.print(f"seconds: MAPE {np.abs(errors).mean():.1%}, bias {np.mean(errors):+.1%}, {len(errors)} modules")


if __name__ == "__main__":
    NVML.nvmlInit()
    main()
