"""Where things stand: slots of on-chip memories, matrices in DRAM and on chip (docs/contracts/layout.md)."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from math import gcd
from typing import Any, NamedTuple, Self

import numpy as np

from systolith_hw.config import PARAMETER_BYTES, CoreConfig
from systolith_sim.compiler.assembler import Assembler, Region
from systolith_sim.compiler.tiling import Rows

MOST_SLOTS = 120
"""Slots of a ring. Each of two rings' may stand for a post not yet awaited, and semaphores count to 255."""


def up(value: Any, multiple: int) -> Any:
    """``value`` rounded up to a multiple."""
    return -(-value // multiple) * multiple


def row_stride(core: CoreConfig, row_bytes: Any) -> Any:
    """Stride of a matrix in DRAM that can be copied whole: rows of full data words (rule Y9)."""
    return up(row_bytes, core.sizes.data_word_bytes)


class SlotRows(NamedTuple):
    """Rows of a slot in the data scratchpad; integers or arrays."""

    stride: Any
    size: Any
    """Bytes of the slot."""


def input_slot(core: CoreConfig, *, rows: Any, k: int, k_tiles: Any, dram_stride: int) -> SlotRows:
    """A slot for ``rows`` rows of at most ``k_tiles`` K tiles of a matrix (rule Y11); integers or arrays."""
    word, port = core.sizes.data_word_bytes, core.port_bytes
    read = k_tiles * core.rows
    # A chunk begins at a multiple of the array's rows, its copy at the multiple of the port before.
    chunk = np.maximum(port - gcd(core.rows, port) + read, port)
    stride = np.where(read >= k, up(read, word), up(chunk, word))
    size = rows * stride
    if (whole := row_stride(core, k)) == dram_stride:
        # One chunk is copied as one row; the last tile may read on into the bytes that follow.
        size = np.where(read >= k, rows * whole + up(np.maximum(0, read - whole), word), size)
        stride = np.where(read >= k, whole, stride)
    return SlotRows(stride, size)


def output_slot(core: CoreConfig, *, rows: Any, columns: Any) -> SlotRows:
    """A slot for ``rows`` rows of ``columns`` results."""
    stride = row_stride(core, columns)
    return SlotRows(stride, rows * stride)


def weight_stride(core: CoreConfig, tiles: Any) -> Any:
    """Bytes between the groups of a block of ``tiles`` N tiles (rule Y4)."""
    return up(tiles * core.sizes.weight_group_bytes, core.sizes.weight_word_bytes)


def weight_slot(core: CoreConfig, *, tiles: Any, k_tiles: Any) -> Any:
    """Bytes of a slot for ``k_tiles`` x ``tiles`` weight tiles."""
    return k_tiles * core.sizes.weight_groups * weight_stride(core, tiles)


def parameter_tile(core: CoreConfig) -> int:
    """Bytes of the parameters of one N tile (rule Y6)."""
    return core.sizes.requant_groups * max(core.sizes.parameter_word_bytes, PARAMETER_BYTES)


def data_slots(core: CoreConfig, *, start: int, end: int, size: int) -> tuple[int, ...]:
    """Addresses of the slots of ``size`` bytes in [start, end), none across two banks."""
    bank = core.data_bytes // core.data_banks
    made = []
    for first in range(start, end, bank):
        made += range(first, min(first + bank, end) - size + 1, size)
    return tuple(made[:MOST_SLOTS])


def data_halves(core: CoreConfig) -> tuple[tuple[int, int], tuple[int, int]]:
    """The halves of the data scratchpad, [start, end): of different banks where there are two (rule Y13)."""
    half = core.data_bytes // 2
    return (0, half), (half, core.data_bytes)


@dataclass(eq=False)
class Slot:
    """One slot of a ring, and what its content is needed for."""

    address: int
    region: Region
    key: Hashable = None
    busy_until: int = -1
    """The last step so far that needs the content."""
    free_after: int = -1
    """The last step that needed the content before."""
    loaded: list[Rows] = field(default_factory=list)
    """Parts of the content that are loaded."""

    def parts(self, need: Rows) -> list[Rows]:
        """The loaded parts that make up ``need``; empty where they do not."""
        parts = [part for part in self.loaded
                 if part.start < need.start + need.size and need.start < part.start + part.size]
        first = min((part.start for part in parts), default=need.start + 1)
        end = max((part.start + part.size for part in parts), default=0)
        return parts if first <= need.start and need.start + need.size <= end else []


class Ring:
    """Slots of one memory, filled in turn; content stays until its slot's next turn."""

    def __init__(self, assembler: Assembler, memory: str, addresses: Sequence[int], size: int) -> None:
        if not addresses:
            raise ValueError(f"{memory} memory must hold a slot of {size} bytes")
        self._slots = [Slot(at, assembler.region(memory, at, at + size)) for at in addresses]
        self._held: dict[Hashable, Slot] = {}
        self._next = 0

    def slot(self, key: Hashable) -> Slot:
        """The slot that holds ``key``, or else the next one, now to be filled with it."""
        if key in self._held:
            return self._held[key]
        slot = self._slots[self._next]
        self._next = (self._next + 1) % len(self._slots)
        self._held.pop(slot.key, None)
        self._held[key] = slot
        slot.region.renew()
        slot.loaded.clear()
        slot.key, slot.free_after = key, slot.busy_until
        return slot


MOST_BANDS = 64
"""Bands of a matrix. A whole layer may post for each before the next one waits: semaphores count to 255."""


@dataclass(frozen=True, eq=False)
class Matrix:
    """Rows of bytes, ``stride`` apart; regions tell which instructions touch which bands of rows."""

    address: int
    stride: int
    band: int = 1
    """Rows of a band."""
    regions: tuple[Region, ...] = ()
    """One for each band; none where nothing in the program writes the matrix."""

    @classmethod
    def written(cls, assembler: Assembler, memory: str, address: int, stride: int, rows: int) -> Self:
        """A matrix that the program writes."""
        band = max(32, -(-rows // MOST_BANDS))
        return cls(address, stride, band, assembler.bands(memory, address, stride, rows, band))

    def bands(self, start: int, count: int) -> tuple[Region, ...]:
        """Regions of rows [start, start + count)."""
        return self.regions[start // self.band:(start + count - 1) // self.band + 1]


class DramMatrix(Matrix):
    """In DRAM; a stride is a multiple of the port (rule Y1)."""


class ChipMatrix(Matrix):
    """In the data scratchpad, whole, each row within one bank."""
