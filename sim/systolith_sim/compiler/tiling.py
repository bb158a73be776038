"""How a GEMM is cut: blocks of rows, groups and blocks of columns, chunks of K, and the order of steps."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np

from systolith_hw.config import CoreConfig

MAX_K = 65793
"""Longest sum that 32 bits hold (docs/contracts/numerics.md, rule N3)."""


def is_whole(value: object) -> bool:
    """Whether a value is an integer of Python or NumPy."""
    return isinstance(value, int | np.integer)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of ``y (m, n) = a (m, k) w (k, n)``."""

    m: int
    k: int
    n: int

    def __post_init__(self) -> None:
        for name, most in (("m", None), ("k", MAX_K), ("n", None)):
            value = getattr(self, name)
            if not is_whole(value) or value < 1 or (most is not None and value > most):
                allowed = ">= 1" if most is None else f"in 1..{most}"
                raise ValueError(f"{name} must be {allowed}, not {value!r}")

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.m * self.k * self.n


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """Sizes of the cuts; ``Cut`` applies them to a shape."""

    rows: int
    """Most rows of a block."""
    first_rows: int
    """Most rows of the pieces of the very first block, whose loads nothing hides."""
    last_rows: int
    """Most rows of the pieces of the very last block, whose read-out and store nothing hides."""
    tiles: int
    """Most N tiles of a block."""
    k_tiles: int
    """Most K tiles of a step."""
    group_columns: int
    """Columns that a store writes together: a multiple of the port, or all."""
    outer: Literal["m", "n"]
    """What the outermost loop walks: rows (A stays) or groups of columns (W stays)."""

    def __post_init__(self) -> None:
        for name in ("rows", "first_rows", "last_rows", "tiles", "k_tiles", "group_columns"):
            value = getattr(self, name)
            if not is_whole(value) or value < 1:
                raise ValueError(f"{name} must be >= 1, not {value!r}")
        if self.outer not in ("m", "n"):
            raise ValueError(f"outer must be 'm' or 'n', not {self.outer!r}")


class Rows(NamedTuple):
    """Rows (or other things in a line) [start, start + size)."""

    start: int
    size: int


class Chunk(NamedTuple):
    """K tiles [tile, tile + tiles)."""

    number: int
    tile: int
    tiles: int


class Columns(NamedTuple):
    """A block of N tiles; columns [start, start + width) of Y."""

    number: int
    start: int
    width: int
    tile: int
    """Number of its first tile, over all blocks."""
    tiles: int


class Group(NamedTuple):
    """Columns that a store writes together."""

    start: int
    width: int
    blocks: tuple[Columns, ...]


class Step(NamedTuple):
    """One matmul: ``rows`` by ``chunk`` by ``columns``."""

    rows: Rows
    block: Rows
    """Rows that share slots; these or more."""
    group: Group
    columns: Columns
    chunk: Chunk
    first: bool
    """The first step of its block: starts the sums anew."""
    last: bool
    """The last step of its block: the sums are ready."""
    stored: "Stored"
    """What is stored together with the results of this step."""
    complete: bool
    """With the block of this step, all of it is there."""


class Stored(NamedTuple):
    """A rectangle of Y that is stored at once."""

    rows: Rows
    start: int
    """First column."""
    width: int


def balanced(total: int, most: int) -> tuple[tuple[int, int], ...]:
    """Fewest parts of at most ``most``, as (start, size), sizes differing by at most one.

    >>> balanced(33, 16)
    ((0, 11), (11, 11), (22, 11))
    """
    count = -(-total // most)
    size, longer = divmod(total, count)
    return tuple((part * size + min(part, longer), size + (part < longer)) for part in range(count))


@dataclass(frozen=True)
class Cut:
    """A shape cut by a tiling for a core."""

    core: CoreConfig
    shape: Shape
    tiling: Tiling

    @cached_property
    def chunks(self) -> tuple[Chunk, ...]:
        """The chunks of K."""
        tiles = -(-self.shape.k // self.core.rows)
        return tuple(Chunk(n, *part) for n, part in enumerate(balanced(tiles, self.tiling.k_tiles)))

    @cached_property
    def rows(self) -> tuple[Rows, ...]:
        """The blocks of rows, first and last not yet in pieces."""
        return tuple(Rows(*part) for part in balanced(self.shape.m, self.tiling.rows))

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The groups of columns."""
        made, tile, index = [], 0, 0
        # Slots are sized for a full group: a narrower last one, cut alone, might get a wider block.
        full = -(-min(self.tiling.group_columns, self.shape.n) // self.core.cols)
        widest = max(tiles for _, tiles in balanced(full, self.tiling.tiles))
        for start in range(0, self.shape.n, self.tiling.group_columns):
            width = min(self.tiling.group_columns, self.shape.n - start)
            blocks = []
            for first, tiles in balanced(-(-width // self.core.cols), widest):
                column = first * self.core.cols
                blocks.append(Columns(index, start + column, min(tiles * self.core.cols, width - column),
                                      tile, tiles))
                tile, index = tile + tiles, index + 1
            made.append(Group(start, width, tuple(blocks)))
        return tuple(made)

    @cached_property
    def columns(self) -> tuple[Columns, ...]:
        """The blocks of columns of all groups."""
        return tuple(block for group in self.groups for block in group.blocks)

    def steps(self) -> Iterator[Step]:
        """All matmuls in order."""
        if self.tiling.outer == "m":
            pairs = [(rows, group) for rows in self.rows for group in self.groups]
        else:
            pairs = [(rows, group) for group in self.groups for rows in self.rows]
        for number, (rows, group) in enumerate(pairs):
            yield from self._pair(rows, group, opens=number == 0, ends=number == len(pairs) - 1)

    def _pair(self, rows: Rows, group: Group, *, opens: bool, ends: bool) -> Iterator[Step]:
        """The steps of a block of rows by a group."""
        first, last = group.blocks[0], group.blocks[-1]
        # Nothing follows the very last stores: they begin with each block, where the port allows it.
        fine = ends and all((part.start - group.start) % self.core.port_bytes == 0 for part in group.blocks)
        for columns in group.blocks:
            most = self.tiling.first_rows if opens and columns is first else rows.size
            if ends and columns is last:
                most = min(most, self.tiling.last_rows)
            pieces = _pieces(rows, most)
            for piece in pieces:
                target = Stored(rows, group.start, group.width)
                complete = columns is last and piece is pieces[-1]
                if fine:
                    target, complete = Stored(piece, columns.start, columns.width), True
                for chunk in self.chunks:
                    yield Step(piece, rows, group, columns, chunk, chunk.number == 0,
                               chunk.number == len(self.chunks) - 1, target, complete)


def _pieces(rows: Rows, most: int) -> tuple[Rows, ...]:
    return tuple(Rows(rows.start + start, count) for start, count in balanced(rows.size, most))
