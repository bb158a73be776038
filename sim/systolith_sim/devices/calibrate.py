"""Calibrate: measure the processor this runs on and describe it as a device file."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from systolith_model.config import TransformerConfig
from systolith_model.formats import BITS, Format
from systolith_sim.devices import measure, power, workloads
from systolith_sim.devices.calibrate_gpu import calibrate_gpu, gpu_facts
from systolith_sim.devices.curves import COLD
from systolith_sim.devices.describe import LOCAL, describe
from systolith_sim.devices.device import Device
from systolith_sim.devices.library import user_folder, write_device
from systolith_sim.devices.measure import Action, Clock, Timing

if TYPE_CHECKING:
    import torch

FORMATS: tuple[Format, ...] = ("fp32", "bf16", "int8")
LAYER_FORMATS: tuple[Format, ...] = ("fp32", "bf16")
"""Formats that whole layers run in."""
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
"""Rows of the products."""
STREAMS = ("norm", "rope", "gate", "add", "append")
ELEMENTS = tuple(2**power for power in (9, 12, 14, 16, 18, 20, 22))
"""What the streams write, and heads x keys x head size of a decode step."""
SCORES = tuple(2**power for power in (10, 13, 15, 17, 19, 21))
"""Heads x queries x keys of prefill attention."""
HEAD_SIZES = (64, 128)
MAIN_WEIGHTS = (2048, 4096)
"""(k, n) of the weights that come from main memory."""
SIDE_SIZES = (512, 16384)
"""k, and n, of weights that are otherwise as those: short and long rows, few and many of them."""
SIDE_ROWS = (1, 4, 16, 64, 256)
"""Rows of the products with them."""
ROUNDS_S = (float("inf"), 0.1, 0.1, 0.005)
"""Longest that is measured in each round, after everything else: other work comes in bursts, and the fastest counts."""
COLD_CACHES = 3
"""Bytes of weights that pass over the last cache, so that nothing stays in it from an operation to its next turn."""
LONGEST_S = 1.0
"""A curve ends before a size that would take longer than this."""
POWER_S = 1.0
"""Seconds of each measurement of power."""
Step = Callable[[str, int], None]
"""Told what was measured, and the number of measurements in all."""
Progress = Callable[[str, int, int | None], None]


@dataclass
class Measured:
    """What was found: timings by curve and size, bandwidths, and the load meanwhile."""

    threads: int
    caches: dict[str, int]
    timings: dict[str, dict[float, Timing]] = field(default_factory=dict)
    weights: dict[str, tuple[int, int]] = field(default_factory=dict)
    """(k, n) of each product curve."""
    bandwidth: dict[str, tuple[float, Timing]] = field(default_factory=dict)
    """Bytes per second read at each level."""
    copy_bytes_per_s: float = 0.0
    small: Timing | None = None
    small_layer: dict[Format, Timing] = field(default_factory=dict)
    cold_layer: dict[Format, tuple[TransformerConfig, Timing]] = field(default_factory=dict)
    """What the operations without products take in a layer whose weights no cache holds."""
    load: float = 0.0
    idle_w: float | None = None
    compute_w: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By format: watts under load, operations per second meanwhile."""
    stream_w: tuple[float, float] | None = None
    """Watts while streaming, bytes per second meanwhile."""


@dataclass(frozen=True)
class _Job:
    curve: str
    at: float
    make: Callable[[], Action | None]
    cold: bool = False
    """Measured with nothing of it in the caches."""


