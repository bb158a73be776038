"""Matrix products in 8 bits on a GPU, with the kernels that quantize the activations first.

What a library does about it is a fact of that library and its version, shared by every GPU it runs on; a GPU adds
one figure, the seconds to quantize an element. Fitted by benchmarks/fit_gemm.py.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from systolith_sim.devices.gemm import Array, Machine, Terms, smooth_maximum, tiled_gemm

Tiles = tuple[tuple[int, int], ...]
ALL_ROWS = 2**62
BY_ROWS: tuple[tuple[int, Tiles], ...] = (
    (64, ((64, 32), (64, 64))),
    (128, ((64, 64), (64, 128))),
    (ALL_ROWS, ((128, 64), (128, 128))),
)
"""Tiles by the most rows they serve: the steps at 64 and 128 rows in the times of vLLM 0.14."""
BY_COST: tuple[tuple[int, Tiles], ...] = (
    (ALL_ROWS, tuple((tm, tn) for tm in (64, 128, 256) for tn in (16, 32, 64, 96, 128, 160) if tm * tn <= 2**15)),
)
"""Tiles that DeepGEMM compiles on demand."""
BY_ROWS_AND_COST: tuple[tuple[int, Tiles], ...] = (
    (64, tuple((64, tn) for tn in (16, 32, 64, 96, 128, 160))),
    (ALL_ROWS, tuple((tm, tn) for tm, tn in BY_COST[0][1] if tm > 64)),
)
"""The same where small tiles serve small products alone: the step at 64 rows in the times of vLLM 0.22."""
QUANTIZING_SHARPNESS = 2.0
"""Exponent of the smooth maximum of one row's latency and all rows' throughput. Declared, not fitted."""


@dataclass(frozen=True)
class QuantizedLibrary:
    """Products of one library in one format; K is never split."""

    launch_s: float
    """Starts and ends of the kernels before the product, with the gaps between them."""
    rate_share: float
    """Share of the rate that 16-bit products sustain, beside the higher peak."""
    step_share: float
    """Latency of a step along K, against 16-bit products."""
    row_s_per_element: float
    """Latency of quantizing one row, an element."""
    tiles: tuple[tuple[int, Tiles], ...]
    """Most rows, and the tiles that serve up to so many; ascending."""
    epilogue_hidden: float | None = None
    """Share of a tile's epilogue that goes on behind the next tile; None: as in 16 bits. Declared, not fitted."""

    def parts(self, m: Array) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
        """Rows of a table that take the same candidates, and these: (tile m, tile n, 1)."""
        least = 0
        for most, tiles in self.tiles:
            chosen = np.flatnonzero((m > least) & (m <= most))
            if len(chosen):
                yield chosen, np.array([(*tile, 1) for tile in tiles], float)
            least = most


LIBRARIES: Mapping[str, QuantizedLibrary] = MappingProxyType(
    {
        "vllm-0.14-fp8": QuantizedLibrary(9.489e-06, 0.7727, 0.0, 1.453e-10, BY_ROWS, 1.0),
        "vllm-0.14-fp8-block": QuantizedLibrary(2.183e-05, 0.8171, 0.0, 1.184e-09, BY_COST),
        "vllm-0.22-fp8-block": QuantizedLibrary(0.0, 0.8807, 1.22, 0.0, BY_ROWS_AND_COST),
    }
)
"""By engine, its version and format, measured on Hopper; what is 0 was not told apart from nothing. The first are
CUTLASS's persistent ping-pong kernels: one group of warps multiplies while another stores its tile."""


def quantized_gemm(
    machine: Machine,
    library: QuantizedLibrary,
    *,
    quantize_s_per_element: float,
    batch: ArrayLike = 1,
    m: ArrayLike,
    k: ArrayLike,
    n: ArrayLike,
    input_bytes: float,
    weight_bytes: float,
    output_bytes: float,
    reuse_bytes: ArrayLike | None = None,
    precision: DTypeLike = np.float64,
) -> Terms:
    """Seconds of ``batch`` products (m, k) by (k, n) whose activations arrive in 16 bits.

    Sizes and bytes as in ``gemm.tiled_gemm``, inputs as they are multiplied; quantizing counts as memory.
    """
    hidden = machine.tiles.epilogue_hidden if library.epilogue_hidden is None else library.epilogue_hidden
    constants = replace(machine.tiles, epilogue_hidden=hidden)
    own = replace(
        machine,
        compute_efficiency=machine.compute_efficiency * library.rate_share,
        k_step_s=machine.k_step_s * library.step_share,
    )
    reuse = np.inf if reuse_bytes is None else reuse_bytes
    sizes = np.broadcast_arrays(*(np.atleast_1d(np.asarray(size, float)) for size in (batch, m, k, n, reuse)))
    found = np.empty((4, len(sizes[0])))
    for chosen, candidates in library.parts(sizes[1]):
        b, rows, depth, cols, passed = (size[chosen] for size in sizes)
        part = tiled_gemm(
            own, batch=b, m=rows, k=depth, n=cols, input_bytes=input_bytes, weight_bytes=weight_bytes,
            output_bytes=output_bytes, reuse_bytes=passed, candidates=candidates, constants=constants,
            precision=precision,
        )  # fmt: skip
        found[:, chosen] = part.total_s, part.launch_s, part.compute_s, part.memory_s
    total, launch, compute, memory = found
    rows_s = quantize_s_per_element * sizes[0] * sizes[1] * sizes[2]
    quantizing = smooth_maximum(library.row_s_per_element * sizes[2], rows_s, QUANTIZING_SHARPNESS)
    return Terms(total + library.launch_s + quantizing, launch + library.launch_s, compute, memory + quantizing)
