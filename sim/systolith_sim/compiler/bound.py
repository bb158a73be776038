"""Closed forms of what a tiling costs: a lower bound of any program, and an estimate that ranks tilings."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith_hw.config import INSTRUCTION_BYTES, CoreConfig
from systolith_hw.timing import (
    DISPATCH_DELAY,
    FIRST_FETCH,
    GRANT_DELAY,
    LOAD_REQUEST_DELAY,
    MemoryTiming,
    array_latency,
    pass_cycles,
    read_latency,
    store_buffer_delay,
    stream_delay,
    vector_latency,
)
from systolith_sim.compiler.fits import Ends, capacities
from systolith_sim.compiler.places import parameter_tile, row_stride, up, weight_stride
from systolith_sim.compiler.tiling import Shape

Array = NDArray[np.int64]


def startup_cycles(core: CoreConfig, memory: MemoryTiming) -> int:
    """Cycles until the first beat of data can be at the port: fetch, dispatch, the memory's latency twice."""
    beats = -(-INSTRUCTION_BYTES // core.port_bytes)
    fetched = FIRST_FETCH + GRANT_DELAY + memory.latency + beats - 1
    return fetched + DISPATCH_DELAY + 1 + LOAD_REQUEST_DELAY + GRANT_DELAY + memory.latency


def bound_cycles(core: CoreConfig, m: int, k: int, n: int, memory: MemoryTiming | None = None) -> int:
    """A lower bound of the cycles of one GEMM from DRAM to DRAM on ``core``.

    The larger of the passes' total length and the bytes over the port's width, plus the start-up: the cycles
    until the first beat of data. Every operand crosses the port at least once, the weights without padding.

    >>> bound_cycles(CoreConfig(rows=8, cols=8), 128, 128, 128)
    32911
    """
    Shape(m=m, k=k, n=n)
    passes = -(-k // core.rows) * -(-n // core.cols) * pass_cycles(core, m=m)
    return max(passes, -(-(m * k + k * n + m * n) // core.port_bytes)) + startup_cycles(
        core, memory or MemoryTiming())


@dataclass(frozen=True)
class Candidates:
    """Many tilings at once: one array for each of Tiling's sizes, already rounded as ``Cut`` would."""

    rows: Array
    tiles: Array
    k_tiles: Array
    group_columns: Array
    outer_m: NDArray[np.bool_]

    def take(self, where: Any) -> "Candidates":
        """Some of them."""
        return Candidates(self.rows[where], self.tiles[where], self.k_tiles[where], self.group_columns[where],
                          self.outer_m[where])


@dataclass(frozen=True)
class _Counts:
    """How often things happen in a tiling."""

    rows: Array
    """Blocks of rows."""
    groups: Array
    blocks: Array
    """Blocks of columns in a group."""
    chunks: Array
    tiles: Array
    """N tiles of all columns."""
    a_loads: Array
    w_loads: Array

    @property
    def steps(self) -> Array:
        """Matmuls."""
        return self.rows * self.groups * self.blocks * self.chunks


class Estimate:
    """Cycles and instructions of many tilings, in closed form.

    The busiest of array, vector unit, port and fetch, and of every ring of slots, whose turn lasts from the
    load to the last use; plus what the first loads and the last read-out and store add.
    """

    def __init__(self, core: CoreConfig, shape: Shape, memory: MemoryTiming, tilings: Candidates,
                 ends: Ends) -> None:
        self.core, self.shape, self.memory, self.t, self.ends = core, shape, memory, tilings, ends
        self.slots = capacities(core, shape, tilings, ends)
        self.counts = self._counts()
        self._times()

    def _counts(self) -> _Counts:
        shape, core, t = self.shape, self.core, self.t
        rows = -(-shape.m // t.rows)
        k_tiles = -(-shape.k // core.rows)
        chunks = -(-k_tiles // t.k_tiles)
        groups = -(-shape.n // t.group_columns)
        group_tiles = -(-np.minimum(t.group_columns, shape.n) // core.cols)
        blocks = -(-group_tiles // t.tiles)
        last_tiles = -(-(shape.n - (groups - 1) * t.group_columns) // core.cols)
        # What stays: A while its block of rows is walked, W over all, or while its group is.
        a_stays = (chunks <= self.slots.a) & (t.outer_m | (rows == 1))
        a_stays |= rows * chunks <= self.slots.a
        a_once = np.where(t.outer_m, 1, groups)
        a_loads = rows * chunks * np.where(a_stays, 1, np.where(
            chunks <= self.slots.a, a_once, groups * blocks))
        w_all = groups * blocks * chunks
        w_stays = (w_all <= self.slots.weights) | (rows == 1) | (
            ~t.outer_m & (blocks * chunks <= self.slots.weights))
        return _Counts(rows, groups, blocks, chunks, (groups - 1) * group_tiles + last_tiles, a_loads,
                       w_all * np.where(w_stays, 1, rows))

    def _times(self) -> None:
        core, shape, t, c, o = self.core, self.shape, self.t, self.counts, self.memory.burst_overhead
        port, latency = core.port_bytes, self.memory.latency
        k_tiles = -(-shape.k // core.rows)
        pass_length = np.maximum(t.rows, pass_cycles(core, m=1))
        step = t.tiles * t.k_tiles * pass_length
        passes = c.rows * c.tiles * k_tiles * pass_length
        vector = shape.m * c.tiles * core.sizes.requant_groups
        a_load = self._copy(t.rows, np.minimum(t.k_tiles * core.rows, row_stride(core, shape.k)),
                            whole=c.chunks == 1) * self.ends.load
        w_load = self._copy(1, t.k_tiles * core.sizes.weight_groups * weight_stride(core, t.tiles))
        store = self._copy(t.rows, up(np.minimum(t.group_columns, shape.n), port),
                           whole=t.group_columns >= shape.n) * self.ends.store
        stores = c.rows * c.groups
        self.instructions = (c.steps * (1 + (t.tiles > 1)) + c.a_loads * self.ends.load + c.w_loads
                             + c.rows * c.tiles + stores * self.ends.store)
        fetch = self.instructions * (INSTRUCTION_BYTES / port + o / core.fetch_instructions)
        parameters = c.tiles * parameter_tile(core) / port
        again = t.outer_m & (c.tiles * parameter_tile(core) > core.parameter_bytes)
        traffic = (c.a_loads * a_load + c.w_loads * w_load + stores * store + fetch
                   + parameters * np.where(again, c.rows, 1))
        drain = array_latency(core) + read_latency(core) + vector_latency(core)
        read_out = t.rows * t.tiles * core.sizes.requant_groups
        sums = c.rows * c.groups * c.blocks * (c.chunks * step + drain + read_out) / core.acc_banks
        results = stores * (c.blocks * read_out + drain + store + self.memory.write_latency)
        results = results / self.slots.outputs
        # The first walk through the inner loop, and the first block, load what later ones find there.
        walks = np.where(t.outer_m, c.rows, c.groups)
        inner_a = np.where(t.outer_m, c.a_loads // c.rows, np.minimum(c.a_loads, c.rows * c.chunks))
        all_w = c.groups * c.blocks * c.chunks
        inner_w = np.where(t.outer_m, np.minimum(c.w_loads, all_w), c.w_loads // c.groups)
        cold = np.maximum(inner_a * a_load + inner_w * w_load + stores * store / walks - passes / walks,
                          c.chunks * (a_load + w_load - step))
        passes = passes + np.maximum(0, cold)
        busy = np.maximum.reduce([passes, np.full_like(passes, 1) * vector, traffic, sums, results])
        busy_step = busy / c.steps
        a_use = busy_step * np.maximum(1, c.steps // c.a_loads - (c.chunks - 1) * (c.steps > c.a_loads))
        w_use = busy_step * np.maximum(1, np.where(c.w_loads * c.rows <= c.steps, 1, c.steps // c.w_loads))
        turn_a = np.where(c.a_loads <= self.slots.a, 0, c.a_loads * (latency + a_load + a_use) / self.slots.a)
        turn_w = np.where(c.w_loads <= self.slots.weights, 0,
                          c.w_loads * (latency + w_load + w_use) / self.slots.weights)
        # Pieces of the first and the last block hide about two thirds of their loads, read-out and store.
        share = np.maximum(1 / 3, 1 / np.maximum(1, t.rows // pass_cycles(core, m=1)))
        edge = latency + w_load + (a_load + read_out + store) * share + drain + 2 * store_buffer_delay(core)
        self.cycles = np.maximum.reduce([busy, turn_a, turn_w]) + edge + stream_delay(core)
        if core.data_banks == 1:  # reading and writing exclude each other
            self.cycles = self.cycles + traffic + vector

    def _copy(self, rows: Array | int, row_bytes: Array, whole: NDArray[np.bool_] | bool = True) -> Array:
        """Cycles at the port of a 2-D copy; ``whole`` where it goes as one row."""
        core, o = self.core, self.memory.burst_overhead
        beats = -(-row_bytes // core.port_bytes)
        bursts = np.where(whole, -(-rows * beats // core.sizes.burst_beats),
                          rows * -(-beats // core.sizes.burst_beats))
        return rows * beats + bursts * o