class _Kept:
    """The weights made last: products of one curve share them, and no two curves' stand in memory at once."""

    def __init__(self, passing_bytes: int) -> None:
        self.flush: Action = workloads.filled("fp32", passing_bytes // 4).sum
        """Reads more than the caches hold."""
        self.made_of: tuple[Format, tuple[int, int], int] | None = None
        self.weights: list[torch.Tensor] = []

    def get(self, numbers: Format, shape: tuple[int, int], copies: int) -> "list[torch.Tensor]":
        """Weights (n, k) for products of a shape (k, n)."""
        if self.made_of != (numbers, shape, copies):
            self.made_of, self.weights = (numbers, shape, copies), []
            self.weights += [workloads.filled(numbers, *reversed(shape)) for _ in range(copies)]
        return self.weights


def calibrate(
    *, threads: int | None = None, seconds: float = 10.0, step: Step | None = None, clock: Clock | None = None
) -> Device:
    """Measure this machine's processor with torch, as one device with ``threads`` cores.

    Parameters
    ----------
    threads : int, optional
        Threads of torch; without it, as many as torch uses by default.
    seconds : float
        Time for the repeats; what must be measured at least takes some ten seconds more on a busy machine.
    step : callable, optional
        Called with what was measured and the number of measurements in all.
    clock : callable, optional
        CPU time of the busiest thread, unless given (``measure.wall_clock`` on a machine that does nothing else).

    Raises
    ------
    ValueError
        If ``threads`` is below 1 or above the machine's processors, or ``seconds`` not above 0.
    """
    import torch

    most = os.cpu_count() or 1
    standard = min(torch.get_num_threads(), most)
    count = standard if threads is None else threads
    if not 1 <= count <= most:
        raise ValueError(f"threads must be 1 .. {most} on this machine, not {count}")
    if not seconds > 0:
        raise ValueError(f"seconds must be above 0, not {seconds}")
    with measure.torch_threads(count), torch.inference_mode():
        measured = measure_cpu(count, seconds, step or (lambda *_: None), clock or measure.cpu_clock(count))
    return describe(measured, LOCAL if count == standard else f"{LOCAL}-{count}t")


class _Steps:
    """One progress of several devices that are measured one after the other."""

    def __init__(self, progress: Progress, parts: int) -> None:
        self.progress, self.parts, self.done = progress, parts, 0

    def of(self, name: str) -> Step:
        """What a device tells its steps to."""

        def step(what: str, total: int) -> None:
            self.done += 1
            self.progress(f"{name}: {what}", self.done, total * self.parts)

        return step


def calibrate_all(
    *, threads: int | None = None, seconds: float = 60.0, out: Path | None = None, progress: Progress | None = None
) -> list[tuple[Device, Path]]:
    """Measure all that torch uses here, one thread alone too, and a GPU where there is one; write a file each.

    Parameters
    ----------
    threads : int, optional
        Most threads; without it, as many as torch uses by default.
    seconds : float
        Time for the repeats of all of them together.
    out : Path, optional
        File of the first device; the others go beside it under their names. Else the user's device folder.
    progress : callable, optional
        Called with what was measured, how many are done, and how many there are in all.

    Raises
    ------
    ValueError
        As ``calibrate``.
    """
    import torch

    most = threads if threads is not None else min(torch.get_num_threads(), os.cpu_count() or 1)
    facts, found = gpu_facts(), list[Device]()
    counts = [most] if most == 1 else [most, 1]
    parts = len(counts) + (facts is not None)
    steps = _Steps(progress or (lambda *_: None), parts)
    for count in counts:
        name = f"{count} thread{'s' if count > 1 else ''}"
        found += [calibrate(threads=count, seconds=seconds / parts, step=steps.of(name))]
    if facts is not None:
        found.append(calibrate_gpu(facts, seconds=seconds / parts, step=steps.of("GPU")))
    return [(device, save(device, out if out is None or not index else out.with_name(f"{device.id}.toml")))
            for index, device in enumerate(found)]  # fmt: skip


def save(device: Device, path: Path | None = None) -> Path:
    """Write a calibrated device to ``path``, else where ``find_device`` looks; returns the path."""
    chosen = user_folder() / f"{device.id}.toml" if path is None else path
    write_device(device, chosen)
    return chosen


def measure_cpu(threads: int, seconds: float, step: Step, clock: Clock) -> Measured:
    """All measurements with as many threads as torch is set to."""
    caches: dict[str, int] = {f"l{level}": size for level in (2, 3) if (size := measure.cache_bytes(level))}
    found = Measured(threads, caches)
    kept = _Kept(_passing_bytes(caches))
    jobs = [job for numbers in FORMATS for job in _jobs(found, numbers, kept)]
    total = len(ROUNDS_S) * (len(jobs) + 2 * len(LAYER_FORMATS)) + len(caches) + 3
    budget = seconds / total
    for level, size in {**caches, "main": 2 * max(caches.values(), default=2**26)}.items():
        working = size if level == "main" else min(size // 2, 4 * min(caches.values()))
        found.bandwidth[level] = _read_bandwidth(min(working, 2**28), clock, budget)
        step(f"bandwidth of {level}", total)
    found.copy_bytes_per_s = _copy_bandwidth(min(2 * max(caches.values(), default=2**26), 2**27), clock, budget)
    step("copy", total)
    one = workloads.filled("fp32", 1)
    found.small = measure.repeat(lambda: one + one, clock, budget)
    step("small operation", total)
    for most_s in ROUNDS_S:
        for numbers in LAYER_FORMATS:
            timing = measure.repeat(workloads.small_layer(numbers), clock, 4 * budget)
            found.small_layer[numbers] = faster(found.small_layer.get(numbers), timing)
            step(f"small layer {numbers}", total)
            _cold_layer(found, numbers, 4 * budget)
            step(f"large layer {numbers}", total)
        for job in jobs:
            _run(job, found, kept, clock, budget, most_s)
            step(job.curve, total)
    _power(found)
    found.load = measure.load_average()
    return found


def _cold_layer(found: Measured, numbers: Format, budget_s: float) -> None:
    """By the calling thread alone, which runs nearly all that is no product: its time less the products' is exact."""
    config = workloads.large_config(numbers, _passing_bytes(found.caches))
    action, outside = workloads.without_products(config, numbers, measure.own_clock)
    before = found.cold_layer.get(numbers)
    timing = measure.repeat(action, outside, budget_s)
    found.cold_layer[numbers] = config, faster(before and before[1], timing)


def _passing_bytes(caches: dict[str, int]) -> int:
    return min(COLD_CACHES * max(caches.values(), default=2**25), 2**28)


def faster(before: Timing | None, now: Timing) -> Timing:
    """The better of two rounds, and the wider spread."""
    if before is None:
        return now
    return Timing(min(before.seconds, now.seconds), max(before.high_s, now.high_s))


def _run(job: _Job, found: Measured, kept: _Kept, clock: Clock, budget_s: float, most_s: float) -> None:
    curve = found.timings.setdefault(job.curve, {})
    before = curve.get(job.at)
    if before is not None and before.seconds > most_s:
        return  # long enough to have met quiet and busy times alike
    if before is None and curve and curve[max(curve)].seconds * job.at / max(curve) > LONGEST_S:
        return
    if (action := job.make()) is not None:
        chosen = measure.after(kept.flush, clock) if job.cold else clock
        curve[job.at] = faster(before, measure.repeat(action, chosen, budget_s))


def _jobs(found: Measured, numbers: Format, kept: _Kept) -> Iterator[_Job]:
    """Every measurement of a format, sizes of a curve ascending."""
    first = 32 if numbers == "int8" else 1  # some builds of torch refuse an int8 product of 16 rows or fewer
    small = workloads.filled(numbers, 16, 16)
    yield _Job(f"launch.{numbers}", 1, lambda: workloads.product(numbers, first, [small]))
    for level, shape, copies in _weights(found.caches, numbers):
        name = f"product.{numbers}.{level}"
        found.weights[name] = shape
        make = partial(kept.get, numbers, shape, copies)
        for rows in SIDE_ROWS if level.startswith("main.") else ROWS:
            yield _Job(name, rows, lambda rows=rows, make=make: workloads.product(numbers, rows, make()))
    if numbers == "int8":
        return
    for kind in STREAMS:
        for size in ELEMENTS:
            yield _Job(f"{kind}.{numbers}", size,
                       lambda kind=kind, size=size: workloads.stream(kind, numbers, size))  # fmt: skip
    decode, append = f"attention.{numbers}.decode", f"append.{numbers}"
    for size in ELEMENTS:
        attend = partial(workloads.decode_attention, numbers, size)
        yield _Job(decode, size, attend)
        yield _Job(f"{decode}.{COLD}", size, attend, cold=True)
        yield _Job(f"{append}.{COLD}", size, partial(workloads.stream, "append", numbers, size), cold=True)
    for head in HEAD_SIZES:
        for scores in SCORES:
            yield _Job(f"attention.{numbers}.{head}", scores,
                       lambda head=head, scores=scores: workloads.prefill_attention(numbers, scores, head))  # fmt: skip


def _weights(caches: dict[str, int], numbers: Format) -> Iterator[tuple[str, tuple[int, int], int]]:
    """(level, (k, n), copies) of weights that come from each level; from main memory of several shapes.

    A virtual machine shares the last cache with strangers, so a quarter of it is taken for its level.
    """
    width, largest = BITS[numbers] // 8, max(caches.values(), default=2**26)
    for level, size in caches.items():
        share = size // 2 if level == "l2" else min(size // 4, 8 * caches.get("l2", size))
        side = max(64, int((share / width) ** 0.5) // 64 * 64)
        yield level, (side, side), 1
    for level, (k, n) in {"main": MAIN_WEIGHTS, **({} if numbers == "int8" else _sides())}.items():
        yield level, (k, n), max(1, -(-min(2 * largest, 2**28) // (k * n * width)))


def _sides() -> dict[str, tuple[int, int]]:
    k, n = MAIN_WEIGHTS
    return {f"main.{axis}{size}": (size, n) if axis == "k" else (k, size) for axis in "kn" for size in SIDE_SIZES}


def _read_bandwidth(size_bytes: int, clock: Clock, budget_s: float) -> tuple[float, Timing]:
    """Bytes per second of summing a warm fp32 array, and the timing behind it."""
    array = workloads.filled("fp32", max(1, size_bytes // 4))
    timing = measure.repeat(array.sum, clock, budget_s)
    return array.numel() * 4 / timing.seconds, timing


def _copy_bandwidth(size_bytes: int, clock: Clock, budget_s: float) -> float:
    """Bytes read plus bytes written per second of copying an array."""
    source = workloads.filled("fp32", max(1, size_bytes // 4))
    target = source.clone()
    return 2 * source.numel() * 4 / measure.repeat(lambda: target.copy_(source), clock, budget_s).seconds


def _power(found: Measured) -> None:
    """Watts idle, multiplying and streaming, where the counters can be read."""
    import time

    counters = power.package_counters()
    if not counters:
        return
    found.idle_w, _ = power.average_power_w(lambda: time.sleep(0.05), POWER_S, counters)
    for numbers in FORMATS:
        if (action := workloads.product(numbers, 256, [workloads.filled(numbers, 1024, 1024)])) is not None:
            watts, calls = power.average_power_w(action, POWER_S, counters)
            if watts is not None:
                found.compute_w[numbers] = watts, calls / POWER_S * 2.0 * 256 * 1024 * 1024
    array = workloads.filled("fp32", 2**25)
    watts, calls = power.average_power_w(array.sum, POWER_S, counters)
    if watts is not None:
        found.stream_w = watts, calls / POWER_S * 4.0 * array.numel()
