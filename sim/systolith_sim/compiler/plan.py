"""Linear layers as instructions and places, made from sizes alone: search and cycle model need no data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from systolith_hw.config import TABLE_BYTES, CoreConfig
from systolith_hw.isa import Instruction
from systolith_hw.timing import MemoryTiming
from systolith_sim.compiler.assembler import Assembler
from systolith_sim.compiler.dram import Dram
from systolith_sim.compiler.emit import emit_gemm
from systolith_sim.compiler.fits import Ends, capacities
from systolith_sim.compiler.inputs import Operands, weight_offsets
from systolith_sim.compiler.places import (
    ChipMatrix,
    DramMatrix,
    data_halves,
    parameter_tile,
    row_stride,
    up,
)
from systolith_sim.compiler.search import CHEAP_INSTRUCTIONS, first_guess, search
from systolith_sim.compiler.tiling import Cut, Shape, Tiling, is_whole

CONTRACT = MemoryTiming()
"""The memory of docs/contracts/memory.md."""


@dataclass(frozen=True, kw_only=True)
class Linear:
    """One linear layer, ``y (m, n) = a (m, k) w (k, n)``, requantized; sizes and names."""

    name: str
    a: str
    """Name of the activations."""
    y: str
    """Name of the results."""
    shape: Shape
    table: bool = False
    """Whether results go through a table."""
    signed: bool = True
    """Whether activations are int8, not uint8."""
    zero_point: int = 0
    """Zero point of the results."""

    def __post_init__(self) -> None:
        if not is_whole(self.zero_point) or not -128 <= self.zero_point <= 127:
            raise ValueError(f"zero_point of {self.name} must be an integer in -128..127, not {self.zero_point!r}")
        for field in ("signed", "table"):
            if getattr(self, field) not in (True, False):
                raise ValueError(f"{field} of {self.name} must be True or False, not {getattr(self, field)!r}")


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A linear layer with its place and its cut."""

    linear: Linear
    cut: Cut
    operands: Operands


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Linear layers from DRAM to DRAM: everything but the data."""

    core: CoreConfig
    layers: tuple[Layer, ...]
    tensors: Mapping[str, DramMatrix]
    """Activations that stand in DRAM; the others stay on chip."""
    outputs: tuple[str, ...]
    """Activations that no layer reads."""
    instructions: tuple[Instruction, ...]
    program_address: int
    memory_bytes: int

    @property
    def shape(self) -> Shape:
        """Sizes of the first layer."""
        return self.layers[0].linear.shape

    @property
    def tiling(self) -> Tiling:
        """Cut of the first layer."""
        return self.layers[0].cut.tiling


def plan_gemm(core: CoreConfig, m: int, k: int, n: int, *, table: bool = False, signed: bool = True,
              zero_point: int = 0, memory: MemoryTiming = CONTRACT, tiling: Tiling | None = None,
              play: bool = True) -> Plan:
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
    play : bool
        Let the cycle model play the best few; the closed form alone is faster and nearly as good.

    Raises
    ------
    ValueError
        If a size or the zero point is out of range, or the tiling does not fit the core.
    """
    linear = Linear(name="gemm", a="a", y="y", shape=Shape(m=m, k=k, n=n), table=table, signed=signed,
                    zero_point=zero_point)
    return plan_layers(core, [linear], memory=memory, tilings=None if tiling is None else [tiling], play=play)


def plan_layers(core: CoreConfig, linears: Sequence[Linear], *, memory: MemoryTiming = CONTRACT,
                tilings: Sequence[Tiling] | None = None, play: bool = True) -> Plan:
    """Compile layers in the order given; a result that only the next layer reads stays on chip where it fits.

    Parameters
    ----------
    memory : MemoryTiming
        What the search expects of the memory.
    tilings : sequence of Tiling, optional
        How to cut each layer; searched for when not given.
    play : bool
        As in ``plan_gemm``.

    Raises
    ------
    ValueError
        If there is no layer, or a tiling does not fit the core.
    """
    if not linears:
        raise ValueError("layers must hold at least one, not none")
    planner = _Planner(core, linears)
    if tilings is not None:
        return planner.plan(tilings)
    if play and len(linears) == 1:
        return search(core, linears[0].shape, memory, lambda tiling: planner.plan([tiling]),
                      ends=planner.ends(0))[1]
    chosen = [first_guess(core, linear.shape, memory, planner.ends(index))
              for index, linear in enumerate(linears)]
    plan = planner.plan(chosen)
    if not play or len(plan.instructions) > CHEAP_INSTRUCTIONS:
        return plan
    for index, linear in enumerate(linears):
        def with_layer(tiling: Tiling, index: int = index) -> Plan:
            return planner.plan([*chosen[:index], tiling, *chosen[index + 1:]])
        chosen[index], plan = search(core, linear.shape, memory, with_layer, ends=planner.ends(index))
    return plan


