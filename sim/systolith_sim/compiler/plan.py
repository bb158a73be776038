"""A GEMM as instructions and places, made from its sizes alone."""

from dataclasses import dataclass

from systolith_hw.config import TABLE_BYTES, CoreConfig
from systolith_hw.isa import Instruction
from systolith_hw.timing import MemoryTiming
from systolith_sim.compiler.assembler import Assembler
from systolith_sim.compiler.dram import Dram
from systolith_sim.compiler.emit import emit_gemm
from systolith_sim.compiler.fits import capacities
from systolith_sim.compiler.inputs import Operands, weight_offsets
from systolith_sim.compiler.places import DramMatrix, data_halves, parameter_tile, row_stride
from systolith_sim.compiler.search import search
from systolith_sim.compiler.tiling import Cut, Shape, Tiling

CONTRACT = MemoryTiming()
"""The memory of docs/contracts/memory.md."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One GEMM from DRAM to DRAM: everything but the data."""

    cut: Cut
    operands: Operands
    instructions: tuple[Instruction, ...]
    program_address: int
    memory_bytes: int

    @property
    def core(self) -> CoreConfig:
        """The core it is for."""
        return self.cut.core

    @property
    def shape(self) -> Shape:
        """Sizes of the GEMM."""
        return self.cut.shape

    @property
    def tiling(self) -> Tiling:
        """How it is cut."""
        return self.cut.tiling


def plan_gemm(core: CoreConfig, m: int, k: int, n: int, *, table: bool = False, signed: bool = True,
              zero_point: int = 0, memory: MemoryTiming = CONTRACT, tiling: Tiling | None = None) -> Plan:
    """Compile ``y (m, n) = a (m, k) w (k, n)`` without its data.

    Parameters
    ----------
    table : bool
        Whether results go through a table.
    signed : bool
        Whether activations are int8, not uint8.
    zero_point : int
        Zero point of the results, -128..127.
    memory : MemoryTiming
        What the search expects of the memory.
    tiling : Tiling, optional
        How to cut; searched for when not given.

    Raises
    ------
    ValueError
        If a size or the zero point is out of range, or the tiling does not fit the core.
    """
    shape = Shape(m=m, k=k, n=n)
    if not -128 <= zero_point <= 127:
        raise ValueError(f"zero_point must be in -128..127, not {zero_point}")
    if tiling is not None:
        return make_plan(core, shape, tiling, table=table, signed=signed, zero_point=zero_point)
    return search(core, shape, memory, lambda best: make_plan(
        core, shape, best, table=table, signed=signed, zero_point=zero_point))


def make_plan(core: CoreConfig, shape: Shape, tiling: Tiling, *, table: bool = False, signed: bool = True,
              zero_point: int = 0) -> Plan:
    """The plan of a given tiling.

    Raises
    ------
    ValueError
        If the tiling does not fit the core.
    """
    stride = row_stride(core, shape.k)
    if not (slots := capacities(core, shape, tiling, dram_stride=stride)).enough:
        raise ValueError(f"tiling must leave a slot in every memory, not {slots} with {tiling}")
    cut, dram = Cut(core, shape, tiling), Dram(core)
    input_half, output_half = data_halves(core)
    tiles = sum(block.tiles for block in cut.columns)
    operands = Operands(
        a=DramMatrix(dram.take(shape.m * stride), stride),
        weights=dram.take(weight_offsets(cut)[-1]),
        parameters=dram.take(tiles * parameter_tile(core)),
        table=dram.take(TABLE_BYTES) if table else None,
        y=DramMatrix(dram.take(shape.m * row_stride(core, shape.n)), row_stride(core, shape.n)),
        signed=signed, zero_point=zero_point, input_half=input_half, output_half=output_half)
    assembler = Assembler(core)
    emit_gemm(assembler, cut, operands)
    instructions = assembler.finish()
    return Plan(cut=cut, operands=operands, instructions=instructions,
                program_address=dram.program(len(instructions)), memory_bytes=dram.end)
