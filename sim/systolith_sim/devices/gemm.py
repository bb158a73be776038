"""Matrix products on a GPU: tiles dealt in waves to units that are fed, computed and latency bound.

Form and constants: docs/reference/kernel-cost.md. Functions take arrays, so that one call scores a table of
measurements and a scalar call is the same arithmetic.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from systolith_sim.devices.tiles import NARROW, WIDE, TileConstants

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
    cache_parts: int = 1
    """Parts of the last cache that each keep their own copy of what their units read."""
    split_least: float = 0.0
    """Multiply-adds below which the library does not split K."""
    split_least_depth: float = 0.0
    """K over the larger of m and n below which it does not where the smaller is at most ``SKINNY``."""
    wide: bool = False
    """Units whose products and copies run on their own (Hopper and later), with the kernels that come with them."""

    @property
    def tiles(self) -> TileConstants:
        """Constants of the kernels that libraries run on such units."""
        return WIDE if self.wide else NARROW


@dataclass(frozen=True)
class CacheConstants:
    """How a working set falls out of the last cache, for kernels that read it once."""

    share: float = 0.623
    """Share of the cache that holds a working set."""
    sharpness: float = 3.960
    """How abruptly a working set falls out."""
    outputs: float = 1.0
    """Room a byte written takes beside one read."""


@dataclass(frozen=True)
class SmoothConstants:
    """What CPUs and TPUs share with no other kernel model."""

    sharpness: float = 3.084
    """Exponent of the smooth maximum of compute and memory."""
    write_cost: float = 1.043
    """Memory cost of a byte written against one read."""


K_STEP = 64
"""Depth of one step of the K loop whose latency ``k_step_s`` is; a split is at least this deep."""
SKINNY = 64
"""Most rows, or columns, of a product that is one small tile wide."""
K_GRAIN = 32
"""Depth a K loop is rounded up to."""
CACHE = CacheConstants()
CONSTANTS = SmoothConstants()


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
    a, b = np.asarray(first), np.asarray(second)
    larger = np.maximum(np.maximum(a, b), 1e-30)
    return larger * (1 + (np.minimum(a, b) / larger) ** sharpness) ** (1 / sharpness)


def missing_share(working_set_bytes: ArrayLike, cache_bytes: float, cache: CacheConstants = CACHE) -> Array:
    """Share of accesses that go to main memory when ``working_set_bytes`` pass between two uses."""
    working = np.maximum(np.asarray(working_set_bytes), 1.0)
    # A billionth is missed at least, lest powers overflow.
    room = np.minimum(cache.share * cache_bytes / working, 1e9 ** (1 / cache.sharpness))
    return 1 / (1 + room**cache.sharpness)


def stream_s(
    weight: Array,
    inputs: Array,
    outputs: Array,
    reuse: Array,
    machine: Machine,
    write_cost: float,
    cache: CacheConstants,
) -> Array:
    """Seconds on main memory; ``reuse`` bytes pass before the same weights are read again."""
    missed = weight * missing_share(reuse, machine.cache_bytes, cache)
    missed = missed + (inputs + write_cost * outputs) * missing_share(
        weight + inputs + cache.outputs * outputs, machine.cache_bytes, cache
    )
    return missed / (machine.memory_efficiency * machine.bandwidth_bytes_per_s)


@dataclass(frozen=True)
class Grouping:
    """What a grouped product changes where every product of the batch is a tile of rows of one matrix of weights."""

    matrices: ArrayLike
    """Matrices of weights that are read: at most the batch."""
    slower: ArrayLike = 1.0
    """Time of a tile's multiplications over that of rows that lie side by side."""


@dataclass(frozen=True)
class _Shape:
    """Sizes and bytes of rows of products, each of shape (1, rows); candidates lie along the first axis."""

    b: Array
    m: Array
    k: Array
    n: Array
    element_bytes: tuple[float, float, float]
    matrices: Array
    slower: Array

    @property
    def bytes(self) -> tuple[Array, Array, Array]:
        """Weights, inputs, outputs."""
        i, w, o = self.element_bytes
        return self.matrices * self.k * self.n * w, self.b * self.m * self.k * i, self.b * self.m * self.n * o


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
    candidates: NDArray[np.float64] | None = None,
    constants: TileConstants | None = None,
    grouping: Grouping | None = None,
    precision: DTypeLike = np.float64,
) -> Terms:
    """Seconds of ``batch`` products (m, k) by (k, n), with the tile and split of K that a library would choose.

    Parameters
    ----------
    batch, m, k, n : array_like
        Sizes, at least 1; equal shapes, or scalars.
    input_bytes, weight_bytes, output_bytes : float
        Bytes of one element.
    reuse_bytes : array_like, optional
        Bytes that pass before the same weights are read again; without it, weights come from main memory.
    candidates : ndarray, optional
        Rows of (tile m, tile n, split of K), in place of those of ``machine.tiles``.
    constants : TileConstants, optional
        In place of those of ``machine.tiles``; fits use it, with a lower ``precision``.
    grouping : Grouping, optional
        Where several products of the batch share a matrix of weights; without it, each has its own.
    """
    c = constants or machine.tiles
    group = grouping or Grouping(batch)
    given = (batch, m, k, n, group.matrices, group.slower)
    sizes = np.broadcast_arrays(*(np.atleast_1d(np.asarray(size, precision)) for size in given))
    b, m, k, n, *grouped = (size[None] for size in sizes)
    shape = _Shape(b, m, k, n, (input_bytes, weight_bytes, output_bytes), *grouped)
    reuse = np.asarray(np.inf if reuse_bytes is None else reuse_bytes, precision)
    cache = CacheConstants(*c.cache(machine.cache_parts))
    memory = stream_s(*shape.bytes, reuse, machine, c.write_cost, cache)
    allowed = (c.candidates if candidates is None else candidates).astype(precision)
    return _with_vectors(machine, shape, memory, _chosen(machine, shape, memory, allowed, c), c)


