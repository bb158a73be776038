"""Tensors as the bytes that stand in DRAM (docs/contracts/layout.md)."""

import numpy as np
from numpy.typing import NDArray

from systolith_hw.config import PARAMETER_BYTES
from systolith_sim.compiler.places import parameter_tile, weight_stride
from systolith_sim.compiler.tiling import Cut

_CHANNEL = np.dtype([("bias", "<i4"), ("mantissa", "<u2"), ("shift", "u1"), ("zero", "u1")])


def pack_matrix(matrix: NDArray[np.uint8], stride: int) -> bytes:
    """Rows of bytes, ``stride`` apart, zeros between (rule Y1)."""
    rows, row_bytes = matrix.shape
    padded = np.zeros((rows, stride), dtype=np.uint8)
    padded[:, :row_bytes] = matrix
    return padded.tobytes()


def pack_weights(cut: Cut, weights: NDArray[np.int8]) -> bytes:
    """Weights (K, N), blocked for the cut, zeros where a tile is not full (rules Y4, Y10)."""
    core, sizes, k = cut.core, cut.core.sizes, cut.shape.k
    k_tiles = -(-k // core.rows)
    packed = []
    for block in cut.columns:
        # One tile's rows are filled up to whole groups.
        rows = np.zeros((k_tiles * core.rows, block.tiles * core.cols), dtype=np.int8)
        rows[:k, :block.width] = weights[:, block.start:block.start + block.width]
        tiles = np.zeros((k_tiles, sizes.weight_groups * core.weight_rows_per_cycle, block.tiles, core.cols),
                         dtype=np.int8)
        tiles[:, :core.rows] = rows.reshape(k_tiles, core.rows, block.tiles, core.cols)
        groups = tiles.reshape(-1, core.weight_rows_per_cycle, block.tiles, core.cols)
        groups = groups.transpose(0, 2, 1, 3).reshape(len(groups), -1)
        padded = np.zeros((len(groups), weight_stride(core, block.tiles)), dtype=np.int8)
        padded[:, :groups.shape[1]] = groups
        packed.append(padded.tobytes())
    return b"".join(packed)


def pack_parameters(cut: Cut, *, bias: NDArray[np.int64], mantissa: NDArray[np.int64],
                    shift: NDArray[np.int64]) -> bytes:
    """Parameters of N channels, tile by tile, group by group of lanes (rule Y6)."""
    core = cut.core
    channels = np.zeros(cut.shape.n, dtype=_CHANNEL)
    channels["bias"], channels["mantissa"], channels["shift"] = bias, mantissa, shift
    groups, lanes = core.sizes.requant_groups, core.requant_lanes
    words = np.zeros((sum(block.tiles for block in cut.columns), groups,
                      parameter_tile(core) // groups // PARAMETER_BYTES), dtype=_CHANNEL)
    for block in cut.columns:
        for tile in range(block.tiles):
            width = min(core.cols, block.width - tile * core.cols)
            column = block.start + tile * core.cols
            full = np.zeros(groups * lanes, dtype=_CHANNEL)
            full[:width] = channels[column:column + width]
            words[block.tile + tile, :, :lanes] = full.reshape(groups, lanes)
    return words.tobytes()
