"""Whether a core can run a sequence of instructions: fields, places, semaphores.

What the software checks before it starts a program. The gateware's decoder checks each field again by the
same table (``systolith_hw.operands``); what depends on time, such as two queues in one bank, only it sees.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from systolith_hw.config import SEMAPHORES_PER_QUEUE, CoreConfig
from systolith_hw.isa import FIELDS, QUEUES, Instruction, Load, Matmul, Memory, Store, Vector
from systolith_hw.operands import local_bytes, operand_rules

SEMAPHORE_LIMIT = 255
"""The most a semaphore counts to."""


class IllegalProgram(ValueError):
    """A core cannot run a program; names the instruction, the field, what it holds and what is allowed."""


@dataclass(frozen=True)
class Block:
    """Rows of bytes (or of accumulator rows) that an instruction touches in one memory."""

    field: str
    """The field of the address."""
    memory: str
    size: int
    """Size of the memory."""
    bank: int
    """Size of a bank; no row crosses one."""
    address: int
    stride: int
    rows: int
    row: int
    """Length of one row."""

    @property
    def end(self) -> int:
        """What comes after the last row."""
        return self.address + (self.rows - 1) * self.stride + self.row


def check_instructions(core: CoreConfig, instructions: Sequence[Instruction], *, memory_bytes: int) -> None:
    """Check every field, every block and the order of waits and posts.

    Waits must be met when the instructions execute one after another in program order: then no depth of the
    queues can deadlock.

    Raises
    ------
    IllegalProgram
        At the first fault.
    """
    rules = operand_rules(core)
    semaphores = _Semaphores()
    for index, instruction in enumerate(instructions):
        try:
            instruction.encode()
            for name, (multiple, most) in rules[instruction.opcode].items():
                value = getattr(instruction, name)
                if value % multiple or value > most:
                    least = FIELDS[instruction.opcode][name].least
                    kind = f"a multiple of {multiple} in" if multiple > 1 else "in"
                    raise ValueError(f"{name} must be {kind} {least}..{most}, not {value}")
            for block in blocks(core, instruction, memory_bytes=memory_bytes):
                _check_block(block)
            semaphores.execute(instruction)
        except ValueError as error:
            raise IllegalProgram(f"instruction {index} ({instruction.queue}): {error}") from None


def blocks(core: CoreConfig, instruction: Instruction, *, memory_bytes: int) -> Iterator[Block]:
    """What the instruction reads and writes, memory by memory (docs/contracts/layout.md)."""
    match instruction:
        case Load() | Store():
            yield from _transfer_blocks(core, instruction, memory_bytes)
        case Matmul():
            yield from _matmul_blocks(core, instruction)
        case Vector():
            sizes, i = core.sizes, instruction
            groups = -(-i.n // core.requant_lanes)
            yield Block("acc_address", "the accumulator", core.acc_banks * core.acc_rows, core.acc_rows,
                        i.acc_address, 1, 1, i.m)
            yield Block("parameter_address", "the PARAMETER memory", core.parameter_bytes,
                        core.parameter_bytes, i.parameter_address, 0, 1, groups * sizes.parameter_word_bytes)
            yield _data_block(core, i.data_address, i.data_stride, i.m, i.n)


def _transfer_blocks(core: CoreConfig, i: Load | Store, memory_bytes: int) -> Iterator[Block]:
    memory = Memory(i.memory)
    size = local_bytes(core)[memory]
    bank = core.data_bytes // core.data_banks if memory is Memory.DATA else size
    yield Block("dram_address", "the DRAM", memory_bytes, memory_bytes,
                i.dram_address, i.dram_stride, i.rows, i.row_bytes)
    yield Block("local_address", f"the {memory.name} memory", size, bank,
                i.local_address, i.local_stride, i.rows, i.row_bytes)


def _matmul_blocks(core: CoreConfig, i: Matmul) -> Iterator[Block]:
    sizes = core.sizes
    yield _data_block(core, i.data_address, i.data_stride, i.m, i.k_tiles * core.rows)
    yield Block("weight_address", "the WEIGHT memory", core.weight_bytes, core.weight_bytes,
                i.weight_address, i.weight_stride, i.k_tiles * sizes.weight_groups,
                i.n_tiles * sizes.weight_group_bytes)
    yield Block("acc_address", "the accumulator", core.acc_banks * core.acc_rows, core.acc_rows,
                i.acc_address, i.acc_stride, i.n_tiles, i.m)


def _data_block(core: CoreConfig, address: int, stride: int, rows: int, row: int) -> Block:
    return Block("data_address", "the DATA memory", core.data_bytes, core.data_bytes // core.data_banks,
                 address, stride, rows, row)


def _check_block(block: Block) -> None:
    if block.end > block.size:
        raise ValueError(f"{block.field} must keep all {block.rows} rows of {block.row} within "
                         f"{block.memory} of {block.size}, not {block.address} (they end at {block.end})")
    if block.address // block.bank == (block.end - 1) // block.bank:
        return
    for row in range(block.rows):
        start = block.address + row * block.stride
        if start // block.bank != (start + block.row - 1) // block.bank:
            raise ValueError(f"{block.field} must keep each row of {block.row} within one bank of "
                             f"{block.bank} of {block.memory}, not {block.address} (row {row} at {start})")


class _Semaphores:
    """Counts after executing instructions one after another."""

    def __init__(self) -> None:
        self.counts = [0] * (len(QUEUES) * SEMAPHORES_PER_QUEUE)
        self.waiting: list[str | None] = [None] * len(self.counts)

    def execute(self, instruction: Instruction) -> None:
        if instruction.wait:
            self._wait(instruction.wait, instruction.queue)
        times = instruction.n_tiles if isinstance(instruction, Matmul) else 1
        first = QUEUES.index(instruction.queue) * SEMAPHORES_PER_QUEUE
        for bit in _bits(instruction.post):
            self.counts[first + bit] += times
            if self.counts[first + bit] > SEMAPHORE_LIMIT:
                raise ValueError(f"post must keep semaphore {_name(first + bit)} at <= {SEMAPHORE_LIMIT}, "
                                 f"not {self.counts[first + bit]}")

    def _wait(self, wait: int, queue: str) -> None:
        for bit in _bits(wait):
            if self.waiting[bit] not in (None, queue):
                raise ValueError(f"wait must name semaphores that no other queue awaits, not {_name(bit)}, "
                                 f"which {self.waiting[bit]} awaits")
            if not self.counts[bit]:
                raise ValueError("wait must name semaphores that earlier instructions raise, "
                                 f"not {_name(bit)}, which is down")
            self.waiting[bit] = queue
            self.counts[bit] -= 1


def _bits(mask: int) -> Iterator[int]:
    while mask:
        yield (mask & -mask).bit_length() - 1
        mask &= mask - 1


def _name(bit: int) -> str:
    return f"{QUEUES[bit // SEMAPHORES_PER_QUEUE]}.{bit % SEMAPHORES_PER_QUEUE}"