def _chosen(machine: Machine, shape: _Shape, memory: Array, candidates: Array, c: TileConstants) -> Terms:
    """The mean over candidates of what each takes, weighed by how good the library, which errs, may think it is."""
    work, step, waves, split = _work(machine, shape, candidates, c)
    reduction = (split > 1) * (
        c.split_launch * machine.launch_s
        + c.split_bytes * split * shape.b * shape.m * shape.n / (machine.feed_bytes_per_s * machine.units)
    )
    rounds = np.ceil(waves / c.resident(candidates)[:, None])
    compute = smooth_maximum(np.ceil(waves) * work, rounds * step, c.sharpness)
    total = smooth_maximum(compute, memory, c.memory_sharpness) + reduction
    allowed = np.where((split > 1) & ((shape.k < K_STEP * split) | _whole(machine, shape)), np.inf, total)
    weights = np.exp(-c.choosiness * (allowed / allowed.min(0) - 1))
    mean = np.exp((weights * np.log(total)).sum(0) / weights.sum(0))
    best = allowed.argmin(0), np.arange(total.shape[1])
    launch = machine.launch_s + reduction[best]
    return Terms(machine.launch_s + mean, launch, compute[best], np.broadcast_to(memory, total.shape)[best])


def _whole(machine: Machine, shape: _Shape) -> NDArray[np.bool_]:
    """Products whose K the library of the device does not split: small ones, and skinny ones that are not deep."""
    skinny = np.minimum(shape.m, shape.n) <= SKINNY
    flat = shape.k < machine.split_least_depth * np.maximum(shape.m, shape.n)
    return (shape.m * shape.n * shape.k < machine.split_least) | (skinny & flat)


def _work(
    machine: Machine, shape: _Shape, candidates: Array, c: TileConstants
) -> tuple[Array, Array, Array, Array]:
    """Of each candidate: seconds a unit works on a tile, latency of its K loop, waves over the units, split."""
    tm, tn, split = (candidates[:, part, None] for part in range(3))
    input_bytes, weight_bytes, output_bytes = shape.element_bytes
    depth = np.ceil(shape.k / split / K_GRAIN) * K_GRAIN
    waves = shape.b * np.ceil(shape.m / tm) * np.ceil(shape.n / tn) * split / machine.units
    used_m, used_n = np.minimum(tm, shape.m), np.minimum(tn, shape.n)
    unit_rate = machine.compute_efficiency * machine.peak_ops_per_s / machine.units
    multiply = 2 * tm * tn * depth / unit_rate * c.loss(tm, tn) * shape.slower
    operands = (used_m * input_bytes + used_n * weight_bytes) * depth / machine.feed_bytes_per_s
    # A tile leaves its registers whole, through the shared memory, whatever part of it is stored.
    epilogue = c.epilogue * tm * tn * output_bytes / machine.feed_bytes_per_s
    hidden = c.epilogue_hidden * epilogue
    body = np.maximum(multiply, operands + hidden) + (epilogue - hidden)
    return body, machine.k_step_s * depth / K_STEP, waves, split


def _with_vectors(machine: Machine, shape: _Shape, memory: Array, terms: Terms, c: TileConstants) -> Terms:
    """A single row runs a kernel of its own where the library has one: no tiles, all units on the weights."""
    single = (shape.m[0] == 1) & (c.vector_steps > 0)
    if not single.any():
        return terms
    weight, _, _ = shape.bytes
    latency = c.vector_steps * machine.k_step_s * shape.k[0] / (16 * K_STEP)
    feed = c.vector_feed * weight[0] / (machine.feed_bytes_per_s * machine.units)
    compute = smooth_maximum(latency, feed, c.sharpness)
    body = smooth_maximum(compute, memory[0], c.memory_sharpness)
    launch = np.full_like(body, machine.launch_s)
    own = (machine.launch_s + body, launch, compute, memory[0])
    tiled = (terms.total_s, terms.launch_s, terms.compute_s, terms.memory_s)
    return Terms(*(np.where(single, one, other) for one, other in zip(own, tiled, strict=True)))
