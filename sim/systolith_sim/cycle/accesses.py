"""What a program touches: the energy events of its instructions, which do not depend on time."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from systolith_hw.config import INSTRUCTION_BYTES, PARAMETER_BYTES, CoreConfig
from systolith_hw.isa import Instruction, Load, Matmul, Memory, Store
from systolith_hw.timing import requant_groups


@dataclass(frozen=True, slots=True)
class Accesses:
    """Energy events, to be multiplied by an energy each."""

    macs: int = 0
    """Multiply-accumulates of every processing element in every row that streams, padding included."""
    data_read_bytes: int = 0
    """Data scratchpad: activation rows and stores."""
    data_written_bytes: int = 0
    """Data scratchpad: loads and results."""
    weight_read_bytes: int = 0
    """Weight scratchpad: whole groups of weight rows."""
    weight_written_bytes: int = 0
    """Weight scratchpad: loads."""
    parameter_read_bytes: int = 0
    """Parameter memory: a word of every lane for each group of columns."""
    parameter_written_bytes: int = 0
    """Parameter memory: loads."""
    table_read_bytes: int = 0
    """Table memory: one entry an element."""
    table_written_bytes: int = 0
    """Table memory: loads."""
    accumulator_read_rows: int = 0
    """Accumulator rows of ``cols`` sums read, to be added to or drained."""
    accumulator_written_rows: int = 0
    """Accumulator rows of ``cols`` sums written."""
    dram_read_bytes: int = 0
    """Loads and instructions."""
    dram_written_bytes: int = 0
    """Stores."""

    @classmethod
    def total(cls, parts: Iterable[tuple["Accesses", int]]) -> Self:
        """The sum of accesses, each as often as its count says."""
        sums = dict.fromkeys(cls.__slots__, 0)
        for accesses, count in parts:
            for name in sums:
                sums[name] += count * getattr(accesses, name)
        return cls(**sums)


_WRITTEN = {Memory.DATA: "data_written_bytes", Memory.WEIGHT: "weight_written_bytes",
            Memory.PARAMETER: "parameter_written_bytes", Memory.TABLE: "table_written_bytes"}


def instruction_accesses(core: CoreConfig, instruction: Instruction) -> Accesses:
    """Energy events of one instruction, its own fetch included."""
    if isinstance(instruction, Matmul):
        sizes, m = core.sizes, instruction.m
        passes = instruction.k_tiles * instruction.n_tiles
        # The first K tile of a block that does not accumulate overwrites without a read.
        fresh = 0 if instruction.accumulate else instruction.n_tiles
        return Accesses(
            macs=passes * m * core.rows * core.cols,
            data_read_bytes=passes * m * core.rows,
            weight_read_bytes=passes * sizes.weight_groups * sizes.weight_group_bytes,
            accumulator_read_rows=(passes - fresh) * m,
            accumulator_written_rows=passes * m,
            dram_read_bytes=INSTRUCTION_BYTES,
        )
    if isinstance(instruction, Load | Store):
        moved = instruction.rows * instruction.row_bytes
        if isinstance(instruction, Store):
            return Accesses(data_read_bytes=moved, dram_written_bytes=moved,
                            dram_read_bytes=INSTRUCTION_BYTES)
        written = {_WRITTEN[Memory(instruction.memory)]: moved}
        return Accesses(dram_read_bytes=moved + INSTRUCTION_BYTES, **written)
    elements = instruction.m * instruction.n
    groups = instruction.m * requant_groups(core, n=instruction.n)
    return Accesses(
        accumulator_read_rows=instruction.m,
        parameter_read_bytes=groups * core.requant_lanes * PARAMETER_BYTES,
        table_read_bytes=elements if instruction.use_table else 0,
        data_written_bytes=elements,
        dram_read_bytes=INSTRUCTION_BYTES,
    )
