"""Programs written by hand for the whole-core benches, with what torch says of their results."""

from dataclasses import dataclass
from functools import partial

import torch
from integers import requantize
from torch import Tensor

from systolith_hw.config import CoreConfig
from systolith_hw.isa import Instruction, Load, Matmul, Memory, Store, Vector, semaphore
from systolith_hw.program import Program, Region, Segment, aligned_program_address, check

TABLE_SLOTS = 2
small = partial(CoreConfig, acc_rows=16, data_bytes=2048, weight_bytes=2048, parameter_bytes=512,
                table_slots=TABLE_SLOTS, queue_depth=4, fetch_instructions=4, dma_depth=2)
CORES = {
    "3x5": small(rows=3, cols=5, port_bytes=4, weight_rows_per_cycle=2),
    "4x4": small(rows=4, cols=4, port_bytes=8),
}
MEMORY_BYTES = 1 << 15
TABLE_SLOT = 1


@dataclass(frozen=True)
class Gemm:
    """One linear layer: ``activations @ weights``, requantized column by column."""

    activations: Tensor
    """(m, k), bytes; signed or not."""
    weights: Tensor
    """(k, n)."""
    bias: Tensor
    mantissa: Tensor
    shift: Tensor
    zero_point: int
    table: Tensor | None
    """256 signed bytes, or none."""

    @property
    def expected(self) -> Tensor:
        """(m, n), int8."""
        sums = self.activations.long() @ self.weights.long()
        out = requantize(sums, self.bias, self.mantissa, self.shift, self.zero_point)
        return (out if self.table is None else self.table[out % 256]).to(torch.int8)


def random_gemm(seed: int, *, m: int, k: int, n: int) -> Gemm:
    """A layer with results of every size; ``seed`` also decides on signed activations and the table."""
    rng = torch.Generator().manual_seed(seed)

    def integers(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=rng)

    signed, with_table = seed % 2 == 0, seed % 3 == 0
    shift = integers(10, 30, n)
    return Gemm(
        activations=(integers(-128, 128, m, k).to(torch.int8) if signed
                     else integers(0, 256, m, k).to(torch.uint8)),
        weights=integers(-128, 128, k, n), bias=integers(-1 << 16, 1 << 16, n),
        # The sums are about 2**14 in size, the results at most 2**8.
        mantissa=torch.minimum(integers(1, 4, n) << (shift - 8), torch.tensor(65535)), shift=shift,
        zero_point=int(integers(-20, 20, 1)), table=integers(-128, 128, 256) if with_table else None)


