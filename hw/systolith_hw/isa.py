"""The instruction set: layouts, encode, decode, disassemble (docs/contracts/isa.md).

An instruction is 32 bytes, little endian, one of four operations, each for the queue of its own name.
The tables ``HEADER`` and ``FIELDS`` are the only description of the bits; gateware and documents are made from them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import IntEnum
from types import MappingProxyType
from typing import ClassVar, Literal, Self

from systolith_hw.config import INSTRUCTION_BYTES, SEMAPHORES_PER_QUEUE

INSTRUCTION_BITS = 8 * INSTRUCTION_BYTES

QUEUES = ("load", "matmul", "vector", "store")
"""The four queues; also the order in which semaphores and stall causes stand."""

STALL_CAUSES = ("empty", "wait_load", "wait_matmul", "wait_vector", "wait_store", "in_flight")
"""Why the head of a queue has not started, in the order in which conditions are looked at."""


class Opcode(IntEnum):
    """Operation codes; 0 is illegal, so that zeroed memory is no program."""

    LOAD = 1
    MATMUL = 2
    VECTOR = 3
    STORE = 4


class Memory(IntEnum):
    """On-chip memories that a load can fill; a store reads DATA only."""

    DATA = 0
    WEIGHT = 1
    PARAMETER = 2
    TABLE = 3


@dataclass(frozen=True)
class Field:
    """Bits ``[start, start + width)`` of an instruction; ``built`` is false where only 0 is legal yet."""

    start: int
    width: int
    signed: bool = False
    least: int = 0
    built: bool = True

    @property
    def most(self) -> int:
        """The largest value that the bits hold."""
        return (1 << (self.width - self.signed)) - 1


HEADER: MappingProxyType[str, Field] = MappingProxyType({
    "opcode": Field(0, 4),
    "post": Field(4, SEMAPHORES_PER_QUEUE),
    "wait": Field(8, 4 * SEMAPHORES_PER_QUEUE),
    # Registers that will be added to the operation's addresses and counts, four selectors of four bits and an enable.
    "registers": Field(24, 20, built=False),
})
"""Fields of every instruction; bits 44 to 47 are flags of the operation, the rest begins at bit 48."""

_TRANSFER: MappingProxyType[str, Field] = MappingProxyType({
    "memory": Field(44, 2),
    "dram_address": Field(48, 32),
    "dram_stride": Field(80, 32),
    "local_address": Field(112, 24),
    "local_stride": Field(136, 24),
    "rows": Field(160, 16, least=1),
    "row_bytes": Field(176, 24, least=1),
})

FIELDS: Mapping[Opcode, MappingProxyType[str, Field]] = MappingProxyType({
    Opcode.LOAD: _TRANSFER,
    Opcode.MATMUL: MappingProxyType({
        "accumulate": Field(44, 1),
        "signed": Field(45, 1),
        "transposed": Field(46, 1, built=False),
        "row_shift": Field(47, 1, built=False),
        "data_address": Field(48, 24),
        "data_stride": Field(72, 24),
        "weight_address": Field(96, 24),
        "weight_stride": Field(120, 24),
        "acc_address": Field(144, 16),
        "acc_stride": Field(160, 16),
        "m": Field(176, 16, least=1),
        "k_tiles": Field(192, 20, least=1),
        "n_tiles": Field(212, 12, least=1),
    }),
    Opcode.VECTOR: MappingProxyType({
        "use_table": Field(44, 1),
        "acc_address": Field(48, 16),
        "m": Field(64, 16, least=1),
        "n": Field(80, 12, least=1),
        "table": Field(92, 4),
        "data_address": Field(96, 24),
        "data_stride": Field(120, 24),
        "parameter_address": Field(144, 24),
        "zero_point": Field(168, 8, signed=True),
    }),
    Opcode.STORE: _TRANSFER,
})
"""Fields of each operation beyond the header. Bits named nowhere must be 0."""


def semaphore(queue: str, index: int) -> int:
    """Bit of ``wait`` for the semaphore ``index`` that ``queue`` raises."""
    if not 0 <= index < SEMAPHORES_PER_QUEUE:
        raise ValueError(f"index must be in 0..{SEMAPHORES_PER_QUEUE - 1}, not {index}")
    return 1 << (QUEUES.index(queue) * SEMAPHORES_PER_QUEUE + index)


@dataclass(frozen=True, kw_only=True)
class _Instruction:
    opcode: ClassVar[Opcode]
    wait: int = 0
    """Semaphores that must be up; each is lowered by one at the start. Bit 4 * queue + index."""
    post: int = 0
    """Own semaphores raised by one when done (a matmul: once per N tile)."""

    @property
    def queue(self) -> str:
        """The queue that executes it."""
        return QUEUES[self.opcode - 1]

    def encode(self) -> bytes:
        """The 32 bytes of the instruction.

        Raises
        ------
        ValueError
            If a field does not fit its bits or is not built yet.
        """
        word = int(self.opcode)
        for name, place in (HEADER | FIELDS[self.opcode]).items():
            if name in ("opcode", "registers"):
                continue
            value = int(getattr(self, name))
            least = -place.most - 1 if place.signed else place.least
            if not least <= value <= place.most:
                raise ValueError(f"{name} of a {self.queue} must be in {least}..{place.most}, not {value}")
            if value and not place.built:
                raise ValueError(f"{name} of a {self.queue} must be 0, not {value}: not built yet")
            word |= (value & ((1 << place.width) - 1)) << place.start
        return word.to_bytes(INSTRUCTION_BYTES, "little")

    @classmethod
    def _decode(cls, word: int) -> Self:
        used = 0
        values = {}
        for name, place in (HEADER | FIELDS[cls.opcode]).items():
            mask = (1 << place.width) - 1
            used |= mask << place.start
            value = word >> place.start & mask
            if place.signed and value > place.most:
                value -= 1 << place.width
            if not place.signed and value < place.least:
                raise ValueError(f"{name} of a {QUEUES[cls.opcode - 1]} must be >= {place.least}, not {value}")
            if value and not place.built:
                raise ValueError(f"{name} of a {QUEUES[cls.opcode - 1]} must be 0, not {value}: not built yet")
            values[name] = value
        if word & ~used:
            raise ValueError(f"bits {word & ~used:#x} of a {QUEUES[cls.opcode - 1]} must be 0")
        return cls(**{entry.name: values[entry.name] for entry in fields(cls)})

    def __str__(self) -> str:
        """One line of disassembly."""
        waits = [f"{QUEUES[bit // SEMAPHORES_PER_QUEUE]}.{bit % SEMAPHORES_PER_QUEUE}"
                 for bit in range(4 * SEMAPHORES_PER_QUEUE) if self.wait >> bit & 1]
        posts = [f"{self.queue}.{bit}" for bit in range(SEMAPHORES_PER_QUEUE) if self.post >> bit & 1]
        body = " ".join(f"{entry.name}={int(getattr(self, entry.name))}" for entry in fields(self)
                        if entry.name not in ("wait", "post"))
        return " ".join([f"{self.queue:6}", body] + (["wait=" + ",".join(waits)] if waits else [])
                        + (["post=" + ",".join(posts)] if posts else []))


@dataclass(frozen=True, kw_only=True)
class _Transfer(_Instruction):
    memory: Memory | int
    dram_address: int
    dram_stride: int = 0
    local_address: int
    local_stride: int = 0
    rows: int = 1
    row_bytes: int


@dataclass(frozen=True, kw_only=True)
class Load(_Transfer):
    """Copy ``rows`` rows of ``row_bytes`` from DRAM into an on-chip memory; bytes are multiples of the port."""

    opcode = Opcode.LOAD


@dataclass(frozen=True, kw_only=True)
class Store(_Transfer):
    """Copy ``rows`` rows of ``row_bytes`` from the data scratchpad to DRAM; bytes are multiples of the port."""

    opcode = Opcode.STORE
    memory: Memory | int = Memory.DATA


@dataclass(frozen=True, kw_only=True)
class Matmul(_Instruction):
    """``m`` rows of activations times ``k_tiles`` x ``n_tiles`` weight tiles, into the accumulator."""

    opcode = Opcode.MATMUL
    accumulate: bool | int = False
    """Add to the accumulator from the first K tile on, instead of starting anew."""
    signed: bool | int = True
    """Activations are int8, not uint8."""
    transposed: Literal[0] = 0
    row_shift: Literal[0] = 0
    data_address: int
    data_stride: int
    weight_address: int
    weight_stride: int
    acc_address: int
    acc_stride: int = 0
    m: int
    k_tiles: int = 1
    n_tiles: int = 1


@dataclass(frozen=True, kw_only=True)
class Vector(_Instruction):
    """Read ``m`` accumulator rows, requantize the first ``n`` columns, write them to the data scratchpad."""

    opcode = Opcode.VECTOR
    use_table: bool | int = False
    acc_address: int
    m: int
    n: int
    table: int = 0
    data_address: int
    data_stride: int
    parameter_address: int
    zero_point: int = 0


Instruction = Load | Matmul | Vector | Store
_CLASSES = {Opcode.LOAD: Load, Opcode.MATMUL: Matmul, Opcode.VECTOR: Vector, Opcode.STORE: Store}


def decode(data: bytes) -> Instruction:
    """The instruction that 32 bytes hold.

    Raises
    ------
    ValueError
        If the bytes are no legal instruction.
    """
    if len(data) != INSTRUCTION_BYTES:
        raise ValueError(f"an instruction has {INSTRUCTION_BYTES} bytes, not {len(data)}")
    word = int.from_bytes(data, "little")
    opcode = word & 15
    if opcode not in _CLASSES:
        raise ValueError(f"opcode must be one of {', '.join(f'{code} ({code.name})' for code in Opcode)}, not {opcode}")
    return _CLASSES[Opcode(opcode)]._decode(word)
