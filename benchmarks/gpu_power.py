"""What the GPU this runs on draws: idle, at its floor, moving bytes, and multiplying zeros and real numbers.

``python benchmarks/gpu_power.py [--seconds S] [--json]`` prints rate, watts and clock of each load and the joules of a
byte or an operation above the floor; device files cite these figures. Needs torch with CUDA and nvidia-ml-py.
"""

import argparse
import importlib
import json
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

NVML = importlib.import_module("pynvml")
"""NVIDIA's bindings, which are installed only where a GPU is."""
SIDE = 8192
"""Rows, depth and columns of the products."""
REPLAYED, AT_ONCE = 50, 8
"""Kernels of a graph, and calls between two looks at the clock."""
COPY_BYTES = 2**30
Load = tuple[str, float, Callable[[], object]]
"""Name, operations or bytes of a call (0: starts alone), the call."""


def loads() -> Iterator[Load]:
    """One after the other, so that each one's tensors are gone before the next."""
    yield "small kernels", 0.0, _small_kernels()
    source = torch.randn(COPY_BYTES // 4, device="cuda")
    target = torch.empty_like(source)
    yield "copy", 2.0 * COPY_BYTES, lambda: target.copy_(source)
    work = 2.0 * SIDE**3
    fillers: dict[str, Callable[..., torch.Tensor]] = {"zeros": torch.zeros, "real numbers": torch.randn}
    for name, kind in (("fp16", torch.float16), ("bf16", torch.bfloat16), ("fp32", torch.float32)):
        for numbers, filler in fillers.items():
            matrix = filler(SIDE, SIDE, device="cuda").to(kind)
            torch.backends.cuda.matmul.allow_tf32 = False
            yield f"{name}, {numbers}", work, lambda matrix=matrix: matrix @ matrix.t()
            if name == "fp32":
                torch.backends.cuda.matmul.allow_tf32 = True
                yield f"tf32, {numbers}", work, lambda matrix=matrix: matrix @ matrix.t()
    one = torch.ones((), device="cuda")
    for numbers, filler in fillers.items():
        narrow = filler(SIDE, SIDE, device="cuda").to(torch.float8_e4m3fn)
        yield f"fp8, {numbers}", work, lambda narrow=narrow: torch.ops.aten._scaled_mm(
            narrow, narrow.t(), one, one, out_dtype=torch.bfloat16
        )
    integers = torch.randint(-127, 128, (SIDE, SIDE), device="cuda", dtype=torch.int8)
    yield "int8, real numbers", work, lambda: torch.ops.aten._int_mm(integers, integers.t())


def _small_kernels() -> Callable[[], object]:
    one, graph = torch.ones(1, device="cuda"), torch.cuda.CUDAGraph()
    _ = one + one
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        for _ in range(REPLAYED):
            _ = one + one
    return graph.replay


def measured(call: Callable[[], object], seconds: float) -> dict[str, float]:
    """Calls a second, watts by the energy counter, and the clock of the units."""
    handle, calls, clocks = NVML.nvmlDeviceGetHandleByIndex(0), 0, list[float]()
    torch.cuda.synchronize()
    start, used = time.perf_counter(), NVML.nvmlDeviceGetTotalEnergyConsumption(handle)
    while time.perf_counter() - start < seconds:
        for _ in range(AT_ONCE):
            call()
        torch.cuda.synchronize()
        calls += AT_ONCE
        clocks.append(NVML.nvmlDeviceGetClockInfo(handle, NVML.NVML_CLOCK_SM))
    elapsed = time.perf_counter() - start
    joules = (NVML.nvmlDeviceGetTotalEnergyConsumption(handle) - used) / 1e3
    return {"calls_per_s": calls / elapsed, "watts": joules / elapsed, "clock_mhz": float(np.median(clocks))}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each load, after as many to warm up")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    NVML.nvmlInit()
    handle = NVML.nvmlDeviceGetHandleByIndex(0)
    idle_w = NVML.nvmlDeviceGetPowerUsage(handle) / 1e3
    rows: list[dict[str, object]] = []
    floor_w = 0.0
    for name, work, call in loads():
        measured(call, arguments.seconds)  # the clock settles
        one = measured(call, arguments.seconds)
        floor_w = floor_w or one["watts"]
        each = (one["watts"] - floor_w) / (work * one["calls_per_s"]) if work else None
        rows.append({"load": name, "rate_per_s": work * one["calls_per_s"], "joules_each": each, **one})
    facts = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "idle_w": idle_w,
             "limit_w": NVML.nvmlDeviceGetPowerManagementLimit(handle) / 1e3}  # fmt: skip
    if arguments.json:
        print(json.dumps({**facts, "loads": rows}, indent=1))
        return
    table = Table(title=", ".join(f"{name} {value}" for name, value in facts.items()))
    for head in ("load", "tera / s", "W", "MHz", "pJ above the floor"):
        table.add_column(head)
    for row in rows:
        each = row["joules_each"]
        table.add_row(str(row["load"]), f"{float(str(row['rate_per_s'])) / 1e12:.4g}", f"{row['watts']:.1f}",
                      f"{row['clock_mhz']:.0f}", "" if each is None else f"{float(str(each)) * 1e12:.4g}")  # fmt: skip
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
