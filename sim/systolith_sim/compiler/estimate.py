"""Closed forms of what a tiling costs, for many tilings at once: the estimate that ranks them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith_hw.config import INSTRUCTION_BYTES, CoreConfig
from systolith_hw.timing import (
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
        self._lengths()
        c = self.counts
        self.instructions = (c.steps * (1 + (tilings.tiles > 1)) + c.a_loads * ends.load + c.w_loads
                             + c.rows * c.tiles + c.rows * c.groups * ends.store)
        """Instructions of each tiling."""
        self.cycles = self._cycles()
        """Cycles of each tiling."""

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

    def _lengths(self) -> None:
        """Cycles of one of each thing."""
        core, shape, t = self.core, self.shape, self.t
        self.step = t.tiles * t.k_tiles * np.maximum(t.rows, pass_cycles(core, m=1))
        self.read_out = t.rows * t.tiles * core.sizes.requant_groups
        self.drain = array_latency(core) + read_latency(core) + vector_latency(core)
        row = np.minimum(t.k_tiles * core.rows, row_stride(core, shape.k))
        self.a_load = self._copy(t.rows, row, whole=self.counts.chunks == 1) * self.ends.load
        self.w_load = self._copy(1, t.k_tiles * core.sizes.weight_groups * weight_stride(core, t.tiles))
        row = up(np.minimum(t.group_columns, shape.n), core.port_bytes)
        self.store = self._copy(t.rows, row, whole=t.group_columns >= shape.n) * self.ends.store

    def _cycles(self) -> Any:
        core, shape, t, c = self.core, self.shape, self.t, self.counts
        passes = c.rows * c.tiles * -(-shape.k // core.rows) * np.maximum(t.rows, pass_cycles(core, m=1))
        vector = shape.m * c.tiles * core.sizes.requant_groups
        traffic = self._traffic()
        # A bank of sums and a slot of results are held from their first to their last use.
        sums = c.rows * c.groups * c.blocks * (
            c.chunks * self.step + self.drain + self.read_out) / core.acc_banks
        results = c.rows * c.groups * (c.blocks * self.read_out + self.drain + self.store
                                       + self.memory.write_latency) / self.slots.outputs
        array = passes + np.maximum(0, self._cold(passes))
        busy = np.maximum.reduce(np.broadcast_arrays(array, vector, traffic, sums, results))
        cycles = np.maximum(busy, self._turns(busy / c.steps)) + self._edge()
        # With one data bank, reading and writing exclude each other.
        return cycles + traffic + vector if core.data_banks == 1 else cycles

    def _traffic(self) -> Any:
        """Cycles in which the port is taken."""
        core, c = self.core, self.counts
        parameters = c.tiles * parameter_tile(core)
        again = self.t.outer_m & (parameters > core.parameter_bytes)
        fetch = self.instructions * (
            INSTRUCTION_BYTES / core.port_bytes + self.memory.burst_overhead / core.fetch_instructions)
        return (c.a_loads * self.a_load + c.w_loads * self.w_load + c.rows * c.groups * self.store + fetch
                + parameters / core.port_bytes * np.where(again, c.rows, 1))

    def _cold(self, passes: Array) -> Any:
        """What the inner loop's first walk, or the first block, loads beyond what its passes hide."""
        t, c = self.t, self.counts
        walks = np.where(t.outer_m, c.rows, c.groups)
        a_loads = np.where(t.outer_m, c.a_loads // c.rows, np.minimum(c.a_loads, c.rows * c.chunks))
        w_loads = np.where(t.outer_m, np.minimum(c.w_loads, c.groups * c.blocks * c.chunks),
                           c.w_loads // c.groups)
        stores = c.rows * c.groups * self.store / walks
        walk = a_loads * self.a_load + w_loads * self.w_load + stores - passes / walks
        return np.maximum(walk, c.chunks * (self.a_load + self.w_load - self.step))

    def _turns(self, step: Any) -> Any:
        """Cycles in which slots of A and of weights are loaded, used and loaded again, ``step`` a step."""
        c, latency = self.counts, self.memory.latency
        # A chunk that stays is not used all the time that it stays, but its slot is taken.
        a_use = step * np.maximum(1, c.steps // c.a_loads - (c.chunks - 1) * (c.steps > c.a_loads))
        w_use = step * np.maximum(1, np.where(c.w_loads * c.rows <= c.steps, 1, c.steps // c.w_loads))
        a_turns = np.where(c.a_loads <= self.slots.a, 0, c.a_loads / self.slots.a)
        w_turns = np.where(c.w_loads <= self.slots.weights, 0, c.w_loads / self.slots.weights)
        return np.maximum(a_turns * (latency + self.a_load + a_use),
                          w_turns * (latency + self.w_load + w_use))

    def _edge(self) -> Any:
        """What the first loads and the last read-out and store add."""
        core = self.core
        # Pieces of the first and the last block hide about two thirds.
        share = np.maximum(1 / 3, 1 / np.maximum(1, self.t.rows // pass_cycles(core, m=1)))
        return (self.memory.latency + self.w_load + (self.a_load + self.read_out + self.store) * share
                + self.drain + 2 * store_buffer_delay(core) + stream_delay(core))

    def _copy(self, rows: Array | int, row_bytes: Array, whole: NDArray[np.bool_] | bool = True) -> Array:
        """Cycles at the port of a 2-D copy; ``whole`` where it goes as one row."""
        core, o = self.core, self.memory.burst_overhead
        beats = -(-row_bytes // core.port_bytes)
        bursts = np.where(whole, -(-rows * beats // core.sizes.burst_beats),
                          rows * -(-beats // core.sizes.burst_beats))
        return rows * beats + bursts * o
