"""The best tiling of a GEMM: every candidate in closed form, the best few in the cycle model."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import lcm
from typing import Protocol, TypeVar

import numpy as np

from systolith_hw.config import CoreConfig
from systolith_hw.isa import Instruction
from systolith_hw.timing import MemoryTiming, pass_cycles
from systolith_sim.compiler.bound import Array, Candidates, Estimate
from systolith_sim.compiler.fits import capacities, smallest
from systolith_sim.compiler.tiling import Shape, Tiling
from systolith_sim.cycle import simulate

PLAYED = 6
"""Tilings that the cycle model plays, before their edges are varied."""
CHEAP_INSTRUCTIONS = 4000
"""Longest program that is played during the search."""


class Planned(Protocol):
    """What the search compares."""

    @property
    def instructions(self) -> tuple[Instruction, ...]:
        """The program."""
        ...


P = TypeVar("P", bound=Planned)


def search(core: CoreConfig, shape: Shape, memory: MemoryTiming, make: Callable[[Tiling], P]) -> P:
    """The plan of the best tiling; the best few are played where their programs are short."""
    ranked = best_tilings(core, shape, memory)
    if ranked[0][1] > CHEAP_INSTRUCTIONS:
        return make(ranked[0][0])
    played: dict[Tiling, tuple[int, P]] = {}

    def play(tiling: Tiling) -> tuple[int, P]:
        if tiling not in played:
            plan = make(tiling)
            played[tiling] = score(core, plan.instructions, memory), plan
        return played[tiling]

    for tiling, instructions in ranked[:PLAYED]:
        if instructions <= CHEAP_INSTRUCTIONS:
            play(tiling)
    for _ in range(2):
        best = min(played, key=lambda tiling: played[tiling][0])
        for tiling in _edges(core, best):
            play(tiling)
    return min(played.values(), key=lambda pair: pair[0])[1]


def score(core: CoreConfig, instructions: tuple[Instruction, ...], memory: MemoryTiming) -> int:
    """Cycles, and once more those in which the array idles between its first and its last pass.

    What stands before and behind, a neighbour in a chain of layers hides; holes inside it cannot.
    """
    result = simulate(core, instructions, memory, timeline=True)
    assert result.timeline is not None
    matmuls = [entry for entry in result.timeline.instructions if entry.queue == "matmul"]
    holes = sum(after.start - before.free for before, after in zip(matmuls, matmuls[1:], strict=False))
    return result.cycles + holes


def best_tilings(core: CoreConfig, shape: Shape, memory: MemoryTiming) -> list[tuple[Tiling, int]]:
    """All tilings worth a try, best first by the closed form, and the instructions of each; never empty."""
    candidates = _candidates(core, shape)
    candidates = candidates.take(capacities(core, shape, candidates).enough)
    if not len(candidates.rows):
        return [(smallest(core, shape), 1 << 30)]
    estimate = Estimate(core, shape, memory, candidates)
    # Equal within half a percent: the shorter program.
    order = np.argsort(estimate.cycles * (1 + 0.02 * np.minimum(1, estimate.instructions * 100 / estimate.cycles)),
                       kind="stable")
    ranked = []
    for index in order[:4 * PLAYED]:
        rows = int(candidates.rows[index])
        tiling = Tiling(rows=rows, first_rows=rows, last_rows=rows, tiles=int(candidates.tiles[index]),
                        k_tiles=int(candidates.k_tiles[index]),
                        group_columns=int(candidates.group_columns[index]),
                        outer="m" if candidates.outer_m[index] else "n")
        ranked.append((tiling, int(estimate.instructions[index])))
    return ranked


def _candidates(core: CoreConfig, shape: Shape) -> Candidates:
    """The product of all sizes worth a try."""
    k_tiles, n_tiles = -(-shape.k // core.rows), -(-shape.n // core.cols)
    rows = _sizes(shape.m, core.acc_rows)
    tiles = _sizes(n_tiles, min(n_tiles, 4 * core.queue_depth))
    unit = lcm(core.cols, core.port_bytes)
    columns = {min(shape.n, up) for size in _sizes(n_tiles, n_tiles)
               for up in (-(-size * core.cols // unit) * unit, -(-size * core.cols // core.port_bytes) * core.port_bytes)}
    grids = np.meshgrid(rows, tiles, _sizes(k_tiles, k_tiles), sorted(columns), [False, True], indexing="ij")
    flat = [grid.ravel() for grid in grids]
    # A block of columns is never wider than its group, nor its sums more than a bank.
    keep = (flat[1] <= -(-flat[3] // core.cols)) & (flat[0] * flat[1] <= core.acc_rows)
    return Candidates(*(array[keep].astype(np.int64) for array in flat[:4]), flat[4][keep])


def _sizes(total: int, most: int) -> Array:
    """Sizes of parts from 1 to most: the balanced ones next to a geometric series."""
    sizes, size = set(), 1.0
    while size < most:
        sizes.add(int(size))
        size = max(size + 1, size * 1.3)
    sizes.add(most)
    return np.array(sorted({-(-total // -(-total // size)) for size in sizes if size <= total or size == most}))


def _edges(core: CoreConfig, tiling: Tiling) -> Iterator[Tiling]:
    """The same with the first and the last block in smaller pieces."""
    least = pass_cycles(core, m=1)
    sizes = sorted({size for size in (least, 2 * least, 4 * least, tiling.rows // 2, tiling.rows)
                    if least <= size <= tiling.rows} | {tiling.rows})
    yield from (replace(tiling, first_rows=size) for size in sizes)
    yield from (replace(tiling, last_rows=size) for size in sizes)
