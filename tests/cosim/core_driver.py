"""A core with cocotbext-axi around it: memory, control master, and the host's own driver on top."""

from typing import Any

from clocking import hush, stall_channels, start_clock_and_reset
from cocotb.task import bridge, resume
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiSlave

from systolith_hw.host import Host, RunStatus
from systolith_hw.program import Program
from systolith_hw.registers import Control, Register, Status


class Storage:
    """What stands behind the memory port; a place may be broken for reads or writes."""

    def __init__(self, size: int) -> None:
        self.content = bytearray(size)
        self.broken_read: int | None = None
        self.broken_write: int | None = None

    async def read(self, address: int, length: int) -> bytes:
        if self.broken_read is not None and address <= self.broken_read < address + length:
            raise OSError("planted read error")
        return bytes(self.content[address:address + length])

    async def write(self, address: int, data: bytes) -> None:
        if self.broken_write is not None and address <= self.broken_write < address + len(data):
            raise OSError("planted write error")
        self.content[address:address + len(data)] = data


class CoreBench:
    """The ``Target`` of ``systolith_hw.host``; its methods are called in the host's thread."""

    def __init__(self, dut: Any, *, memory_bytes: int, stall: float, seed: int) -> None:
        self.dut, self.storage = dut, Storage(memory_bytes)
        self.slave = AxiSlave(AxiBus.from_prefix(dut, "m_axi_"), dut.clk, dut.rst, target=self.storage)
        self.master = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil_"), dut.clk, dut.rst)
        hush(self.slave, "ERROR")
        hush(self.master, "ERROR")
        stall_channels(self.slave, f"memory{seed}", stall)
        stall_channels(self.master, f"host{seed}", stall)

    async def start(self) -> None:
        """Clock and reset."""
        await start_clock_and_reset(self.dut)

    async def run(self, program: Program) -> RunStatus:
        """Run a program with the host's driver; its state and all counters."""
        def work() -> RunStatus:
            return Host(self).run(program, max_cycles=20000, watchdog_cycles=2000, raise_fault=False)

        return await bridge(work)()

    async def run_loaded(self, program: Program, *, watchdog_cycles: int = 2000) -> int:
        """Run what stands in memory; the status word when the interrupt comes."""
        writes = {Register.PROGRAM_ADDRESS: program.program_address, Register.WATCHDOG: watchdog_cycles,
                  Register.PROGRAM_COUNT: len(program.instructions), Register.INTERRUPT_ENABLE: 1,
                  Register.CONTROL: Control.START}
        for register, value in writes.items():
            await self.master.write_dword(register, int(value))
        word = int(Status.RUNNING)
        while word & Status.RUNNING:  # the interrupt of the run before may be up for a moment yet
            while not self.dut.interrupt.value:
                await RisingEdge(self.dut.clk)
            word = await self.master.read_dword(Register.STATUS)
        return word

    @resume
    async def read32(self, address: int) -> int:
        return await self.master.read_dword(int(address))

    @resume
    async def write32(self, address: int, value: int) -> None:
        await self.master.write_dword(int(address), int(value))

    def read_memory(self, address: int, length: int) -> bytes:
        return bytes(self.storage.content[address:address + length])

    def write_memory(self, address: int, data: bytes) -> None:
        self.storage.content[address:address + len(data)] = data

    @resume
    async def advance(self, max_cycles: int) -> bool:
        for _ in range(max_cycles):
            await RisingEdge(self.dut.clk)
            if self.dut.interrupt.value:
                return True
        return False
