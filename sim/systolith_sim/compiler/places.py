"""Where things stand: slots of the on-chip memories, matrices in DRAM and on chip (docs/contracts/layout.md)."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import gcd

from systolith_hw.config import PARAMETER_BYTES, CoreConfig
from systolith_sim.compiler.assembler import Assembler, Region

MOST_SLOTS = 128
"""Slots of a ring: each may hold a post that is not yet awaited, and semaphores count to 255."""


def up(value: int, multiple: int) -> int:
    """``value`` rounded up to a multiple."""
    return -(-value // multiple) * multiple


def row_stride(core: CoreConfig, row_bytes: int) -> int:
    """Stride of a matrix in DRAM that can be copied whole: rows of full data words (rule Y2)."""
    return up(row_bytes, core.sizes.data_word_bytes)


@dataclass(frozen=True)
class SlotRows:
    """Rows of a slot in the data scratchpad."""

    stride: int
    size: int
    """Bytes of the slot."""


def input_slot(core: CoreConfig, *, rows: int, k: int, k_tiles: int, dram_stride: int) -> SlotRows:
    """A slot for ``rows`` rows of at most ``k_tiles`` K tiles of a matrix (rule Y4)."""
    word, port = core.sizes.data_word_bytes, core.port_bytes
    if k <= k_tiles * core.rows:
        stride = row_stride(core, k)
        if stride == dram_stride:  # copied as one row; the last tile may read on into the following bytes
            return SlotRows(stride, rows * stride + up(max(0, k_tiles * core.rows - stride), word))
        return SlotRows(up(k_tiles * core.rows, word), rows * up(k_tiles * core.rows, word))
    # A chunk begins at a multiple of the array's rows, its copy at the multiple of the port before.
    before = port - gcd(core.rows, port)
    stride = up(max(before + k_tiles * core.rows, port), word)
    return SlotRows(stride, rows * stride)


def output_slot(core: CoreConfig, *, rows: int, columns: int) -> SlotRows:
    """A slot for ``rows`` rows of ``columns`` results."""
    stride = row_stride(core, columns)
    return SlotRows(stride, rows * stride)


def weight_stride(core: CoreConfig, tiles: int) -> int:
    """Bytes between the groups of a block of ``tiles`` N tiles (rule Y6)."""
    return up(tiles * core.sizes.weight_group_bytes, core.sizes.weight_word_bytes)


def weight_slot(core: CoreConfig, *, tiles: int, k_tiles: int) -> int:
    """Bytes of a slot for ``k_tiles`` x ``tiles`` weight tiles."""
    return k_tiles * core.sizes.weight_groups * weight_stride(core, tiles)


def parameter_tile(core: CoreConfig) -> int:
    """Bytes of the parameters of one N tile (rule Y8)."""
    return core.sizes.requant_groups * max(core.sizes.parameter_word_bytes, PARAMETER_BYTES)


def data_slots(core: CoreConfig, *, start: int, end: int, size: int) -> tuple[int, ...]:
    """Addresses of the slots of ``size`` bytes in [start, end), none across two banks."""
    bank = core.data_bytes // core.data_banks
    made = []
    for first in range(start, end, bank):
        made += range(first, min(first + bank, end) - size + 1, size)
    return tuple(made[:MOST_SLOTS])


def data_halves(core: CoreConfig) -> tuple[tuple[int, int], tuple[int, int]]:
    """The two halves of the data scratchpad, [start, end): of different banks where there are two (rule Y3)."""
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


class Ring:
    """Slots of one memory, filled in turn; content stays until its slot's next turn."""

    def __init__(self, assembler: Assembler, memory: str, addresses: Sequence[int], size: int) -> None:
        if not addresses:
            raise ValueError(f"{memory} memory must hold a slot of {size} bytes")
        self._slots = [Slot(at, assembler.region(memory, at, at + size)) for at in addresses]
        self._held: dict[Hashable, Slot] = {}
        self._next = 0

    def find(self, key: Hashable) -> Slot | None:
        """The slot that holds ``key``."""
        return self._held.get(key)

    def take(self, key: Hashable) -> Slot:
        """The next slot, now to be filled with ``key``; its ``busy_until`` still tells of the old content."""
        slot = self._slots[self._next]
        self._next = (self._next + 1) % len(self._slots)
        self._held.pop(slot.key, None)
        self._held[key] = slot
        slot.key = key
        return slot


BAND_ROWS = 32
"""Rows of a matrix that one region stands for."""


@dataclass(frozen=True, eq=False)
class Matrix:
    """Rows of bytes, ``stride`` apart; regions tell which instructions of a program touch which bands of rows."""

    address: int
    stride: int
    regions: tuple[Region, ...] = ()
    """One for each band of ``BAND_ROWS`` rows; none where nothing in the program writes the matrix."""

    def bands(self, start: int, count: int) -> tuple[Region, ...]:
        """Regions of rows [start, start + count)."""
        return self.regions[start // BAND_ROWS:(start + count - 1) // BAND_ROWS + 1]


class DramMatrix(Matrix):
    """In DRAM; a stride is a multiple of the port (rule Y1)."""


class ChipMatrix(Matrix):
    """In the data scratchpad, whole, each row within one bank."""
