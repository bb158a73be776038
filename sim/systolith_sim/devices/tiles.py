"""Constants of matrix products on GPUs that kernels and libraries bring, by what the units can do.

Shared by every GPU of a kind and fitted by benchmarks/fit_gemm.py: ``NARROW`` on A100 and L40S, whose warps issue
their products themselves, ``WIDE`` on H100 and H200, whose products and copies run on their own.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

TILES = tuple((tm, tn) for tm in (16, 32, 64, 128, 256) for tn in (32, 64, 128, 256) if tm * tn <= 2**15)
"""Output tiles (m, n) a library chooses from."""
SPLITS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Splits along K a library chooses from."""
LARGEST_LOSS = 3 / 256
"""Sum of the inverse sides of the largest tile, against which losses count."""


class Cache(NamedTuple):
    """How a working set falls out of the last cache."""

    share: float
    sharpness: float
    outputs: float = 1.0
    """Room a byte written takes beside one read."""


WHOLE_CACHE = Cache(1.0, 20.0, 1.3)
"""A cache that is not divided keeps what fits and loses what does not at once; products that mostly write fall out
of L40S's at three quarters of its size. Declared, not fitted."""


@dataclass(frozen=True)
class TileConstants:
    """Constants of one kind of unit; see docs/reference/kernel-cost.md."""

    sharpness: float
    """Exponent of the smooth maximum of throughput and latency."""
    memory_sharpness: float
    """Exponent of the smooth maximum of that and memory."""
    resident_max: float
    """Most tiles resident on one unit, counting how far their latencies overlap."""
    tile_loss: float
    """Loss of a tile's rate with the inverse of its sides: a unit's operand reuse."""
    epilogue: float
    """Times an output tile's bytes pass the feed path before the tile is done."""
    write_cost: float
    """Memory cost of a byte written against one read."""
    divided_share: float
    """Share of a last cache in two parts that holds a working set."""
    divided_sharpness: float
    """How abruptly a working set falls out of it."""
    split_launch: float
    """Launches that a split along K adds."""
    split_bytes: float
    """Bytes per output and split that the reduction moves through the feed path."""
    choosiness: float
    """How surely a library takes what it thinks is best: exponent of a relative disadvantage."""
    epilogue_hidden: float = 0.0
    """Share of the epilogue that hides behind the next tile; 0, declared, where no kernel runs ahead."""
    vector_steps: float = 0.0
    """Steps of latency per 1024 along K of the kernel for a single row; without one, 0."""
    vector_feed: float = 0.0
    """Feed of that kernel, times the weights."""
    resident_area: float = 1.64 * 128 * 128
    """Elements of output that the tiles resident on one unit share."""

    @cached_property
    def candidates(self) -> NDArray[np.float64]:
        """Rows of (tile m, tile n, split of K)."""
        return np.array([(*tile, split) for tile in TILES for split in SPLITS], float)

    def loss(self, tm: NDArray[np.float64], tn: NDArray[np.float64]) -> NDArray[np.float64]:
        """Time of a tile's multiplications over that at the rate of the largest tile."""
        return (1 + self.tile_loss * (1 / tm + 1 / tn)) / (1 + self.tile_loss * LARGEST_LOSS)

    def resident(self, candidates: NDArray[np.float64]) -> NDArray[np.float64]:
        """Tiles resident on one unit."""
        area = candidates[:, 0] * candidates[:, 1]
        return np.clip(np.floor(self.resident_area / area), 1, max(self.resident_max, 1))

    def cache(self, parts: int) -> Cache:
        """How a working set falls out of a last cache of so many parts."""
        return WHOLE_CACHE if parts == 1 else Cache(self.divided_share, self.divided_sharpness)


NARROW = TileConstants(
    sharpness=2.223, memory_sharpness=3.422, resident_max=1.0, tile_loss=38.0, epilogue=3.777, write_cost=1.031,
    divided_share=0.5417, divided_sharpness=7.848, split_launch=0.8822, split_bytes=5.579, choosiness=42.13,
    vector_steps=1.177, vector_feed=2.945,
)  # fmt: skip
WIDE = TileConstants(
    sharpness=1.856, memory_sharpness=2.908, resident_max=5.0, tile_loss=0.0, epilogue=14.75, write_cost=0.7579,
    divided_share=0.2208, divided_sharpness=2.212, split_launch=1.112, split_bytes=6.988, choosiness=59.84,
    epilogue_hidden=0.4106,
)  # fmt: skip
