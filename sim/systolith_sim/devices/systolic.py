"""Matrix products on a machine of large systolic arrays: a TPU.

Weight tiles of rows x cols are dealt to the arrays; loading the next tile hides behind the stream of the
current one, so a pass lasts as long as its activations. A compiler prefetches weights behind the computation,
hence the smooth maximum with memory.
"""

import numpy as np
from numpy.typing import ArrayLike

from systolith_sim.devices.gemm import CACHE, CONSTANTS, Machine, Terms, smooth_maximum, stream_s

MIN_ROWS = 8
"""Activation rows of the smallest pass: the sublanes of a vector register (JAX documentation, Pallas TPU)."""


def systolic_gemm(
    machine: Machine,
    *,
    rows: int,
    cols: int,
    batch: ArrayLike = 1,
    m: ArrayLike,
    k: ArrayLike,
    n: ArrayLike,
    input_bytes: float,
    weight_bytes: float,
    output_bytes: float,
    reuse_bytes: ArrayLike | None = None,
) -> Terms:
    """Seconds of ``batch`` products (m, k) by (k, n) on ``machine.units`` arrays of ``rows`` x ``cols``.

    Sizes and bytes as in ``gemm.tiled_gemm``.
    """
    b, m, k, n = (np.atleast_1d(np.asarray(size, float)) for size in (batch, m, k, n))
    weight, inputs, outputs = b * k * n * weight_bytes, b * m * k * input_bytes, b * m * n * output_bytes
    reuse = np.full_like(weight, np.inf) if reuse_bytes is None else np.asarray(reuse_bytes, float)
    memory = stream_s(weight, inputs, outputs, reuse, machine, CONSTANTS.write_cost, CACHE)
    tiles = b * np.ceil(k / rows) * np.ceil(n / cols)
    unit_rate = machine.compute_efficiency * machine.peak_ops_per_s / machine.units
    row_s = 2 * rows * cols / unit_rate
    compute = np.ceil(tiles / machine.units) * np.ceil(m / MIN_ROWS) * MIN_ROWS * row_s
    body = smooth_maximum(compute, memory, CONSTANTS.sharpness)
    launch = np.full_like(body, machine.launch_s)
    return Terms(launch + body, launch, compute, memory)
