"""The whole core on its Verilog: layers from DRAM to DRAM, one after the other, with stalls everywhere."""

import os

import cocotb
from core_driver import CoreBench
from core_programs import CORES, MEMORY_BYTES, gemm_program, random_gemm

from systolith_hw.registers import Fault

LAYERS = {0: [(6, 9, 17, 11, 4), (1, 1, 1, 1, 4)], 0.5: [(7, 5, 7, 11, 4), (9, 1, 4, 5, 16)]}
"""By the chance of a stall: seed, rows, K, N and the rows of a block."""


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(stall=list(LAYERS))
async def layers_match_torch(dut, stall):
    core = CORES[os.environ["CORE"]]
    bench = CoreBench(dut, memory_bytes=MEMORY_BYTES, stall=stall, seed=1)
    await bench.start()
    for seed, m, k, n, block in LAYERS[stall]:
        gemm = random_gemm(seed, m=m, k=k, n=n)
        program = gemm_program(core, gemm, block=block)
        bench.storage.content[:] = bytes(range(7, 256)) * (MEMORY_BYTES // 249) + bytes(MEMORY_BYTES % 249)
        before = bytes(bench.storage.content)
        status = await bench.run(program)
        assert status.fault is Fault.NONE, f"{seed=} {status.message}"
        for queue, counts in status.counters.items():
            assert sum(counts.values()) == status.cycles, f"rule T6, {queue}"
        after = bytearray(bench.storage.content)
        region, expected = program.outputs[0], gemm.expected
        for row in range(region.shape[0]):
            at = region.address + row * region.stride
            found = [byte - 256 * (byte > 127) for byte in after[at:at + region.shape[1]]]
            assert found == expected[row].tolist(), f"{seed=} {row=}"
        # What is neither program nor result has not been touched.
        at = region.address + region.shape[0] * region.stride
        assert after[at:program.program_address] == before[at:program.program_address]
        assert after[program.program_address + len(program.encode()):] == before[
            program.program_address + len(program.encode()):]