def _check_order(linears: Sequence[Linear]) -> None:
    """Every layer writes activations that nothing before it has written or read, itself included."""
    used: set[str] = set()
    for linear in linears:
        used.add(linear.a)
        if linear.y in used:
            raise ValueError(f"results of {linear.name} must be activations that no layer up to it writes or reads, "
                             f"not {linear.y}")
        used.add(linear.y)


class _Planner:
    """Knows what stays on chip; makes plans of tilings."""

    def __init__(self, core: CoreConfig, linears: Sequence[Linear]) -> None:
        self.core, self.linears = core, linears
        _check_order(linears)
        read = [linear.a for linear in linears]
        self.outputs = tuple(linear.y for linear in linears if linear.y not in read)
        self.on_chip = {before.y for before, after in pairwise(linears)
                        if before.y == after.a and read.count(before.y) == 1 and self._fits(after.shape)}

    def ends(self, index: int) -> Ends:
        """Where a layer's activations come from and go to."""
        linear = self.linears[index]
        return Ends(load=linear.a not in self.on_chip, store=linear.y not in self.on_chip)

    def plan(self, tilings: Sequence[Tiling]) -> Plan:
        """The plan of given tilings."""
        dram, assembler = Dram(self.core), Assembler(self.core)
        tensors: dict[str, DramMatrix | ChipMatrix] = {}
        layers, blocks = [], 0
        for index, (linear, tiling) in enumerate(zip(self.linears, tilings, strict=True)):
            if tiling.group_columns % self.core.port_bytes and tiling.group_columns < linear.shape.n:
                raise ValueError(f"group_columns must be a multiple of port_bytes = {self.core.port_bytes} or all "
                                 f"{linear.shape.n} columns, not {tiling.group_columns}")
            slots = capacities(self.core, linear.shape, tiling, self.ends(index))
            if not slots.enough:
                raise ValueError(f"tiling must leave a slot in every memory, not {slots} with {tiling}")
            cut = Cut(self.core, linear.shape, tiling)
            operands = self._operands(index, cut, tensors, dram, assembler)
            blocks = emit_gemm(assembler, cut, operands, first_bank=blocks)
            layers.append(Layer(linear=linear, cut=cut, operands=operands))
        instructions = assembler.finish()
        return Plan(core=self.core, layers=tuple(layers), outputs=self.outputs, instructions=instructions,
                    tensors={name: place for name, place in tensors.items() if isinstance(place, DramMatrix)},
                    program_address=dram.program(len(instructions)), memory_bytes=dram.end)

    def _operands(self, index: int, cut: Cut, tensors: dict[str, DramMatrix | ChipMatrix], dram: Dram,
                  assembler: Assembler) -> Operands:
        core, linear, shape = self.core, self.linears[index], cut.shape
        # Halves take turns, so that what stays is the next layer's input.
        halves = data_halves(core)[::-1] if index % 2 else data_halves(core)
        if linear.a not in tensors:
            stride = row_stride(core, shape.k)
            tensors[linear.a] = DramMatrix(dram.take(shape.m * stride), stride)
        weights = dram.take(weight_offsets(cut)[-1])
        parameters = dram.take(sum(block.tiles for block in cut.columns) * parameter_tile(core))
        table = dram.take(TABLE_BYTES) if linear.table else None
        if linear.y in self.on_chip:
            stride = self._chip_stride(shape.n)
            tensors[linear.y] = ChipMatrix.written(assembler, "data", halves[1][0], stride, shape.m)
        else:
            stride = row_stride(core, shape.n)
            address = dram.take(shape.m * stride)
            tensors[linear.y] = DramMatrix.written(assembler, "dram", address, stride, shape.m)
        return Operands(a=tensors[linear.a], y=tensors[linear.y], weights=weights, parameters=parameters,
                        table=table, table_slot=index % core.table_slots, signed=linear.signed,
                        zero_point=linear.zero_point, input_half=halves[0], output_half=halves[1])

    def _chip_stride(self, columns: int) -> int:
        """Stride of activations on chip: the array reads them in whole tiles."""
        return up(up(columns, self.core.rows), self.core.sizes.data_word_bytes)

    def _fits(self, shape: Shape) -> bool:
        """Whether the input of a layer can stay on chip."""
        size, bank = shape.m * self._chip_stride(shape.k), self.core.data_bytes // self.core.data_banks
        in_banks = size <= bank or bank % self._chip_stride(shape.k) == 0
        return size <= self.core.data_bytes // 2 and in_banks
