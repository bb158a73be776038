"""Whether a tiling fits a core, and the tiling that fits every core."""

from typing import NamedTuple

from systolith_hw.config import CoreConfig
from systolith_sim.compiler.places import (
    MOST_SLOTS,
    data_slots,
    input_slot,
    output_slot,
    parameter_tile,
    weight_slot,
)
from systolith_sim.compiler.tiling import Shape, Tiling


class Capacity(NamedTuple):
    """Slots of each memory that a tiling has; none may be 0."""

    a: int
    weights: int
    parameters: int
    outputs: int
    accumulators: int
    """Blocks of sums that fit in one bank."""

    @property
    def enough(self) -> bool:
        """Whether everything has a place."""
        return min(self) > 0


def capacity(core: CoreConfig, shape: Shape, tiling: Tiling, *, dram_stride: int | None,
             store: bool = True) -> Capacity:
    """The slots that ``tiling`` has on ``core``.

    Parameters
    ----------
    dram_stride : int or None
        Stride of A in DRAM; None where A is on chip already.
    store : bool
        Whether Y goes to DRAM.
    """
    half = core.data_bytes // 2
    rows = -(-shape.m // -(-shape.m // tiling.rows))
    all_tiles = -(-shape.k // core.rows)
    k_tiles = -(-all_tiles // -(-all_tiles // tiling.k_tiles))
    columns = min(tiling.group_columns, shape.n)
    group_tiles = -(-columns // core.cols)
    tiles = -(-group_tiles // -(-group_tiles // tiling.tiles))
    a = outputs = MOST_SLOTS
    if dram_stride is not None:
        slot = input_slot(core, rows=rows, k=shape.k, k_tiles=k_tiles, dram_stride=dram_stride)
        a = len(data_slots(core, start=0, end=half, size=slot.size))
    if store:
        slot = output_slot(core, rows=rows, columns=columns)
        outputs = len(data_slots(core, start=half, end=core.data_bytes, size=slot.size))
    return Capacity(
        a=a, weights=min(MOST_SLOTS, core.weight_bytes // weight_slot(core, tiles=tiles, k_tiles=k_tiles)),
        parameters=core.parameter_bytes // (tiles * parameter_tile(core)),
        outputs=outputs, accumulators=core.acc_rows // (rows * tiles))


def smallest(core: CoreConfig, shape: Shape) -> Tiling:
    """One row by one tile by one tile, stored a port word at a time: fits every core."""
    return Tiling(rows=1, edge_rows=1, tiles=1, k_tiles=1, group_columns=min(shape.n, core.port_bytes),
                  outer="m")
