"""Faults on the whole core's Verilog: each ends in its status and the interrupt; CLEAR makes it as new."""

import os
from dataclasses import replace

import cocotb
from cocotb.triggers import ClockCycles
from core_driver import CoreBench
from core_programs import CORES, MEMORY_BYTES, TABLE_SLOT, TABLE_SLOTS, gemm_program, random_gemm

from systolith_hw.config import INSTRUCTION_BYTES
from systolith_hw.isa import Load, Matmul, Memory, Store, Vector, semaphore
from systolith_hw.program import Program
from systolith_hw.registers import FAULT_QUEUES, Control, Fault, Register, Status

CORE = CORES[os.environ.get("CORE", "4x4")]
PORT, HALF = CORE.port_bytes, CORE.data_bytes // 2
PROGRAM_ADDRESS = MEMORY_BYTES // 2
STALL = 0.2

LOAD = Load(memory=Memory.DATA, dram_address=0, local_address=0, row_bytes=64 * PORT)
STORE = Store(dram_address=4096, local_address=0, row_bytes=64 * PORT)
MATMUL = Matmul(data_address=0, data_stride=0, weight_address=0, weight_stride=0, acc_address=0, m=16,
                k_tiles=99)
VECTOR = Vector(acc_address=0, m=16, n=CORE.cols, data_address=0, data_stride=CORE.sizes.data_word_bytes,
                parameter_address=0)


def with_bits(instruction, bits, value):
    """The instruction's bytes with the field at ``bits`` (start, width) overwritten."""
    start, width = bits
    word = int.from_bytes(instruction.encode(), "little") & ~(((1 << width) - 1) << start)
    return (word | value << start).to_bytes(INSTRUCTION_BYTES, "little")


ILLEGAL = {
    "zero": bytes(INSTRUCTION_BYTES),
    "opcode": with_bits(LOAD, (0, 4), 15),
    "registers": with_bits(LOAD, (24, 20), 1),
    "no_rows": with_bits(LOAD, (160, 16), 0),
    "off_the_port": replace(LOAD, dram_address=1).encode(),
    "beyond_the_table": replace(LOAD, memory=Memory.TABLE, local_address=256 * TABLE_SLOTS).encode(),
    "unnamed_bit": with_bits(STORE, (255, 1), 1),
    "store_of_weights": with_bits(STORE, (44, 2), int(Memory.WEIGHT)),
    "transposed": with_bits(MATMUL, (46, 1), 1),
    "row_shift": with_bits(MATMUL, (47, 1), 1),
    "rows_beyond_a_bank": replace(MATMUL, m=CORE.acc_rows + 1).encode(),
    "columns": replace(VECTOR, n=CORE.cols + 1).encode(),
    "table": replace(VECTOR, table=TABLE_SLOT + 1).encode(),
}


class FaultBench(CoreBench):
    """Runs what must fail, checks how it ended, clears it and runs a layer that must succeed."""

    def __init__(self, dut):
        super().__init__(dut, memory_bytes=MEMORY_BYTES, stall=STALL, seed=3)

    async def fails(self, instructions, *, fault, queue, index, watchdog_cycles=2000, prepare=None):
        """``index`` is the charged instruction, or all that may be, where stalls decide."""
        program = Program(instructions=tuple(instructions), program_address=PROGRAM_ADDRESS,
                          memory_bytes=MEMORY_BYTES)
        self.write_memory(PROGRAM_ADDRESS, program.encode())
        if prepare:
            prepare()
        word = await self.run_loaded(program, watchdog_cycles=watchdog_cycles)
        expected = Status.FAULT | fault << 8 | FAULT_QUEUES.index(queue) << 16
        assert word & ~int(Status.QUIET) == expected, hex(word)
        charged = await self.master.read_dword(Register.FAULT_INSTRUCTION)
        assert charged in ([index] if isinstance(index, int) else index), charged
        # A faulted core starts nothing.
        await self.master.write_dword(Register.CONTROL, Control.START)
        assert (await self.master.read_dword(Register.STATUS) ^ word) & ~int(Status.QUIET) == 0
        assert self.dut.interrupt.value
        self.storage.broken_read = self.storage.broken_write = None

    async def clear(self):
        """As soon as nothing is outstanding."""
        while not await self.master.read_dword(Register.STATUS) & Status.QUIET:
            pass
        await self.master.write_dword(Register.CONTROL, Control.CLEAR)
        # The write response comes with the pulse; the engine is reset at the end of the cycle after it.
        await ClockCycles(self.dut.clk, 2)
        assert await self.master.read_dword(Register.STATUS) == Status.QUIET
        assert not self.dut.interrupt.value

    async def recovers(self):
        """After CLEAR the core is as new."""
        await self.clear()
        gemm = random_gemm(1, m=2, k=5, n=5)
        program = gemm_program(CORE, gemm, block=4)
        for segment in program.segments():
            self.write_memory(segment.address, segment.data)
        assert await self.run_loaded(program) == Status.DONE | Status.QUIET
        region = program.outputs[0]
        for row, expected in enumerate(gemm.expected.tolist()):
            at = region.address + row * region.stride
            assert list(self.read_memory(at, len(expected))) == [value % 256 for value in expected]


