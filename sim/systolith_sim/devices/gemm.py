"""Matrix products on a GPU: tiles dealt in waves to units that are fed, computed and latency bound.

Form and constants: docs/reference/kernel-cost.md. Functions take arrays, so that one call scores a table of
measurements and a scalar call is the same arithmetic.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Machine:
    """What the kernel models need of a device, resolved for one format; seconds, bytes, operations."""

    units: int
    peak_ops_per_s: float
    bandwidth_bytes_per_s: float
    cache_bytes: float
    launch_s: float
    compute_efficiency: float
    memory_efficiency: float
    feed_bytes_per_s: float
    k_step_s: float


@dataclass(frozen=True)
class TileConstants:
    """Constants shared by all GPUs, fitted once on A100, H100, H200 and L40S by benchmarks/fit_devices.py."""

    sharpness: float = 3.084
    """Exponent of the smooth maximum."""
    resident_area: float = 1.637 * 128 * 128
    """Elements of output that the tiles resident on one unit share."""
    resident_max: float = 1.908
    """Most tiles resident on one unit, counting how far their latencies overlap."""
    tile_loss: float = 0.6527
    """Loss of a tile's rate with the inverse of its sides: a unit's operand reuse."""
    epilogue: float = 3.764
    """Times an output tile's bytes pass the feed path."""
    latency_steps: float = 0.7603
    """Steps of latency before and after the K loop."""
    write_cost: float = 1.043
    """Memory cost of a byte written against one read."""
    cache_share: float = 0.623
    """Share of the last cache that holds a working set."""
    cache_sharpness: float = 3.960
    """How abruptly a working set falls out of the cache."""
    split_launch: float = 1.105
    """Launches that a split along K adds."""
    split_bytes: float = 5.257
    """Bytes per output and split that the reduction moves through the feed path."""


TILES = np.array([(tm, tn) for tm in (16, 32, 64, 128, 256) for tn in (32, 64, 128, 256) if tm * tn <= 2**15])
"""Output tiles (m, n) a library chooses from."""
SPLITS = np.array([1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32])
"""Splits along K a library chooses from."""
K_STEP = 64
"""Depth of one step of the K loop; a split is at least this deep."""
CONSTANTS = TileConstants()


@dataclass(frozen=True)
class Terms:
    """Seconds of an operation by cause; ``total_s`` is launch plus the smooth maximum of the other two."""

    total_s: Array
    launch_s: Array
    compute_s: Array
    memory_s: Array


def smooth_maximum(first: ArrayLike, second: ArrayLike, sharpness: float) -> Array:
    """``(first^p + second^p)^(1/p)``: never below the larger, at most ``2^(1/p)`` times it.

    >>> float(smooth_maximum(3.0, 4.0, 2.0))
    5.0
    """
    a, b = np.asarray(first, float), np.asarray(second, float)
    larger = np.maximum(np.maximum(a, b), 1e-30)
    return larger * ((a / larger) ** sharpness + (b / larger) ** sharpness) ** (1 / sharpness)


def missing_share(
    working_set_bytes: ArrayLike, cache_bytes: float, constants: TileConstants = CONSTANTS
) -> Array:
    """Share of accesses that go to main memory when ``working_set_bytes`` pass between two uses."""
    working = np.maximum(np.asarray(working_set_bytes, float), 1.0)
    return 1 / (1 + (constants.cache_share * cache_bytes / working) ** constants.cache_sharpness)


def stream_s(
    weight: Array, inputs: Array, outputs: Array, reuse: Array, machine: Machine, c: TileConstants
) -> Array:
    """Seconds on main memory; ``reuse`` bytes pass before the same weights are read again."""
    missed = weight * missing_share(reuse, machine.cache_bytes, c)
    missed = missed + (inputs + c.write_cost * outputs) * missing_share(
        weight + inputs + outputs, machine.cache_bytes, c
    )
    return missed / (machine.memory_efficiency * machine.bandwidth_bytes_per_s)


