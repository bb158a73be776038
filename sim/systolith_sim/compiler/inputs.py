"""The loads of a GEMM: what each step needs, into which slot, in order of need."""

from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from systolith_hw.config import TABLE_BYTES
from systolith_hw.isa import Memory
from systolith_sim.compiler.assembler import Assembler, Region
from systolith_sim.compiler.places import (
    MOST_SLOTS,
    ChipMatrix,
    DramMatrix,
    Ring,
    Slot,
    SlotRows,
    data_slots,
    input_slot,
    parameter_tile,
    up,
    weight_slot,
    weight_stride,
)
from systolith_sim.compiler.tiling import Chunk, Columns, Cut, Rows, Step


@dataclass(frozen=True, kw_only=True)
class Operands:
    """Where the operands of a GEMM stand, and how its results are made."""

    a: DramMatrix | ChipMatrix
    y: DramMatrix | ChipMatrix
    weights: int
    """DRAM address of the blocked weights."""
    parameters: int
    """DRAM address of the parameters."""
    table: int | None = None
    """DRAM address of the table."""
    table_slot: int = 0
    signed: bool = True
    zero_point: int = 0
    input_half: tuple[int, int]
    """Bytes of the data scratchpad for blocks of A."""
    output_half: tuple[int, int]
    """Bytes of the data scratchpad for blocks of Y."""


class PlannedLoad(NamedTuple):
    """A load, and between which steps it may stand in the program."""

    needed: int
    """It must stand before this step."""
    after: int
    """It must stand after this step, the last that needs what the load overwrites."""
    fields: dict[str, Any]
    reads: tuple[Region, ...]
    writes: tuple[Region, ...]


class Activations(NamedTuple):
    """Operand of a matmul in the data scratchpad."""

    address: int
    stride: int
    regions: tuple[Region, ...]


class Weights(NamedTuple):
    """Operand of a matmul in the weight scratchpad."""

    address: int
    stride: int
    region: Region


class Parameters(NamedTuple):
    """Operand of the vector instructions of a block."""

    address: int
    regions: tuple[Region, ...]