async def started(dut):
    bench = FaultBench(dut)
    await bench.start()
    return bench


@cocotb.test(timeout_time=200, timeout_unit="us")
async def illegal_instructions(dut):
    bench = await started(dut)
    for place, (name, code) in enumerate(ILLEGAL.items()):
        index = place % 6
        dut._log.info("illegal: %s", name)
        good = replace(LOAD, row_bytes=PORT)

        def overwrite(code=code, index=index):
            bench.write_memory(PROGRAM_ADDRESS + INSTRUCTION_BYTES * index, code)

        await bench.fails([good] * 7, fault=Fault.ILLEGAL_INSTRUCTION, queue="fetch", index=index,
                          prepare=overwrite)
        await (bench.recovers() if place % 6 == 5 else bench.clear())


CONFLICTS = {
    "data_read": (Fault.DATA_READ_CONFLICT, "store", [MATMUL, STORE], 1),
    "data_write": (Fault.DATA_WRITE_CONFLICT, "vector", [LOAD, LOAD, *[VECTOR] * 12], range(2, 14)),
    "accumulator": (Fault.ACCUMULATOR_CONFLICT, "vector", [replace(MATMUL, accumulate=True), VECTOR], 1),
    "matmul_overflow": (Fault.SEMAPHORE_OVERFLOW, "matmul", [
        replace(MATMUL, m=1, k_tiles=1), replace(MATMUL, m=1, k_tiles=1, n_tiles=256, post=4)], 1),
    "vector_overflow": (Fault.SEMAPHORE_OVERFLOW, "vector", [replace(VECTOR, m=1, n=1, post=2)] * 257, 255),
}
"""Fault, queue, program, the instructions that may be charged."""


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(case=list(CONFLICTS))
async def conflicts_and_overflows(dut, case):
    fault, queue, instructions, index = CONFLICTS[case]
    bench = await started(dut)
    await bench.fails(instructions, fault=fault, queue=queue, index=index)
    await bench.recovers()


DEADLOCKS = {
    "nobody_raises": ("matmul", 1, [LOAD, replace(MATMUL, wait=semaphore("load", 3)), STORE]),
    # Load and store wait for each other; the load is named, since its queue comes first.
    "circle": ("load", 1, [replace(STORE, wait=semaphore("load", 0), post=1),
                           replace(LOAD, wait=semaphore("store", 0), post=1)]),
    # The queue is full of instructions that wait, and so is the fetch buffer.
    "full": ("vector", 0, [replace(VECTOR, wait=semaphore("matmul", 0))] * 20),
}
"""Queue and instruction that are charged, program."""


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(case=list(DEADLOCKS))
async def deadlocks(dut, case):
    queue, index, instructions = DEADLOCKS[case]
    bench = await started(dut)
    await bench.fails(instructions, fault=Fault.DEADLOCK, queue=queue, index=index, watchdog_cycles=300)
    await bench.recovers()


@cocotb.test(timeout_time=100, timeout_unit="us")
async def memory_that_does_not_answer(dut):
    """The watchdog also ends a run whose program never comes; the address waits until the memory takes it."""
    bench = await started(dut)
    channel = bench.slave.read_if.ar_channel  # pyright: ignore[reportOptionalMemberAccess]  # None only in __init__
    channel.clear_pause_generator()
    channel.pause = True
    await bench.fails([LOAD], fault=Fault.DEADLOCK, queue="fetch", index=0, watchdog_cycles=300)
    assert not await bench.master.read_dword(Register.STATUS) & Status.QUIET
    await bench.master.write_dword(Register.CONTROL, Control.CLEAR)
    assert await bench.master.read_dword(Register.STATUS) & Status.FAULT, "not cleared while a burst waits"
    channel.pause = False
    await bench.recovers()


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(beat=[0, 63])
async def read_errors(dut, beat):
    bench = await started(dut)

    def break_memory():
        bench.storage.broken_read = LOAD.dram_address + beat * PORT

    first = replace(LOAD, dram_address=8192)
    await bench.fails([first, LOAD, first], fault=Fault.BUS_READ_ERROR, queue="load", index=1,
                      prepare=break_memory)
    await bench.recovers()


@cocotb.test(timeout_time=100, timeout_unit="us")
async def write_errors(dut):
    bench = await started(dut)

    def break_memory():
        bench.storage.broken_write = STORE.dram_address + 63 * PORT

    first = replace(STORE, dram_address=8192)
    await bench.fails([first, STORE, first], fault=Fault.BUS_WRITE_ERROR, queue="store", index=1,
                      prepare=break_memory)
    await bench.recovers()


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(index=[0, 9])
async def fetch_errors(dut, index):
    bench = await started(dut)

    def break_memory():
        bench.storage.broken_read = PROGRAM_ADDRESS + INSTRUCTION_BYTES * index + 3 * PORT

    await bench.fails([replace(LOAD, row_bytes=PORT)] * 11, fault=Fault.BUS_FETCH_ERROR, queue="fetch",
                      index=index, prepare=break_memory)
    await bench.recovers()
