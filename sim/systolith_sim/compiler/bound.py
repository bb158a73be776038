"""``bound_cycles``: what no program can beat."""

from systolith_hw.config import INSTRUCTION_BYTES, CoreConfig
from systolith_hw.timing import (
    DISPATCH_DELAY,
    FIRST_FETCH,
    GRANT_DELAY,
    LOAD_REQUEST_DELAY,
    MemoryTiming,
    pass_cycles,
)
from systolith_sim.compiler.tiling import Shape


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
    32907
    """
    Shape(m=m, k=k, n=n)
    passes = -(-k // core.rows) * -(-n // core.cols) * pass_cycles(core, m=m)
    return max(passes, -(-(m * k + k * n + m * n) // core.port_bytes)) + startup_cycles(
        core, memory or MemoryTiming())
