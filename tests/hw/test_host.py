"""The host driver against a control port of a few lines."""

import pytest

from systolith_hw.host import CoreFault, Host, HostError
from systolith_hw.isa import STALL_CAUSES, Store
from systolith_hw.program import Program, Segment
from systolith_hw.registers import IDENTIFIER, Control, Fault, Register, Status, counter

STORE = Store(dram_address=0, local_address=0, row_bytes=8)
PROGRAM = Program(instructions=(STORE,), program_address=256, memory_bytes=1024, image=(Segment(0, b"image"),))


class Port:
    """Registers that run for ``length`` cycles and then show ``end``."""

    def __init__(self, *, length: int = 0, end: int = Status.DONE | Status.QUIET) -> None:
        self.registers = {int(Register.IDENTIFIER): IDENTIFIER, int(Register.STATUS): int(Status.QUIET)}
        self.memory = bytearray(PROGRAM.memory_bytes)
        self.length, self.end, self.left, self.writes = length, end, 0, []

    def read32(self, address: int) -> int:
        return self.registers.get(int(address), 0)

    def write32(self, address: int, value: int) -> None:
        self.writes.append((int(address), int(value)))
        if address == Register.CONTROL and value == Control.START:
            self.left, self.registers[int(Register.STATUS)] = self.length, int(Status.RUNNING)
        if address == Register.CONTROL and value == Control.CLEAR:
            self.registers[int(Register.STATUS)] = int(Status.QUIET)

    def read_memory(self, address: int, length: int) -> bytes:
        return bytes(self.memory[address:address + length])

    def write_memory(self, address: int, data: bytes) -> None:
        self.memory[address:address + len(data)] = data

    def advance(self, max_cycles: int) -> bool:
        if self.left > max_cycles:
            self.left -= max_cycles
            return False
        self.left, self.registers[int(Register.STATUS)] = 0, int(self.end)
        return True


def test_a_run_loads_starts_and_reads_everything():
    port, seen = Port(length=200_000), []
    port.registers |= {int(Register.CYCLES): 199_990, counter("store", "busy"): 7, counter("load", "empty"): 9}
    status = Host(port).run(PROGRAM, progress=seen.append, watchdog_cycles=500)
    assert bytes(port.memory[:5]) == b"image"
    assert port.memory[256:288] == STORE.encode()
    assert port.writes == [(Register.PROGRAM_ADDRESS, 256), (Register.PROGRAM_COUNT, 1), (Register.WATCHDOG, 500),
                           (Register.INTERRUPT_ENABLE, 1), (Register.CONTROL, Control.START)]
    assert seen == [65536, 131072, 196608]
    assert (status.cycles, status.fault, status.queue, status.instruction) == (199_990, Fault.NONE, None, None)
    assert status.counters["store"] == {"busy": 7} | dict.fromkeys(STALL_CAUSES, 0)
    assert status.counters["load"]["empty"] == 9


def faulted(fault: Fault, queue: int) -> Port:
    return Port(end=Status.FAULT | Status.QUIET | fault << 8 | queue << 16)


def test_a_fault_is_a_sentence():
    with pytest.raises(CoreFault) as caught:
        Host(faulted(Fault.BUS_WRITE_ERROR, 3)).run(PROGRAM)
    assert str(caught.value) == f"bus write error after 0 cycles, queue store, instruction 0: {STORE}"
    assert caught.value.status.fault is Fault.BUS_WRITE_ERROR


def test_a_fault_can_be_a_status():
    status = Host(faulted(Fault.BUS_FETCH_ERROR, 4)).run(PROGRAM, raise_fault=False)
    assert (status.fault, status.queue, status.instruction) == (Fault.BUS_FETCH_ERROR, "fetch", 0)


def test_a_faulted_core_runs_only_after_clear():
    port = faulted(Fault.DEADLOCK, 0)
    host = Host(port)
    host.run(PROGRAM, raise_fault=False)
    with pytest.raises(HostError, match="the core must be idle before a run"):
        host.run(PROGRAM)
    host.clear()
    assert port.writes[-2:] == [(Register.INTERRUPT_ENABLE, 0), (Register.CONTROL, Control.CLEAR)]
    assert host.run(PROGRAM, raise_fault=False).fault is Fault.DEADLOCK


def test_clear_waits_for_quiet_but_not_forever():
    port = faulted(Fault.DEADLOCK, 0)
    host = Host(port)
    host.run(PROGRAM, raise_fault=False)
    port.registers[int(Register.STATUS)], port.end = int(Status.FAULT), int(Status.FAULT)
    with pytest.raises(HostError, match="the memory port must become quiet within"):
        host.clear()


def test_an_endless_run_is_given_up():
    with pytest.raises(HostError, match="the program must end within max_cycles = 1000"):
        Host(Port(length=2000)).run(PROGRAM, max_cycles=1000)


def test_what_is_no_core_is_refused():
    port = Port()
    port.registers[int(Register.IDENTIFIER)] = 5
    with pytest.raises(HostError, match="the identifier must read 0x53595354, not 0x00000005"):
        Host(port)
