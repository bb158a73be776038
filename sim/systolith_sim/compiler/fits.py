"""Whether tilings fit a core, and the tiling that fits every core."""

from typing import Any, NamedTuple

import numpy as np

from systolith_hw.config import CoreConfig
from systolith_sim.compiler.places import (
    MOST_SLOTS,
    input_slot,
    output_slot,
    parameter_tile,
    row_stride,
    weight_slot,
)
from systolith_sim.compiler.tiling import Shape, Tiling


class Slots(NamedTuple):
    """Slots of each memory that a tiling has, integers or arrays; none may be 0."""

    a: Any
    weights: Any
    parameters: Any
    outputs: Any
    sums: Any
    """Blocks of sums that fit in one bank."""

    @property
    def enough(self) -> Any:
        """Whether everything has a place."""
        return np.minimum.reduce(np.broadcast_arrays(*self)) > 0


class Ends(NamedTuple):
    """Which ends of a GEMM stand in DRAM."""

    load: bool = True
    """A does; else it is on chip."""
    store: bool = True
    """Y does; else it stays on chip."""


def capacities(core: CoreConfig, shape: Shape, tiling: Any, ends: Ends) -> Slots:
    """The slots that a tiling, or each of many tilings in arrays, has on ``core``.

    Parameters
    ----------
    tiling : Tiling or object with arrays of the same names
        How to cut.
    ends : Ends
        What must go through slots of the data scratchpad.
    """
    half = core.data_bytes // 2
    bank = min(half, core.data_bytes // core.data_banks)
    rows = _balanced(shape.m, tiling.rows)
    k_tiles = _balanced(-(-shape.k // core.rows), tiling.k_tiles)
    columns = np.minimum(tiling.group_columns, shape.n)
    tiles = _balanced(-(-columns // core.cols), tiling.tiles)
    a = outputs = MOST_SLOTS
    if ends.load:
        stride = row_stride(core, shape.k)
        size = input_slot(core, rows=rows, k=shape.k, k_tiles=k_tiles, dram_stride=stride).size
        a = np.minimum(MOST_SLOTS, bank // size * (half // bank))
    if ends.store:
        size = output_slot(core, rows=rows, columns=columns).size
        outputs = np.minimum(MOST_SLOTS, bank // size * (half // bank))
    weights = np.minimum(MOST_SLOTS, core.weight_bytes // weight_slot(core, tiles=tiles, k_tiles=k_tiles))
    return Slots(a, weights, core.parameter_bytes // (tiles * parameter_tile(core)), outputs,
                 core.acc_rows // (rows * tiles))


def smallest(core: CoreConfig, shape: Shape) -> Tiling:
    """One row by one tile by one tile, stored a port word at a time: fits every core."""
    return Tiling(rows=1, first_rows=1, last_rows=1, tiles=1, k_tiles=1,
                  group_columns=min(shape.n, core.port_bytes), outer="m")


def _balanced(total: Any, most: Any) -> Any:
    return -(-total // -(-total // most))
