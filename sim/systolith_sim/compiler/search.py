"""The best tiling of a GEMM: every candidate in closed form, the best few in the cycle model."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from math import lcm
from typing import Any, Protocol, TypeVar

import numpy as np

from systolith_hw.config import INSTRUCTION_BYTES, CoreConfig
from systolith_hw.isa import Instruction
from systolith_hw.timing import MemoryTiming, pass_cycles
from systolith_sim.compiler.estimate import Array, Candidates, Estimate
from systolith_sim.compiler.fits import Ends, capacities, smallest
from systolith_sim.compiler.tiling import Shape, Tiling
from systolith_sim.cycle import simulate

PLAYED = 24
"""Most tilings of the closed form that the cycle model plays."""
PLAYED_INSTRUCTIONS = 8000
"""Instructions played of those, and of their variations again; the first two are always played."""
CHEAP_INSTRUCTIONS = 4000
"""Longest program that is played."""


class Planned(Protocol):
    """What the search compares."""

    @property
    def instructions(self) -> tuple[Instruction, ...]:
        """The program."""
        ...


P = TypeVar("P", bound=Planned)


def search(core: CoreConfig, shape: Shape, memory: MemoryTiming, make: Callable[[Tiling], P], *,
           ends: Ends) -> tuple[Tiling, P]:
    """The best tiling and its plan; the cycle model plays the best few where their programs are short.

    Parameters
    ----------
    make : callable
        Makes the plan of a tiling.
    ends : Ends
        Where the activations stand.
    """
    ranked = best_tilings(core, shape, memory, ends)
    if ranked[0][1] > CHEAP_INSTRUCTIONS:
        tiling = _rough_edges(core, ranked[0][0])
        return tiling, make(tiling)
    played: dict[Tiling, tuple[float, P]] = {}
    _play(core, memory, make, played, (tiling for tiling, _ in ranked))
    for vary in (_groups, _edges, _edges):
        best = min(played, key=lambda tiling: played[tiling][0])
        _play(core, memory, make, played, (other for other in vary(core, shape, best)
                                           if capacities(core, shape, other, ends).enough))
    best = min(played, key=lambda tiling: played[tiling][0])
    return best, played[best][1]


def first_guess(core: CoreConfig, shape: Shape, memory: MemoryTiming, ends: Ends) -> Tiling:
    """The best tiling by the closed form alone."""
    return _rough_edges(core, best_tilings(core, shape, memory, ends)[0][0])


def _rough_edges(core: CoreConfig, tiling: Tiling) -> Tiling:
    edge = min(tiling.rows, 4 * pass_cycles(core, m=1))
    return replace(tiling, first_rows=edge, last_rows=edge)


def _play(core: CoreConfig, memory: MemoryTiming, make: Callable[[Tiling], P],
          played: dict[Tiling, tuple[float, P]], tilings: Iterator[Tiling]) -> None:
    budget = PLAYED_INSTRUCTIONS
    for number, tiling in enumerate(tilings):
        if tiling not in played:
            if budget < 0 and number > 1:
                return
            plan = make(tiling)
            budget -= len(plan.instructions)
            played[tiling] = score(core, plan.instructions, memory), plan


def score(core: CoreConfig, instructions: tuple[Instruction, ...], memory: MemoryTiming) -> float:
    """Cycles; once more those in which the array idles between passes; and something for each instruction.

    What stands before the first pass and behind the last, a neighbour in a chain of layers hides; holes
    between them it cannot.
    """
    result = simulate(core, instructions, memory, timeline=True)
    assert result.timeline is not None
    matmuls = [entry for entry in result.timeline.instructions if entry.queue == "matmul"]
    holes = sum(after.start - before.free for before, after in pairwise(matmuls))
    return result.cycles + holes + len(instructions) * float(_price(core, result.cycles))


def _price(core: CoreConfig, cycles: Any) -> Any:
    """What an instruction more may gain, in cycles.

    Half of its beats, as fetches mostly find the port idle; more in long programs, which take long to play.
    """
    return np.maximum(INSTRUCTION_BYTES / core.port_bytes / 2, np.minimum(cycles / 200_000, 16))


def best_tilings(core: CoreConfig, shape: Shape, memory: MemoryTiming,
                 ends: Ends) -> list[tuple[Tiling, int]]:
    """Tilings worth a try and the instructions of each, best first by the closed form; never empty.

    Among those that differ in groups and order only, the best one.
    """
    candidates = _candidates(core, shape)
    candidates = candidates.take(capacities(core, shape, candidates, ends).enough)
    if not len(candidates.rows):
        return [(smallest(core, shape), 1)]
    estimate = Estimate(core, shape, memory, candidates, ends)
    price = _price(core, estimate.cycles)
    ranked: dict[tuple[int, int, int], tuple[Tiling, int]] = {}
    for index in np.argsort(estimate.cycles + estimate.instructions * price, kind="stable"):
        sizes = candidates.rows, candidates.tiles, candidates.k_tiles
        rows, tiles, k_tiles = (int(size[index]) for size in sizes)
        tiling = Tiling(rows=rows, first_rows=rows, last_rows=rows, tiles=tiles, k_tiles=k_tiles,
                        group_columns=int(candidates.group_columns[index]),
                        outer="m" if candidates.outer_m[index] else "n")
        ranked.setdefault((rows, tiles, k_tiles), (tiling, int(estimate.instructions[index])))
        if len(ranked) == PLAYED:
            break
    return list(ranked.values())


def _candidates(core: CoreConfig, shape: Shape) -> Candidates:
    """The product of all sizes worth a try."""
    k_tiles, n_tiles = -(-shape.k // core.rows), -(-shape.n // core.cols)
    rows = _sizes(shape.m, min(shape.m, core.acc_rows))
    tiles = _sizes(n_tiles, min(n_tiles, 4 * core.queue_depth))
    pairs = [_columns(core, shape, size) for size in _sizes(n_tiles, n_tiles).tolist()]
    columns = sorted({width for pair in pairs for width in pair})
    grids = np.meshgrid(rows, tiles, _sizes(k_tiles, k_tiles), columns, [False, True], indexing="ij")
    flat: list[Any] = [grid.ravel() for grid in grids]
    # A block of columns is never wider than its group, nor its sums more than a bank.
    keep = (flat[1] <= -(-flat[3] // core.cols)) & (flat[0] * flat[1] <= core.acc_rows)
    return Candidates(flat[0], flat[1], flat[2], flat[3], flat[4]).take(keep)


def _columns(core: CoreConfig, shape: Shape, tiles: int) -> tuple[int, int]:
    """Widths of a group of ``tiles`` N tiles or more that end on the port: of whole tiles, and the next."""
    whole, port = lcm(core.cols, core.port_bytes), core.port_bytes
    width = tiles * core.cols
    return min(shape.n, -(-width // whole) * whole), min(shape.n, -(-width // port) * port)


def _sizes(total: int, most: int) -> Array:
    """Sizes of parts from 1 to most: the balanced ones next to a geometric series."""
    sizes, size = {most}, 1.0
    while size < most:
        sizes.add(int(size))
        size = max(size + 1, size * 1.3)
    return np.array(sorted({-(-total // -(-total // size)) for size in sizes}))


def _groups(core: CoreConfig, shape: Shape, tiling: Tiling) -> Iterator[Tiling]:
    """The same with other groups of columns and the other order."""
    widths = {_columns(core, shape, tiling.tiles * blocks)[0] for blocks in (1, 2, 3, 4, 8, 16)} | {shape.n}
    for width in sorted(widths):
        for outer in ("m", "n"):
            yield replace(tiling, group_columns=width, outer=outer)


def _edges(core: CoreConfig, shape: Shape, tiling: Tiling) -> Iterator[Tiling]:
    """The same with the first and the last block in smaller pieces."""
    del shape
    least = pass_cycles(core, m=1)
    sizes = sorted({size for size in (least, 2 * least, 4 * least, -(-tiling.rows // 2))
                    if least <= size <= tiling.rows})
    for size in sizes:
        yield replace(tiling, first_rows=size)
        yield replace(tiling, last_rows=size)
