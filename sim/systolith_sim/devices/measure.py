"""Measurements of the machine this runs on: products per format, memory levels, a small operation.

A time is the least of its repeats, since other work on the machine only adds; the spread says how much.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from systolith_model.graph import Format

if TYPE_CHECKING:
    import torch

HIGH = 0.75
"""Quantile of the repeats that ends the spread."""
ROUNDS = 3
FORMATS: tuple[Format, ...] = ("fp32", "bf16", "int8")


@dataclass(frozen=True)
class Timing:
    """Seconds of one operation: the least, and a high quantile of the same repeats."""

    seconds: float
    high_s: float


@dataclass(frozen=True)
class Product:
    """One measured product (m, k) by (k, n)."""

    format: Format
    m: int
    k: int
    n: int
    timing: Timing

    @property
    def flops(self) -> int:
        """Operations, two a multiply-accumulate."""
        return 2 * self.m * self.k * self.n


def repeat(action: Callable[[], object], budget_s: float, *, least: int = 2) -> Timing:
    """Time an action again and again for ``budget_s``, at least ``least`` times, after a warm-up call."""
    action()
    times: list[float] = []
    end = time.perf_counter() + budget_s
    while len(times) < least or (time.perf_counter() < end and len(times) < 2000):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return Timing(min(times), float(np.quantile(times, HIGH)))


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Run with ``count`` threads in torch, and restore what was set."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def product_action(numbers: Format, m: int, k: int, n: int) -> Callable[[], object] | None:
    """A product of constant weights stored (n, k), as in ``torch.nn.Linear``; None where torch has none."""
    import torch

    if numbers == "int8":
        a, w = _integers(m, k), _integers(n, k)
        int_mm = getattr(torch, "_int_mm", None)
        if int_mm is None or m <= 16:
            return None
        action: Callable[[], object] = lambda: int_mm(a, w.t())  # noqa: E731
    else:
        kind = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[numbers]
        x, weight = torch.randn(m, k).to(kind), torch.randn(n, k).to(kind)
        action = lambda: torch.nn.functional.linear(x, weight)  # noqa: E731
    try:
        action()
    except RuntimeError:
        return None  # this build of torch has no such kernel
    return action


def _integers(*shape: int) -> "torch.Tensor":
    import torch

    return torch.randint(-127, 128, shape, dtype=torch.int8)


def products(
    sizes: Sequence[tuple[Format, int, int, int]], budget_s: float, step: Callable[[], None]
) -> list[Product]:
    """Measure products in rounds, so that other work in one stretch of time does not spoil a shape.

    ``step`` is called once a product, measured or not, in the last round.
    """
    actions = [(size, product_action(*size)) for size in sizes]
    timings: dict[tuple[Format, int, int, int], Timing] = {}
    for last in (False,) * (ROUNDS - 1) + (True,):
        for size, action in actions:
            if action is not None:
                timing = repeat(action, budget_s / ROUNDS)
                before = timings.get(size, timing)
                timings[size] = Timing(min(before.seconds, timing.seconds), max(before.high_s, timing.high_s))
            if last:
                step()
    return [Product(*size, timing) for size, timing in timings.items()]


def read_bandwidth(size_bytes: int, budget_s: float) -> tuple[float, Timing]:
    """Bytes per second of summing a warm fp32 array of ``size_bytes``, and the timing behind it."""
    import torch

    array = torch.ones(max(1, size_bytes // 4))
    timing = repeat(array.sum, budget_s)
    return array.numel() * 4 / timing.seconds, timing


def copy_bandwidth(size_bytes: int, budget_s: float) -> tuple[float, Timing]:
    """Bytes read plus bytes written per second of copying an array of ``size_bytes``."""
    import torch

    source = torch.ones(max(1, size_bytes // 4))
    target = torch.empty_like(source)
    timing = repeat(lambda: target.copy_(source), budget_s)
    return 2 * source.numel() * 4 / timing.seconds, timing


def small_operation_s(budget_s: float) -> Timing:
    """Seconds of adding two numbers: what a framework's launch costs."""
    import torch

    one = torch.ones(1)
    return repeat(lambda: one + one, budget_s)


def cache_bytes(level: int) -> int | None:
    """Size of the data cache of a level, of one core or shared, from Linux; None where it does not say."""
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            if (
                int((index / "level").read_text()) == level
                and (index / "type").read_text().strip() != "Instruction"
            ):
                text = (index / "size").read_text().strip()
                return int(text.rstrip("KMG")) * {"K": 2**10, "M": 2**20, "G": 2**30}.get(text[-1], 1)
        except (OSError, ValueError):
            continue
    return None


def memory_bytes() -> int:
    """Physical memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def processor_name() -> str:
    """Model name of the processor, as Linux or Python states it."""
    import platform

    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"
