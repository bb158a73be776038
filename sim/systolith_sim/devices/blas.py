"""Matrix products on a CPU: a blocked library that packs operands, then multiplies from its caches."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from systolith_sim.devices.gemm import CONSTANTS, Array, Machine, Terms, missing_share, smooth_maximum

Level = tuple[float, float]
"""A level of memory: size in bytes, sustained bytes per second."""


def level_stream_s(moved_bytes: ArrayLike, working_set_bytes: ArrayLike, levels: Sequence[Level]) -> Array:
    """Seconds to move bytes whose working set lies in the smallest level that holds it.

    Parameters
    ----------
    levels : sequence of (size_bytes, bandwidth_bytes_per_s)
        Smallest first; the last, the main memory, takes what no other holds.
    """
    moved = np.asarray(moved_bytes, float)
    seconds, share = np.zeros_like(moved), np.ones_like(moved)
    for size, bandwidth in levels[:-1]:
        missed = missing_share(working_set_bytes, size)
        seconds = seconds + share * (1 - missed) * moved / bandwidth
        share = share * missed
    return seconds + share * moved / levels[-1][1]


def blas_gemm(
    machine: Machine,
    levels: Sequence[Level],
    *,
    batch: ArrayLike = 1,
    m: ArrayLike,
    k: ArrayLike,
    n: ArrayLike,
    input_bytes: float,
    weight_bytes: float,
    output_bytes: float,
    reuse_bytes: ArrayLike | None = None,
) -> Terms:
    """Seconds of ``batch`` products (m, k) by (k, n): packing and multiplying, against memory.

    Sizes and bytes as in ``gemm.tiled_gemm``; ``machine.feed_bytes_per_s`` is one core's rate of packing.
    """
    b, m, k, n = (np.atleast_1d(np.asarray(size, float)) for size in (batch, m, k, n))
    weight, inputs, outputs = b * k * n * weight_bytes, b * m * k * input_bytes, b * m * n * output_bytes
    moved = weight + inputs + outputs
    reuse = np.full_like(weight, np.inf) if reuse_bytes is None else np.asarray(reuse_bytes, float)
    multiply = 2 * b * m * k * n / (machine.compute_efficiency * machine.peak_ops_per_s)
    compute = multiply + moved / (machine.feed_bytes_per_s * machine.units)
    memory = level_stream_s(moved, np.maximum(reuse, moved), levels)
    body = smooth_maximum(compute, memory, CONSTANTS.sharpness)
    launch = np.full_like(body, machine.launch_s)
    return Terms(launch + body, launch, compute, memory)