class Layout:
    """Where the parts of a layer stand in the memories of a core."""

    def __init__(self, core: CoreConfig, gemm: Gemm) -> None:
        sizes = core.sizes
        self.core, self.gemm = core, gemm
        (self.m, self.k), self.n = gemm.activations.shape, gemm.weights.shape[1]
        self.k_tiles, self.n_tiles = -(-self.k // core.rows), -(-self.n // core.cols)
        self.row_stride = _up(self.k_tiles * core.rows, sizes.data_word_bytes)
        self.out_stride = _up(self.n_tiles * core.cols, sizes.data_word_bytes)
        self.weight_rows = self.k_tiles * sizes.weight_groups
        self.weight_stride = _up(self.n_tiles * sizes.weight_group_bytes, sizes.weight_word_bytes)
        self.parameter_bytes = sizes.requant_groups * sizes.parameter_word_bytes
        lengths = (self.m * self.row_stride, self.weight_rows * self.weight_stride,
                   self.n_tiles * self.parameter_bytes, 256, self.m * self.out_stride)
        self.places, end = [], 0
        for length in lengths:
            self.places.append(end)
            end = _up(end + length, 512)
        self.program_address = aligned_program_address(core, end)

    def images(self) -> list[Segment]:
        """Activations, weights, parameters and table, as they stand in DRAM."""
        data = (self._activations(), self._weights(), self._parameters(), self._table())
        return [Segment(place, content) for place, content in zip(self.places, data, strict=False) if content]

    def _activations(self) -> bytes:
        rows = torch.full((self.m, self.row_stride), 0x55)
        rows[:, :self.k] = self.gemm.activations
        return _bytes(rows)

    def _weights(self) -> bytes:
        """Groups of rows of a tile side by side; rows past the end of a tile, and of K, are 0."""
        core, groups = self.core, self.core.sizes.weight_groups
        tiles = torch.zeros(self.k_tiles * core.rows, self.n_tiles * core.cols, dtype=torch.int64)
        tiles[:self.k, :self.n] = self.gemm.weights
        lanes = torch.zeros(self.k_tiles, groups * core.weight_rows_per_cycle, self.n_tiles, core.cols,
                            dtype=torch.int64)
        lanes[:, :core.rows] = tiles.reshape(self.k_tiles, core.rows, self.n_tiles, core.cols)
        grouped = lanes.reshape(self.weight_rows, core.weight_rows_per_cycle, self.n_tiles, core.cols)
        image = torch.zeros(self.weight_rows, self.weight_stride, dtype=torch.int64)
        flat = grouped.transpose(1, 2).reshape(self.weight_rows, -1)
        image[:, :flat.shape[1]] = flat
        return _bytes(image)

    def _parameters(self) -> bytes:
        """Eight bytes a column; a group of lanes fills the beginning of a word."""
        core, sizes, gemm = self.core, self.core.sizes, self.gemm
        image = bytearray(self.n_tiles * self.parameter_bytes)
        for column in range(self.n):
            tile, inside = divmod(column, core.cols)
            group, lane = divmod(inside, core.requant_lanes)
            at = tile * self.parameter_bytes + group * sizes.parameter_word_bytes + 8 * lane
            image[at:at + 4] = int(gemm.bias[column]).to_bytes(4, "little", signed=True)
            image[at + 4:at + 6] = int(gemm.mantissa[column]).to_bytes(2, "little")
            image[at + 6] = int(gemm.shift[column])
        return bytes(image)

    def _table(self) -> bytes:
        return b"" if self.gemm.table is None else _bytes(self.gemm.table)


def gemm_program(core: CoreConfig, gemm: Gemm, *, block: int) -> Program:
    """The layer in blocks of ``block`` rows and pairs of N tiles, one accumulator bank each."""
    layout, out = Layout(core, gemm), []
    out += _constants(layout)
    for first in range(0, layout.m, block):
        rows = min(block, layout.m - first)
        out += _block(layout, first, rows)
    region = Region(name="y", address=layout.places[4], shape=(layout.m, layout.n), stride=layout.out_stride)
    program = Program(instructions=tuple(out), program_address=layout.program_address,
                      image=tuple(layout.images()), outputs=(region,), memory_bytes=MEMORY_BYTES)
    check(core, program)
    return program


def _constants(layout: Layout) -> list[Instruction]:
    """Weights raise load.0, parameters and table load.2; data bank 0 holds activations, bank 1 results."""
    table = [Load(memory=Memory.TABLE, dram_address=layout.places[3], local_address=256 * TABLE_SLOT,
                  row_bytes=256)] if layout.gemm.table is not None else []
    return [
        Load(memory=Memory.WEIGHT, dram_address=layout.places[1], local_address=0, post=0b0001,
             dram_stride=layout.weight_stride, local_stride=layout.weight_stride, rows=layout.weight_rows,
             row_bytes=layout.weight_stride),
        *table,
        Load(memory=Memory.PARAMETER, dram_address=layout.places[2], local_address=0, post=0b0100,
             row_bytes=layout.n_tiles * layout.parameter_bytes),
    ]


def _block(layout: Layout, first: int, rows: int) -> list[Instruction]:
    """Activations raise load.1; an N tile matmul.0; a pair's last vector vector.1, a block's vector.0."""
    core, at = layout.core, first * layout.row_stride
    bank = core.data_bytes // core.data_banks
    out: list[Instruction] = [Load(
        memory=Memory.DATA, dram_address=layout.places[0] + at, local_address=at,
        row_bytes=rows * layout.row_stride, post=0b0010)]
    with_table = layout.gemm.table is not None
    for tile in range(0, layout.n_tiles, 2):
        pair = min(2, layout.n_tiles - tile)
        wait = (semaphore("load", 0) if not first and not tile else 0) | (
            semaphore("load", 1) if not tile else 0) | (semaphore("vector", 1) if first or tile else 0)
        out += _matmuls(layout, tile, pair, wait, rows, at)
        for j in range(tile, tile + pair):
            last = j == layout.n_tiles - 1
            out.append(Vector(
                acc_address=(j - tile) * core.acc_rows, m=rows, n=min(core.cols, layout.n - j * core.cols),
                use_table=with_table, table=TABLE_SLOT if with_table else 0,
                data_address=bank + first * layout.out_stride + j * core.cols, data_stride=layout.out_stride,
                parameter_address=j * layout.parameter_bytes, zero_point=layout.gemm.zero_point,
                wait=semaphore("matmul", 0) | (semaphore("load", 2) if not first and not j else 0),
                post=last | (j == tile + pair - 1) << 1))
    out.append(Store(dram_address=layout.places[4] + first * layout.out_stride, row_bytes=layout.out_stride,
                     dram_stride=layout.out_stride, local_address=bank + first * layout.out_stride,
                     local_stride=layout.out_stride, rows=rows, wait=semaphore("vector", 0)))
    return out


def _matmuls(layout: Layout, tile: int, pair: int, wait: int, rows: int, at: int) -> list[Instruction]:
    """The K tiles in two instructions where there are several: the second one accumulates."""
    core, out, begin = layout.core, [], 0
    groups, group_bytes = core.sizes.weight_groups, core.sizes.weight_group_bytes
    half = layout.k_tiles // 2
    for k_tiles in [half, layout.k_tiles - half] if half else [1]:
        out.append(Matmul(
            accumulate=begin > 0, signed=layout.gemm.activations.dtype == torch.int8,
            data_address=at + begin * core.rows, data_stride=layout.row_stride,
            weight_address=begin * groups * layout.weight_stride + tile * group_bytes,
            weight_stride=layout.weight_stride, acc_address=0, acc_stride=core.acc_rows, m=rows,
            k_tiles=k_tiles, n_tiles=pair, wait=0 if begin else wait,
            post=int(begin + k_tiles == layout.k_tiles)))
        begin += k_tiles
    return out


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _bytes(values: Tensor) -> bytes:
    return bytes((values.long() % 256).flatten().tolist())
