"""Measurements of the machine this runs on: one clock for all, repeats, and what the operating system tells.

On a CPU the clock counts the CPU time of the thread that spent most of it: other work on the machine, which takes
the processor away, is not counted, and what it does to caches is cut off by taking a low quantile of the repeats.
On a GPU it is the time between two synchronizations.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

LOW, HIGH = 0.25, 0.75
"""Quantiles of the repeats: what is reported, and what ends the spread."""
BATCH_S = 3e-4
"""Calls are timed together until they take this long, so that reading the clock does not count."""
Action = Callable[[], object]
Clock = Callable[[Action, int], float]
"""Seconds of one of so many calls."""


@dataclass(frozen=True)
class Timing:
    """Seconds of one operation: a low quantile and a high one of the same repeats."""

    seconds: float
    high_s: float


def cpu_clock(threads: int) -> Clock:
    """CPU seconds of the busiest of ``threads`` threads; workers are taken as equally busy."""

    def clock(action: Action, calls: int) -> float:
        process, main = time.process_time(), time.thread_time()
        for _ in range(calls):
            action()
        own, every = time.thread_time() - main, time.process_time() - process
        return max(own, (every - own) / max(1, threads - 1)) / calls

    return clock


def own_clock(action: Action, calls: int) -> float:
    """CPU seconds of the calling thread: parts of an action add up, as those of the busiest of several do not."""
    start = time.thread_time()
    for _ in range(calls):
        action()
    return (time.thread_time() - start) / calls


def wall_clock(action: Action, calls: int) -> float:
    """Elapsed seconds: what counts on a machine that does nothing else."""
    start = time.perf_counter()
    for _ in range(calls):
        action()
    return (time.perf_counter() - start) / calls


def gpu_clock(synchronize: Action) -> Clock:
    """Seconds between two synchronizations."""

    def clock(action: Action, calls: int) -> float:
        synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            action()
        synchronize()
        return (time.perf_counter() - start) / calls

    return clock


def repeat(action: Action, clock: Clock, budget_s: float, *, least: int = 3) -> Timing:
    """Time an action again and again for ``budget_s``, at least ``least`` times, after a warm-up call."""
    action()
    calls = max(1, int(BATCH_S / max(clock(action, 1), 1e-7)))
    times: list[float] = []
    end = time.perf_counter() + budget_s
    while len(times) < least or (time.perf_counter() < end and len(times) < 2000):
        times.append(clock(action, calls))
    return Timing(float(np.quantile(times, LOW)), float(np.quantile(times, HIGH)))


def after(before: Action, clock: Clock) -> Clock:
    """The clock of an action each time after another, which does not count."""

    def cold(action: Action, calls: int) -> float:
        total = 0.0
        for _ in range(calls):
            before()
            total += clock(action, 1)
        return total / calls

    return cold


def in_turn(actions: Sequence[Action]) -> Action:
    """An action that does the next of several each time: what one leaves in a cache is gone when it comes again."""
    state = [0]

    def act() -> object:
        state[0] = (state[0] + 1) % len(actions)
        return actions[state[0]]()

    return act


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


def load_average() -> float:
    """Runnable processes of the last minute; 0 where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def processor_name() -> str:
    """Model name of the processor, as Linux or Python states it."""
    import platform

    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"


def versions() -> str:
    """What the measurements depend on besides the machine."""
    import platform

    import torch

    return f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}"
