"""The timing contract as pure functions of CoreConfig (docs/contracts/timing.md gives the rules by number).

Components take their latencies from here and a test measures each; the cycle model is built on the same functions.
Cycle 0 is the cycle of the start pulse. "Visible at t" says that a register holds the value during cycle t.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from systolith_hw.config import INSTRUCTION_BYTES, CoreConfig

# Latencies of components ------------------------------------------------------------------------------------------


def read_latency(core: CoreConfig) -> int:
    """Cycles from an address at a scratchpad's reader to the aligned bytes: the memory and the rotation's register."""
    return core.memory_latency + 1


def array_latency(core: CoreConfig) -> int:
    """Cycles from a row of activations at the array's input to its sums at the output, skew and de-skew included."""
    return core.rows + core.cols + core.multiplier_latency - 1


def accumulate_latency(core: CoreConfig) -> int:
    """Cycles between two reads of an accumulator row of which the second must see the first one's update."""
    return core.memory_latency + 2


def requantize_latency(core: CoreConfig) -> int:
    """Cycles of one requantizer lane: bias, product, join, two of shift, rounding with zero point, saturation."""
    return core.multiplier_latency + 6


def table_latency(core: CoreConfig) -> int:
    """Cycles of the table function: the memory and the byte's selection."""
    return core.memory_latency + 1


# Matmul -----------------------------------------------------------------------------------------------------------


def pass_cycles(core: CoreConfig, *, m: int) -> int:
    """Cycles that one weight tile occupies the array while ``m`` rows stream through it (rule T7).

    >>> pass_cycles(CoreConfig(rows=8, cols=8), m=3)
    8
    """
    if m < 1:
        raise ValueError(f"m must be >= 1, not {m}")
    return max(m, core.sizes.weight_groups, accumulate_latency(core))


def stream_delay(core: CoreConfig) -> int:
    """Cycles from the start of a matmul to the address of its first activation row; weights go one tile ahead."""
    return core.sizes.weight_groups + 2


def matmul_cycles(core: CoreConfig, *, m: int, k_tiles: int, n_tiles: int) -> int:
    """Cycles from the start of a matmul until the next one may start (rule T8)."""
    return k_tiles * n_tiles * pass_cycles(core, m=m)


def matmul_done(core: CoreConfig, *, m: int, k_tiles: int, tile: int) -> int:
    """Cycles from the start of a matmul until the semaphore of N tile ``tile`` (from 0) is visible (rule T9)."""
    last_pass = (tile + 1) * k_tiles - 1
    return (stream_delay(core) + last_pass * pass_cycles(core, m=m) + m - 1
            + read_latency(core) + array_latency(core) + 1)


# Vector -----------------------------------------------------------------------------------------------------------


def requant_groups(core: CoreConfig, *, n: int) -> int:
    """Cycles in which the lanes treat ``n`` columns of one row."""
    return -(-n // core.requant_lanes)


def vector_cycles(core: CoreConfig, *, m: int, n: int) -> int:
    """Cycles from the start of a vector instruction until the next one may start (rule T10)."""
    return m * requant_groups(core, n=n)


def vector_latency(core: CoreConfig) -> int:
    """Cycles that a vector instruction's results follow behind its read-out.

    The accumulator's memory, the row register, the group register, lane, table, collector and aligner.
    """
    return core.memory_latency + requantize_latency(core) + table_latency(core) + 4


def vector_done(core: CoreConfig, *, m: int, n: int) -> int:
    """Cycles from the start of a vector instruction until its semaphore is visible (rule T11)."""
    return vector_cycles(core, m=m, n=n) + vector_latency(core)


# DMA --------------------------------------------------------------------------------------------------------------

LOAD_REQUEST_DELAY = 2
"""Start of a load to its first request at the arbiter (rule T12)."""
STORE_READ_DELAY = 1
"""Start of a store to its first scratchpad read (rule T14)."""
STORE_TURNAROUND = 3
"""Last write beat of a store to the first request of the next store (rule T14)."""
GRANT_DELAY = 1
"""Arbiter's choice to the address on the port (rule T13)."""
COMPLETION_DELAY = 2
"""Last read beat (or write response) at the port to the visible semaphore (rules T12, T14)."""
DISPATCH_DELAY = 2
"""Last beat of an instruction at the port to its earliest dispatch (rule T3)."""
FIRST_FETCH = 1
"""Cycle of the first fetch request (rule T2)."""


def store_buffer_delay(core: CoreConfig) -> int:
    """Cycles from the last scratchpad read of a store's transfer to the earliest request (rule T14)."""
    return read_latency(core) + 1


@dataclass(frozen=True)
class Transfer:
    """Bursts that keep the port between two arbitrations."""

    beats: int
    """Beats of all bursts."""
    bursts: int
    """Bursts; each costs the memory's overhead once."""
    last_beats: int
    """Beats of the last burst."""


@lru_cache(maxsize=4096)
def _transfers(core: CoreConfig, offset: int, stride: int, rows: int, row_beats: int) -> tuple[Transfer, ...]:
    sizes = core.sizes
    done, beats, count, last = [], 0, 0, 0
    for address, burst in bursts(core, offset=offset, stride=stride, rows=rows, row_beats=row_beats):
        del address
        beats, count, last = beats + burst, count + 1, burst
        if beats > sizes.transfer_beats - sizes.burst_beats:
            done.append(Transfer(beats, count, last))
            beats = count = 0
    if count:
        done.append(Transfer(beats, count, last))
    return tuple(done)


def bursts(core: CoreConfig, *, offset: int, stride: int, rows: int, row_beats: int) -> Iterator[tuple[int, int]]:
    """Bursts of a 2-D transfer as (address, beats), all in beats of the port (rule M2)."""
    limit = core.sizes.burst_beats
    for row in range(rows):
        address, left = offset + row * stride, row_beats
        while left:
            beats = min(left, limit - address % limit)
            yield address, beats
            address, left = address + beats, left - beats


def transfers(core: CoreConfig, *, dram_address: int, dram_stride: int, rows: int, row_bytes: int
              ) -> tuple[Transfer, ...]:
    """The transfers of one load or store, in order (rule M3).

    >>> transfers(CoreConfig(rows=8, cols=8), dram_address=0, dram_stride=64, rows=3, row_bytes=16)
    (Transfer(beats=6, bursts=3, last_beats=2),)
    """
    port, limit = core.port_bytes, core.sizes.burst_beats
    # Only the place within a burst counts, so that equal blocks of a matrix share one computation.
    return _transfers(core, dram_address // port % limit, dram_stride // port % limit if rows > 1 else 0,
                      rows, row_bytes // port)


# Fetch ------------------------------------------------------------------------------------------------------------


def fetch_beats(core: CoreConfig, *, instructions: int) -> int:
    """Beats of one fetch burst."""
    return instructions * INSTRUCTION_BYTES // core.port_bytes


# The deterministic memory -----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class MemoryTiming:
    """The deterministic memory (docs/contracts/memory.md), cycles."""

    latency: int = 64
    """From the acceptance of a read's address to its first beat; at least 1."""
    burst_overhead: int = 2
    """Cycles that a burst occupies the memory beyond its beats."""
    write_latency: int = 16
    """From the last beat of a write to its response; at least 1."""

    def __post_init__(self) -> None:
        for name, least in (("latency", 1), ("burst_overhead", 0), ("write_latency", 1)):
            value = getattr(self, name)
            if not least <= value <= 1 << 20:
                raise ValueError(f"{name} must be in {least}..{1 << 20}, not {value}")
