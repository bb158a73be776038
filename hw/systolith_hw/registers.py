"""The control port's registers: one list for gateware, driver and documents (docs/contracts/isa.md)."""

from enum import IntEnum, IntFlag

from systolith_hw.isa import QUEUES, STALL_CAUSES

IDENTIFIER = 0x53595354
"""What ``Register.IDENTIFIER`` reads as."""
HOST_REGISTERS = 16
"""Host-writable registers from ``Register.HOST_0`` on."""


class Register(IntEnum):
    """Byte addresses; 32 bits each. Addresses not named answer reads with 0 and ignore writes."""

    IDENTIFIER = 0x000
    VERSION = 0x004
    CONTROL = 0x008
    STATUS = 0x00C
    FAULT_INSTRUCTION = 0x010
    PROGRAM_ADDRESS = 0x014
    PROGRAM_COUNT = 0x018
    WATCHDOG = 0x01C
    INTERRUPT_ENABLE = 0x020
    HOST_0 = 0x040
    CYCLES = 0x100
    FIRST_ROW = 0x104
    """Cycle in which the first activation row of the run was read; 0 if none was."""
    LAST_ROW = 0x108
    """Cycle in which the last one was read."""
    LOAD_BUSY = 0x120
    MATMUL_BUSY = 0x140
    VECTOR_BUSY = 0x160
    STORE_BUSY = 0x180


class Control(IntFlag):
    """Bits of ``Register.CONTROL``, write only."""

    START = 1
    """Run the program; ignored while running or faulted."""
    CLEAR = 2
    """After a fault: forget it and everything under way, once the memory port is quiet."""


class Status(IntFlag):
    """Bits of ``Register.STATUS``; the fault code stands at bits 8 to 15, the queue of the fault at 16 to 18."""

    RUNNING = 1
    DONE = 2
    FAULT = 4
    QUIET = 8
    """No burst is outstanding at the memory port."""


class Fault(IntEnum):
    """Fault codes. ``FAULT_INSTRUCTION`` holds the index of the instruction in the program."""

    NONE = 0
    ILLEGAL_INSTRUCTION = 1
    DATA_READ_CONFLICT = 2
    """A matmul and a store read the same bank of the data scratchpad in the same cycle; the store is named."""
    DATA_WRITE_CONFLICT = 3
    """A load and a vector instruction write the same bank in the same cycle; the vector instruction is named."""
    ACCUMULATOR_CONFLICT = 4
    """A matmul and a vector instruction read the same accumulator bank in the same cycle; the vector is named."""
    SEMAPHORE_OVERFLOW = 5
    DEADLOCK = 6
    """Nothing moved for WATCHDOG cycles; the first queue in order whose head waits is named."""
    BUS_READ_ERROR = 7
    BUS_WRITE_ERROR = 8
    BUS_FETCH_ERROR = 9
    """The instruction of which a beat could not be read is named."""


FAULT_QUEUES = (*QUEUES, "fetch")
"""Meaning of the queue number of a fault."""


def counter(queue: str, cause: str) -> int:
    """Address of a queue's cycle counter: ``busy`` or one of the stall causes."""
    base = Register.LOAD_BUSY + 0x20 * QUEUES.index(queue)
    return base if cause == "busy" else base + 4 * (1 + STALL_CAUSES.index(cause))
