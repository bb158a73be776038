"""The FPGA core as a device: cycles, counted by the RTL or its cycle model, at a stated clock."""

from functools import cache

import numpy as np

from systolith_model.graph import Graph, Operation, matmul_shape, traffic
from systolith_sim.devices.device import Device
from systolith_sim.devices.figures import Figure, How
from systolith_sim.devices.gemm import Terms
from systolith_sim.units import si


def core_latency(device: Device, *, cycles: int, clock: Figure, cycles_from: str) -> Figure:
    """Seconds of a run on the core.

    Parameters
    ----------
    device : Device
        The FPGA part; its kind must be ``fpga``.
    cycles : int
        From start to done, at least 1.
    clock : Figure
        In Hz, with where it comes from: routed and timed, or assumed; its interval carries over.
    cycles_from : str
        Where the cycles come from, such as "RTL simulation".

    Raises
    ------
    ValueError
        If the device is no FPGA, the clock no frequency, or the cycles below 1.
    """
    if device.kind != "fpga":
        raise ValueError(f"device must be an fpga, not {device.id!r} ({device.kind})")
    if cycles < 1:
        raise ValueError(f"cycles must be >= 1, not {cycles}")
    if clock.unit != "Hz" or clock.value <= 0:
        raise ValueError(f"clock must be a positive frequency in Hz, not {clock.value:g} {clock.unit}")
    how: How = "measured" if clock.how == "measured" else "modelled"
    return Figure(
        value=cycles / clock.value,
        unit="s",
        how=how,
        source=f"{cycles} cycles ({cycles_from}) at {si(clock.value, 'Hz')}, {clock.how}: {clock.source}",
        low=None if clock.high is None else cycles / clock.high,
        high=None if not clock.low else cycles / clock.low,
    )


PLAYED_INSTRUCTIONS = 2500
"""Longest program of a product that the cycle model plays whole; longer ones are extrapolated."""


def core_terms(device: Device, graph: Graph, operation: Operation) -> Terms:
    """Seconds of an operation on the core: cycles of the cycle model at the stated clock.

    Attention is two products a head, from memory to memory, without its softmax; everything else moves its
    bytes through the port. Nothing is faster than the board's memory, which the cycle model does not know.
    """
    from systolith_hw.config import load_core

    assert device.core is not None  # the caller saw to it
    core, clock = load_core(device.core.preset), device.core.clock_hz.value
    products, moved_bytes = _products(graph, operation), traffic(graph, operation).total
    cycles = sum(count * gemm_cycles(device.core.preset, m, k, n) for count, m, k, n in products)
    macs = sum(count * m * k * n for count, m, k, n in products)
    compute = np.asarray(macs / core.peak_macs_per_cycle / clock)
    port = moved_bytes / core.port_bytes / clock
    memory = max(port, moved_bytes / device.main_memory.bandwidth_bytes_per_s.value)
    total = np.asarray(max(cycles / clock, memory, float(compute)))
    return Terms(total, np.asarray(0.0), compute, np.asarray(memory))


def _products(graph: Graph, operation: Operation) -> list[tuple[int, int, int, int]]:
    """(count, m, k, n) of an operation's products."""
    if operation.kind == "matmul":
        shape = matmul_shape(graph, operation)
        return [(shape.batch, shape.m, shape.k, shape.n)]
    if operation.kind != "attention":
        return []
    q, k = graph.inputs_of(operation)[:2]
    batch, heads, queries, size = q.shape
    keys = k.shape[-2]
    return [(batch * heads, queries, size, keys), (batch * heads, queries, keys, size)]


@cache
def gemm_cycles(preset: str, m: int, k: int, n: int) -> int:
    """Cycles of one int8 product (m, k) by (k, n), memory to memory, in the cycle model.

    A program of more than ``PLAYED_INSTRUCTIONS`` is not played whole: its cycles are affine in n, and in m,
    once it has many equal blocks, so a part of it and twice that part give the rest.

    Raises
    ------
    ValueError
        If a size is out of the core's range.
    """
    from systolith_hw.config import load_core
    from systolith_sim.compiler import plan_gemm
    from systolith_sim.cycle import simulate

    core = load_core(preset)
    if (size := _part(preset, m, k, n)) is not None:
        along_n, part = size
        rows, columns = (m, part) if along_n else (part, n)
        one, two = gemm_cycles(preset, rows, k, columns), _doubled(preset, rows, k, columns, along_n)
        return round(one + (two - one) * ((n if along_n else m) - part) / part)
    return simulate(core, plan_gemm(core, m, k, n, play=False).instructions).cycles


def _doubled(preset: str, m: int, k: int, n: int, along_n: bool) -> int:
    return gemm_cycles(preset, m, k, 2 * n) if along_n else gemm_cycles(preset, 2 * m, k, n)


def _part(preset: str, m: int, k: int, n: int) -> tuple[bool, int] | None:
    """Whether to cut along n, and the part to play twice over; None where the whole is short enough."""
    from systolith_hw.config import load_core
    from systolith_hw.timing import MemoryTiming
    from systolith_sim.compiler.fits import Ends
    from systolith_sim.compiler.search import best_tilings
    from systolith_sim.compiler.tiling import Shape

    core = load_core(preset)
    whole = best_tilings(core, Shape(m=m, k=k, n=n), MemoryTiming(), Ends())[0][1]
    if whole <= PLAYED_INSTRUCTIONS:
        return None
    along_n = n >= m
    size, least = (n, 4 * core.cols) if along_n else (m, 4 * core.rows)
    part = max(least, int(size * PLAYED_INSTRUCTIONS / whole / 2) // least * least)
    return (along_n, part) if 2 * part < size else None
