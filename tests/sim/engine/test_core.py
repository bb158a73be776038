"""A real core on the engine: a copy through the data scratchpad, its faults, and its recovery from them."""

import numpy as np
import pytest

from systolith_hw.config import PRESETS
from systolith_hw.host import CoreFault, Host, HostError
from systolith_hw.isa import QUEUES, Load, Memory, Store, semaphore
from systolith_hw.program import Program, Region, Segment, check
from systolith_hw.registers import Fault
from systolith_sim.engine import Engine, Stalls, build_core

CORE = PRESETS["tiny"]
ROWS, ROW_BYTES = 24, 64
DATA = np.random.default_rng(1).integers(-128, 128, (ROWS, ROW_BYTES), dtype=np.int8)


@pytest.fixture(scope="module")
def build():
    return build_core(CORE)


def copy(**changes) -> Program:
    """Rows to places further apart, loaded and stored in blocks of eight."""
    instructions = []
    for row in range(0, ROWS, 8):
        local = {"local_address": row * ROW_BYTES, "local_stride": ROW_BYTES, "rows": 8, "row_bytes": ROW_BYTES}
        instructions += [Load(memory=Memory.DATA, dram_address=row * ROW_BYTES, dram_stride=ROW_BYTES, post=1,
                              **local),
                         Store(dram_address=8192 + row * 128, dram_stride=128, wait=semaphore("load", 0), **local)]
    fields = {"instructions": tuple(instructions), "program_address": 4096, "memory_bytes": 16384,
              "image": (Segment(0, DATA.tobytes()),),
              "outputs": (Region(name="y", address=8192, shape=(ROWS, ROW_BYTES), stride=128),)}
    return Program(**(fields | changes))


def test_copy_is_exact_and_repeatable(build):
    program = copy()
    check(CORE, program)
    results = []
    with Engine(build, memory_bytes=program.memory_bytes) as engine:
        for _ in range(2):
            results.append(Host(engine).run(program))
            assert (program.output("y").read(engine.memory) == DATA).all()
            engine.memory[:] = 0
    assert results[0] == results[1]
    status = results[0]
    for queue in QUEUES:
        assert sum(status.counters[queue].values()) == status.cycles
    assert status.message == f"done after {status.cycles} cycles"


@pytest.mark.parametrize("seed", range(3))
def test_copy_is_exact_under_stalls(build, seed):
    program = copy()
    cycles = set()
    for _ in range(2):
        with Engine(build, memory_bytes=program.memory_bytes, stalls=Stalls(seed=seed)) as engine:
            cycles.add(Host(engine).run(program).cycles)
            assert (program.output("y").read(engine.memory) == DATA).all()
    assert len(cycles) == 1


def test_a_fault_is_told_and_cleared(build):
    program = copy()
    with Engine(build, memory_bytes=program.memory_bytes) as engine:
        host = Host(engine)
        host.load(program)
        engine.write_memory(program.program_address + 32, bytes(32))
        with pytest.raises(CoreFault, match=r"illegal instruction after .* queue .* instruction 1: opcode must be"):
            host.run(program, load=False)
        with pytest.raises(HostError, match="must be idle before a run"):
            host.run(program)
        host.clear()
        assert host.run(program).fault is Fault.NONE
        assert (program.output("y").read(engine.memory) == DATA).all()


def test_memory_errors_name_the_instruction(build):
    program = copy(memory_bytes=32768)
    with Engine(build, memory_bytes=8192 + 128 * 8) as engine:
        status = Host(engine).run(program, raise_fault=False)
    assert status.fault is Fault.BUS_WRITE_ERROR
    assert (status.queue, status.instruction) == ("store", 3)
    assert status.disassembly == str(program.instructions[3])


def test_a_deadlock_ends_at_the_watchdog(build):
    stuck = Store(dram_address=0, local_address=0, row_bytes=4, wait=semaphore("vector", 2))
    program = copy(instructions=(stuck,))
    with Engine(build, memory_bytes=program.memory_bytes) as engine:
        status = Host(engine).run(program, watchdog_cycles=1000, raise_fault=False)
        assert status.fault is Fault.DEADLOCK
        assert (status.queue, status.instruction) == ("store", 0)
        assert 1000 <= status.cycles < 1300


def test_a_run_that_does_not_end_is_given_up(build):
    stuck = Store(dram_address=0, local_address=0, row_bytes=4, wait=semaphore("vector", 2))
    with Engine(build, memory_bytes=16384) as engine, \
            pytest.raises(HostError, match="must end within max_cycles = 5000"):
        Host(engine).run(copy(instructions=(stuck,)), max_cycles=5000)
