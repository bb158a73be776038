"""The event model's faults, refusals and what it reports, on programs small enough to follow by hand."""

from dataclasses import replace

import pytest
from cycle.percycle import PerCycleCore

from systolith_hw.config import PRESETS
from systolith_hw.isa import QUEUES, Load, Matmul, Memory, Store, Vector, semaphore
from systolith_hw.timing import MemoryTiming
from systolith_sim.cycle import DeadlockError, SemaphoreOverflowError, TransferTimes, simulate

BASE = PRESETS["base"]
LOAD = Load(memory=Memory.DATA, dram_address=4096, local_address=0, row_bytes=64, post=1)
MATMUL = Matmul(data_address=0, data_stride=8, weight_address=0, weight_stride=8, acc_address=0, m=8,
                wait=semaphore("load", 0), post=1)
VECTOR = Vector(acc_address=0, m=8, n=8, data_address=0, data_stride=8, parameter_address=0)
STORE = Store(dram_address=8192, local_address=0, row_bytes=64)


def test_one_load_by_hand():
    result = simulate(BASE, [LOAD], MemoryTiming(latency=10, burst_overhead=2), timeline=True)
    # Fetch: requested at 1, on the port and accepted at 2, four beats to 15. Dispatched at 17, started at 18.
    # Load: requested at 20, accepted at 21, free at 22; eight beats to 38, complete at 40.
    assert result.timeline is not None
    (load,) = result.timeline.instructions
    assert (load.queue, load.index, load.start, load.free, load.done) == ("load", 0, 18, 22, 40)
    assert result.timeline.transfers == (TransferTimes("fetch", 1, 2, 15), TransferTimes("load", 20, 21, 38))
    assert result.cycles == 40
    nonzero = {cause: count for cause, count in result.counters["load"].items() if count}
    assert nonzero == {"busy": 4, "empty": 36}
    assert result.counters["matmul"]["empty"] == 40


def test_counters_of_a_queue_add_up_to_the_cycles():
    program = [LOAD, MATMUL, VECTOR, STORE, LOAD, MATMUL]
    result = simulate(BASE, program)
    assert result.counters.keys() == set(QUEUES)
    assert {sum(counters.values()) for counters in result.counters.values()} == {result.cycles}


def test_deadlock_names_the_first_waiting_queue():
    program = [VECTOR, STORE, LOAD, MATMUL, MATMUL, replace(LOAD, wait=semaphore("store", 3))]
    with pytest.raises(DeadlockError, match=r"instruction 5 \(load .* waits for store\.3") as caught:
        simulate(BASE, program)
    assert caught.value.index == 5
    with pytest.raises(DeadlockError, match=r"instruction 4 \(matmul .* waits for load\.0"):
        simulate(BASE, program[:-1])


def test_a_full_queue_behind_a_deadlock_is_a_deadlock():
    with pytest.raises(DeadlockError, match="instruction 0 "):
        simulate(BASE, [MATMUL] * 100)


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_semaphores_count_to_255(taken):
    matmuls = [replace(MATMUL, wait=semaphore("vector", 0))] * taken
    vectors = [replace(VECTOR, post=1)]
    allowed = vectors * 4 + matmuls + vectors * (251 + taken)
    assert simulate(BASE, allowed).cycles == PerCycleCore(BASE, allowed, MemoryTiming()).run(1000)
    with pytest.raises(OverflowError) as expected:
        PerCycleCore(BASE, allowed + vectors, MemoryTiming()).run(1000)
    with pytest.raises(SemaphoreOverflowError, match=r"vector\.0 counts to 255") as caught:
        simulate(BASE, allowed + vectors)
    assert str(expected.value).endswith(f"cycle {caught.value.cycle}")


def test_an_overflow_comes_before_the_deadlock_behind_it():
    vectors = [replace(VECTOR, post=1)] * 256
    with pytest.raises(SemaphoreOverflowError):
        simulate(BASE, [MATMUL, *vectors])


@pytest.mark.parametrize(("program", "sentence"), [
    ([], "instructions must hold at least one, not 0"),
    ([replace(LOAD, row_bytes=12)], "row_bytes of a load must be a multiple of port_bytes = 8, not 12"),
    ([replace(STORE, dram_address=4)], "dram_address of a store must be a multiple of .*, not 4"),
    ([LOAD, LOAD, MATMUL, replace(VECTOR, wait=1)],
     r"load\.0 must be awaited by one queue, not by matmul and vector"),
])
def test_refused(program, sentence):
    with pytest.raises(ValueError, match=sentence):
        simulate(BASE, program)


def test_accesses():
    matmul = replace(MATMUL, k_tiles=3, n_tiles=2, m=5)
    accesses = simulate(BASE, [LOAD, matmul, VECTOR, STORE]).accesses
    assert accesses.macs == 6 * 5 * 64
    assert accesses.weight_read_bytes == 6 * 64
    assert accesses.data_read_bytes == 6 * 5 * 8 + 64
    assert accesses.data_written_bytes == 64 + 64
    assert (accesses.accumulator_read_rows, accesses.accumulator_written_rows) == (4 * 5 + 8, 6 * 5)
    assert accesses.parameter_read_bytes == 8 * 4 * 2 * 8
    assert (accesses.dram_read_bytes, accesses.dram_written_bytes) == (64 + 4 * 32, 64)
    adding = replace(matmul, accumulate=True)
    assert simulate(BASE, [LOAD, adding]).accesses.accumulator_read_rows == 6 * 5
    tabled = replace(VECTOR, use_table=True)
    assert simulate(BASE, [tabled]).accesses.table_read_bytes == 64
    weights = replace(LOAD, memory=Memory.WEIGHT)
    assert simulate(BASE, [weights]).accesses.weight_written_bytes == 64
