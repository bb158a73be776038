"""One GEMM on the RTL, beside the integer contract and the cycle model."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from systolith_hw.config import CoreConfig
from systolith_hw.host import MAX_CYCLES, Host, RunStatus
from systolith_hw.isa import QUEUES, STALL_CAUSES
from systolith_hw.program import MEMORY_BYTES, Program
from systolith_hw.timing import MemoryTiming
from systolith_sim.compiler import gemm
from systolith_sim.compiler.bound import bound_cycles
from systolith_sim.compiler.places import row_stride
from systolith_sim.compiler.plan import plan_gemm
from systolith_sim.compiler.tiling import MAX_K
from systolith_sim.cycle import RandomStalls, simulate
from systolith_sim.engine.build import Build, build_core
from systolith_sim.engine.engine import Engine
from systolith_sim.engine.memory import Stalls
from systolith_sim.outputs import output_file
from systolith_sim.verify.cases import GemmCase, expected, random_gemm
from systolith_sim.verify.results import GemmResult, MemoryInfo

Progress = Callable[[str, int, int | None], None]
"""Gets what is being done, how much of it, and of how much where that is known."""
WATCHDOG_CYCLES = 1 << 24
"""More than the slowest memory or the longest instruction takes, so that no run here is called a deadlock in error."""


def check_product(core: CoreConfig, m: int, k: int, n: int, memory: MemoryTiming) -> None:
    """Refuse, before any data is made, a product that the port cannot address or the counters cannot count.

    Raises
    ------
    ValueError
        If a size is out of range, or all of them together are too large.
    """
    for name, value, most in (("M", m, None), ("K", k, MAX_K), ("N", n, None)):
        if value < 1 or (most is not None and value > most):
            raise ValueError(f"{name} must be {f'in 1..{most}' if most else '>= 1'}, not {value}")
    needed = m * row_stride(core, k) + k * n + m * row_stride(core, n)
    if needed > MEMORY_BYTES:
        raise ValueError(f"M, K and N must need at most {MEMORY_BYTES} bytes of DRAM, "
                         f"not {needed} as {m} x {k} x {n} do")
    cycles = bound_cycles(core, m, k, n, memory)
    if cycles > MAX_CYCLES:
        raise ValueError(f"M, K and N must take at most {MAX_CYCLES} cycles, which the core can count, "
                         f"not {cycles} or more as {m} x {k} x {n} do")


def compile_case(core: CoreConfig, case: GemmCase, memory: MemoryTiming, *, play: bool = True) -> Program:
    """The program of a case, its tiling chosen for ``memory``; without ``play`` by closed forms alone."""
    plan = plan_gemm(core, *case.shape, table=case.table is not None, signed=case.signed,
                     zero_point=case.zero_point, memory=memory, play=play)
    return gemm(core, case.a, case.w, bias=case.bias, mantissa=case.mantissa, shift=case.shift,
                zero_point=case.zero_point, table=case.table, signed=case.signed, plan=plan)


def stalls_of(counters: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """The stall counters without ``busy``, which is what they leave of the cycles."""
    return {queue: {cause: counters[queue][cause] for cause in STALL_CAUSES} for queue in QUEUES}


def execute(build: Build, program: Program, memory: MemoryTiming, *, stalls: Stalls | None = None,
            wave: Path | None = None, progress: Callable[[int], None] | None = None
            ) -> tuple[RunStatus, np.ndarray, float]:
    """Run a program on the RTL.

    Returns
    -------
    (RunStatus, ndarray, float)
        How it ended, its output ``y`` as int8, and the seconds of wall time.
    """
    with Engine(build, memory_bytes=program.memory_bytes, timing=memory, stalls=stalls, wave=wave) as engine:
        host = Host(engine)
        host.load(program)
        start = time.perf_counter()
        status = host.run(program, load=False, progress=progress, watchdog_cycles=WATCHDOG_CYCLES)
        seconds = time.perf_counter() - start
        return status, program.output("y").read(engine.memory), seconds


def run_gemm(name: str, core: CoreConfig, m: int, k: int, n: int, *, memory: MemoryTiming, seed: int = 0,
             stall_seed: int | None = None, wave: Path | None = None,
             progress: Progress = lambda what, done, total: None) -> GemmResult:
    """One GEMM on random data from DRAM to DRAM: compiled, simulated in RTL, compared bit for bit and cycle for cycle.

    Parameters
    ----------
    name : str
        What the result calls the core.
    m, k, n : int
        Sizes, from 1 upward; K at most 65793.
    memory : MemoryTiming
        Latencies of the memory.
    seed, stall_seed : int
        Of the data; of the random memory, deterministic where none is given.
    wave : Path, optional
        Write a waveform (FST) here.

    Raises
    ------
    ValueError
        If a size is out of range or no file can be written at ``wave``.
    EngineError
        If the RTL cannot be built or breaks its contract.
    CoreFault, HostError
        If the program does not end as it should; the waveform until then is kept.
    """
    check_product(core, m, k, n, memory)
    stalls = None if stall_seed is None else Stalls(seed=stall_seed)
    with ExitStack() as stack:
        file = None if wave is None else stack.enter_context(output_file(wave, field="wave"))
        case = random_gemm(m, k, n, seed=seed)
        progress("tiling", 0, None)
        program = compile_case(core, case, memory)
        build = build_core(core, wave=wave is not None, report=lambda what: progress(what, 0, None))
        model = simulate(core, program.instructions, memory, stalls=stalls and RandomStalls.of(stalls))
        try:
            status, y, seconds = execute(build, program, memory, stalls=stalls, wave=file,
                                         progress=lambda cycles: progress("simulating", cycles, model.cycles))
        except RuntimeError:
            if file is not None and wave is not None:
                file.replace(wave)
            raise
    return GemmResult(
        core=name, m=m, k=k, n=n, model_cycles=model.cycles, bound_cycles=bound_cycles(core, m, k, n, memory),
        bit_exact=bool(np.array_equal(y, expected(case))), **_counted(core, m * k * n, status),
        model_stalls=None if stalls else stalls_of(model.counters),
        memory=MemoryInfo(latency=memory.latency, port_bytes=core.port_bytes,
                          burst_overhead=memory.burst_overhead, write_latency=memory.write_latency),
        simulated_cycles_per_s=status.cycles / seconds, build_s=build.seconds, seed=seed, stall_seed=stall_seed)


def _counted(core: CoreConfig, macs: int, status: RunStatus) -> dict[str, Any]:
    """The fields of a result that the RTL's counters give."""
    window, peak = status.last_row - status.first_row + 1, core.peak_macs_per_cycle
    return {"macs": macs, "peak_macs_per_cycle": peak, "cycles": status.cycles,
            "array_utilization": macs / (peak * status.cycles), "busy_utilization": macs / (peak * window),
            "stalls": stalls_of({queue: dict(causes) for queue, causes in status.counters.items()})}
