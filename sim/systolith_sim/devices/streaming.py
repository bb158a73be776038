"""Norms, softmax, activations, additions and gathers on a GPU: each element once through the vector units.

Form and constants: docs/reference/kernel-cost.md. Functions take arrays, like ``gemm``.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from systolith_sim.devices.gemm import Array, Machine, Terms, missing_share, smooth_maximum

StreamingKind = Literal["norm", "layernorm", "softmax", "rope", "activation", "gelu", "add", "dropout", "gather"]
SHARPNESS, SERIAL = 4.0, 1.0
"""Exponent of the smooth maximum of vector work and memory: where they overlap, and where a reduction waits for its
row, so that they add up. Declared, not fitted."""
ROWS_PER_UNIT = 16
"""Rows in flight on one unit: 2,048 threads, 128 for a row (torch's vectorized_layer_norm_kernel)."""
LARGEST_BLOCK = 1024
"""Threads of the largest thread block."""


@dataclass(frozen=True)
class StreamingKernel:
    """What one kernel does with an element; shared by all GPUs, fitted on A100 by benchmarks/fit_streaming.py."""

    ops: float
    """Vector operations of an element, with loads, conversions and reductions."""
    again: float = 0.0
    """Times a row is read again; from main memory where the rows in flight outgrow the last cache."""
    sharpness: float = SHARPNESS
    """Exponent of the smooth maximum of vector work and memory."""
    block_a_row: bool = False
    """One thread block walks a row, an element a thread: its last round over a long row is partly idle."""


RANDOM_OPS = 38.0
"""Of a random number, as the peak counts (2 a lane and cycle): Philox 4x32-10, which GPU frameworks draw from, takes
ten rounds of two long products, two three-way exclusive ors and two additions for four numbers (Salmon et al., SC11),
15 cycles each, and its conversion to a float four more, at a quarter of the rate. Counted, not measured."""
KERNELS: dict[StreamingKind, StreamingKernel] = {
    "norm": StreamingKernel(75.5, 1.0, SERIAL),
    "layernorm": StreamingKernel(36.3, 2.0),
    "softmax": StreamingKernel(80.5),
    "rope": StreamingKernel(81.6),
    "activation": StreamingKernel(106.9, block_a_row=True),
    "gelu": StreamingKernel(24.9),
    "add": StreamingKernel(35.9),
    "dropout": StreamingKernel(35.9 + RANDOM_OPS),
    "gather": StreamingKernel(35.9),
}
"""Norm, rope, activation and add: one engine's kernels of 2024 (vidur's profile); layernorm, softmax and gelu:
torch's (LLMCompass). A gather was not measured and counts as an addition; a
dropout counts as one too, and a random number beside it."""


@dataclass(frozen=True)
class EagerCall:
    """A call that a framework launches from the host and waits for."""

    floor_s: float
    """Shortest call, however little it computes."""
    hidden_s: float
    """Device work that ends before the host looks for it, and costs nothing."""


EAGER_CALLS: dict[StreamingKind, EagerCall] = {
    "softmax": EagerCall(1.335e-5, 1.08e-6),
    "layernorm": EagerCall(5.41e-5, 1.17e-5),
    "gelu": EagerCall(4.72e-5, 3.43e-6),
}
"""torch's calls on the host of LLMCompass's A100, each with a floor of its own."""


def streaming(
    machine: Machine,
    kernel: StreamingKernel,
    *,
    elements: ArrayLike,
    moved_bytes: ArrayLike,
    row_bytes: ArrayLike = 0.0,
    row_elements: ArrayLike = 0.0,
    vector_ops_per_s: float,
    call: EagerCall | None = None,
) -> Terms:
    """Seconds of a kernel that passes over its operands once.

    Parameters
    ----------
    machine : Machine
        Its memory efficiency is that of streaming kernels.
    elements, moved_bytes : array_like
        Elements of the result, and bytes of operands and result.
    row_bytes : array_like
        Bytes of one row of a reduction, which kernels read ``again``.
    row_elements : array_like
        Elements of one row of the result, for kernels that give each row a block; 0: not known, nothing idle.
    call : EagerCall, optional
        Launched from the host; without it, replayed, at the machine's launch.
    """
    moved = np.atleast_1d(np.asarray(moved_bytes, float))
    in_flight = machine.units * ROWS_PER_UNIT * np.asarray(row_bytes, float)
    outgrown = 1 / (1 + (machine.cache_bytes / np.maximum(in_flight, 1.0)) ** 4)
    passes = 1 + kernel.again * outgrown / 2
    memory = moved * passes * missing_share(moved, machine.cache_bytes)
    memory = memory / (machine.memory_efficiency * machine.bandwidth_bytes_per_s)
    compute = np.asarray(elements, float) * kernel.ops / vector_ops_per_s
    if kernel.block_a_row:
        compute = compute * whole_rounds(row_elements)
    body: Array = smooth_maximum(compute, memory, kernel.sharpness)
    if call is None:
        launch = np.full_like(body, machine.launch_s)
        return Terms(launch + body, launch, compute, memory)
    total = np.maximum(call.floor_s, call.floor_s - call.hidden_s + body)
    return Terms(total, total - body, compute, memory)


def whole_rounds(row_elements: ArrayLike) -> Array:
    """Elements that the threads of a block walk, over those of a row: its last round counts whole; 1 where unknown.

    >>> whole_rounds([1000.0, 1024.0, 1536.0]).tolist()
    [1.0, 1.0, 1.3333333333333333]
    """
    rows = np.maximum(np.asarray(row_elements, float), 1.0)
    threads = np.minimum(rows, LARGEST_BLOCK)
    return np.ceil(rows / threads) * threads / rows