class Inputs:
    """Walks the steps ahead of the matmuls, gives slots to what they need, and lists the loads in order."""

    def __init__(self, assembler: Assembler, cut: Cut, operands: Operands) -> None:
        self._assembler, self._cut, self._operands = assembler, cut, operands
        self.loads: deque[PlannedLoad] = deque()
        """Loads not yet in the program."""
        self.activations: deque[Activations] = deque()
        """One for each planned step that is not yet a matmul."""
        self.weights: deque[Weights] = deque()
        """The same."""
        self.parameters: deque[Parameters] = deque()
        """One for each planned block that is not yet read out."""
        self._steps = 0
        self._started: tuple[int, Columns] | None = None
        self._make_rings()

    def plan(self, step: Step) -> None:
        """Plan the next step; parameters of a block come one step later, so as not to hold its start up."""
        self.activations.append(self._activations(step))
        self.weights.append(self._weights(step.columns, step.chunk))
        self.plan_parameters()
        if step.first:
            self._started = self._steps, step.columns
        self._steps += 1

    def plan_parameters(self) -> None:
        """Plan the parameters of the last block that started, if they are not planned yet."""
        if self._started is None:
            return
        first, columns = self._started
        self._started = None
        number, tile, tiles = self._parameter_keys[columns.number]
        # Its vector instructions stand after the step that follows the block.
        slot = self._slot(self._p_ring, number, first + len(self._cut.chunks))
        size, need = parameter_tile(self._cut.core), Rows(columns.tile, columns.tiles)
        if not slot.parts(need):
            if self._table is not None and self._operands.table is not None:
                self._load(self._table, Memory.TABLE, self._operands.table, TABLE_BYTES)
                self._table_regions, self._table = (self._table.region.part(),), None
            # The very first load brings no more than its block needs, so that it does not hold weights up.
            part = need if first == 0 else Rows(columns.tile, tile + tiles - columns.tile)
            slot.loaded.append(part)
            self._load(slot, Memory.PARAMETER, self._operands.parameters + part.start * size,
                       part.size * size, offset=(part.start - tile) * size, part=part)
        regions = [slot.region.part(part) for part in slot.parts(need)]
        self.parameters.append(Parameters(slot.address + (columns.tile - tile) * size,
                                          (*regions, *self._table_regions)))

    def _make_rings(self) -> None:
        core, cut, a = self._cut.core, self._cut, self._operands.a
        k_tiles = max(chunk.tiles for chunk in cut.chunks)
        if isinstance(a, DramMatrix):
            self._a_slot = input_slot(core, rows=max(rows.size for rows in cut.rows), k=cut.shape.k,
                                      k_tiles=k_tiles, dram_stride=a.stride)
            self._a_slot = SlotRows(int(self._a_slot.stride), int(self._a_slot.size))
            start, end = self._operands.input_half
            addresses = data_slots(core, start=start, end=end, size=self._a_slot.size)
            self._a_ring = Ring(self._assembler, "data", addresses, self._a_slot.size)
        tiles = max(block.tiles for block in cut.columns)
        size = weight_slot(core, tiles=tiles, k_tiles=k_tiles)
        self._w_ring = self._ring("weight", size, core.weight_bytes)
        self._parameter_keys, most = parameter_keys(cut)
        self._p_ring = self._ring("parameter", most * parameter_tile(core), core.parameter_bytes)
        self._table_regions: tuple[Region, ...] = ()
        self._table: Slot | None = None
        if self._operands.table is not None:
            at = self._operands.table_slot * TABLE_BYTES
            self._table = Slot(at, self._assembler.region("table", at, at + TABLE_BYTES))
        self._weight_base = weight_offsets(cut)

    def _ring(self, memory: str, size: int, total: int) -> Ring:
        return Ring(self._assembler, memory, range(0, total - size + 1, size)[:MOST_SLOTS], size)

    def _activations(self, step: Step) -> Activations:
        a, rows, k = self._operands.a, step.rows, step.chunk.tile * self._cut.core.rows
        if isinstance(a, ChipMatrix):
            address = a.address + rows.start * a.stride + k
            return Activations(address, a.stride, a.bands(rows.start, rows.size))
        slot = self._slot(self._a_ring, (step.block, step.chunk.number), self._steps)
        stride = self._a_slot.stride
        address = slot.address + (rows.start - step.block.start) * stride
        first = k // self._cut.core.port_bytes * self._cut.core.port_bytes
        if not slot.parts(rows):
            slot.loaded.append(rows)
            bank = slot.address // (self._cut.core.data_bytes // self._cut.core.data_banks)
            self.loads.append(PlannedLoad(
                self._steps, slot.free_after, self._activation_load(a, step, address, first),
                a.bands(rows.start, rows.size),
                (slot.region.part(rows), self._assembler.port("write", bank))))
        regions = tuple(slot.region.part(part) for part in slot.parts(rows))
        return Activations(address + k - first, stride, regions)

    def _activation_load(self, a: DramMatrix, step: Step, address: int, first: int) -> dict[str, Any]:
        rows, stride, core = step.rows, self._a_slot.stride, self._cut.core
        fields = {"memory": Memory.DATA, "dram_address": a.address + rows.start * a.stride + first,
                  "local_address": address}
        if stride == a.stride and len(self._cut.chunks) == 1:
            return fields | {"rows": 1, "row_bytes": rows.size * stride}
        k = min((step.chunk.tile + step.chunk.tiles) * core.rows, self._cut.shape.k)
        last = min(up(k, core.port_bytes), a.stride)
        return fields | {"dram_stride": a.stride, "local_stride": stride, "rows": rows.size,
                         "row_bytes": last - first}

    def _weights(self, columns: Columns, chunk: Chunk) -> Weights:
        stride = weight_stride(self._cut.core, columns.tiles)
        slot = self._slot(self._w_ring, (columns.number, chunk.number), self._steps)
        if not slot.loaded:
            slot.loaded.append(Rows(0, chunk.tiles))
            rows = self._cut.core.sizes.weight_groups * stride
            address = self._operands.weights + self._weight_base[columns.number] + chunk.tile * rows
            self._load(slot, Memory.WEIGHT, address, chunk.tiles * rows)
        return Weights(slot.address, stride, slot.region.part())

    def _load(self, slot: Slot, memory: Memory, dram: int, size: int, *, offset: int = 0,
              part: Rows | None = None) -> None:
        fields = {"memory": memory, "dram_address": dram, "local_address": slot.address + offset,
                  "row_bytes": size}
        self.loads.append(PlannedLoad(self._steps, slot.free_after, fields, (), (slot.region.part(part),)))

    @staticmethod
    def _slot(ring: Ring, key: Hashable, until: int) -> Slot:
        slot = ring.slot(key)
        slot.busy_until = until
        return slot


def parameter_keys(cut: Cut) -> tuple[Sequence[tuple[int, int, int]], int]:
    """For each block of columns the (number, first tile, tiles) of its parameters' slot; the most tiles.

    All together where they fit, else as many blocks as fit in half of the memory.
    """
    capacity = cut.core.parameter_bytes // parameter_tile(cut.core)
    total = sum(block.tiles for block in cut.columns)
    limit = capacity if total <= capacity else capacity // 2
    parts: list[list[Columns]] = [[]]
    for block in cut.columns:
        if parts[-1] and sum(other.tiles for other in parts[-1]) + block.tiles > limit:
            parts.append([])
        parts[-1].append(block)
    sizes = [sum(block.tiles for block in part) for part in parts]
    keys = [(number, part[0].tile, sizes[number]) for number, part in enumerate(parts) for _ in part]
    return keys, max(sizes)


def weight_offsets(cut: Cut) -> Sequence[int]:
    """Where the weights of each block of columns begin, and where the last ends, bytes (rule Y10)."""
    tiles = -(-cut.shape.k // cut.core.rows)
    offsets = [0]
    for block in cut.columns:
        offsets.append(offsets[-1] + weight_slot(cut.core, tiles=block.tiles, k_tiles=tiles))
    return offsets
