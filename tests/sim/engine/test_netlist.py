"""The netlist that the engine simulates against the Verilog as it is written: bits, cycles and counters."""

import numpy as np
import pytest

from systolith_hw.config import CoreConfig
from systolith_hw.host import Host
from systolith_hw.timing import MemoryTiming
from systolith_sim.engine import Engine, Stalls, build_verilog
from systolith_sim.engine.build import export
from systolith_sim.verify.cases import random_gemm
from systolith_sim.verify.gemm import compile_case

CORE = CoreConfig(rows=3, cols=5, weight_rows_per_cycle=2, port_bytes=4, data_bytes=4096, weight_bytes=2048,
                  acc_rows=64)


@pytest.fixture(scope="module")
def builds():
    return [build_verilog(export(CORE, flat=flat), port_bytes=CORE.port_bytes) for flat in (False, True)]


@pytest.mark.parametrize("seed", range(6))
def test_both_forms_do_the_same_in_the_same_cycles(builds, seed):
    shape = np.random.default_rng(seed).integers(1, 40, 3).tolist()
    program = compile_case(CORE, random_gemm(*shape, seed=seed), MemoryTiming())
    seen = []
    for build in builds:
        with Engine(build, memory_bytes=program.memory_bytes, stalls=Stalls(seed=seed) if seed % 2 else None) as engine:
            status = Host(engine).run(program)
            seen.append((status, engine.memory.tobytes()))
    assert seen[0] == seen[1], f"{seed=} {shape=}"