def tiled_gemm(
    machine: Machine,
    *,
    batch: ArrayLike = 1,
    m: ArrayLike,
    k: ArrayLike,
    n: ArrayLike,
    input_bytes: float,
    weight_bytes: float,
    output_bytes: float,
    reuse_bytes: ArrayLike | None = None,
    constants: TileConstants = CONSTANTS,
) -> Terms:
    """Seconds of ``batch`` products (m, k) by (k, n), with the best tile and split of K.

    Parameters
    ----------
    batch, m, k, n : array_like
        Sizes, at least 1; equal shapes, or scalars.
    input_bytes, weight_bytes, output_bytes : float
        Bytes of one element.
    reuse_bytes : array_like, optional
        Bytes that pass before the same weights are read again; without it, weights come from main memory.
    """
    b, m, k, n = (np.atleast_1d(np.asarray(size, float)) for size in (batch, m, k, n))
    weight, inputs, outputs = b * k * n * weight_bytes, b * m * k * input_bytes, b * m * n * output_bytes
    reuse = np.full_like(weight, np.inf) if reuse_bytes is None else np.asarray(reuse_bytes, float)
    memory = stream_s(weight, inputs, outputs, reuse, machine, constants)[:, None, None]
    b, m, k, n = (size[:, None, None] for size in (b, m, k, n))
    rate = (input_bytes, weight_bytes, output_bytes)
    compute = _wave_s(machine, (b, m, k, n), rate, constants)
    splits = SPLITS[None, None, :]
    reduction = (splits > 1) * (
        constants.split_launch * machine.launch_s
        + constants.split_bytes * splits * b * m * n / (machine.feed_bytes_per_s * machine.units)
    )
    total = machine.launch_s + smooth_maximum(compute, memory, constants.sharpness) + reduction
    total = np.where((splits > 1) & (k < K_STEP * splits), np.inf, total)
    return _fastest(total, machine.launch_s + reduction, compute, memory)


def _fastest(total: Array, launch: Array, compute: Array, memory: Array) -> Terms:
    """The best tile and split of each row."""
    rows = np.arange(total.shape[0])
    best = total.reshape(len(rows), -1).argmin(1)
    chosen = (rows, *np.unravel_index(best, total.shape[1:]))
    return Terms(*(np.broadcast_to(part, total.shape)[chosen] for part in (total, launch, compute, memory)))


def _wave_s(
    machine: Machine, sizes: tuple[Array, ...], element_bytes: tuple[float, float, float], c: TileConstants
) -> Array:
    """Seconds of all waves, shape (rows, tiles, splits): the unit's rate and its latency, smoothly."""
    b, m, k, n = sizes
    input_bytes, weight_bytes, output_bytes = element_bytes
    tm, tn = TILES[None, :, 0, None].astype(float), TILES[None, :, 1, None].astype(float)
    depth = np.ceil(k / SPLITS / K_STEP) * K_STEP
    blocks = b * np.ceil(m / tm) * np.ceil(n / tn) * SPLITS
    used_m, used_n = np.minimum(tm, m), np.minimum(tn, n)
    unit_rate = machine.compute_efficiency * machine.peak_ops_per_s / machine.units
    multiply = 2 * tm * tn * depth / unit_rate * (1 + c.tile_loss * (1 / tm + 1 / tn))
    operands = (used_m * input_bytes + used_n * weight_bytes) * depth
    feed = (operands + c.epilogue * used_m * used_n * output_bytes) / machine.feed_bytes_per_s
    throughput = np.ceil(blocks / machine.units) * np.maximum(multiply, feed)
    resident = np.clip(np.floor(c.resident_area / (tm * tn)), 1, c.resident_max)
    rounds = np.ceil(blocks / (machine.units * resident))
    latency = rounds * machine.k_step_s * (depth / K_STEP + c.latency_steps)
    return smooth_maximum(throughput, latency, c.sharpness)
