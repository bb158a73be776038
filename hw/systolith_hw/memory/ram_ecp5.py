"""The memory in DP16KD blocks, with the block's own output register.

Ref: Lattice Semiconductor, "ECP5 and ECP5-5G Memory Usage Guide", technical note TN1264: widths, address
pins, byte enables on the lowest address pins, output register. In the mode of 36 bits port A writes, port B
reads, and half of a word uses the other port's pins: the upper half when written, the lower half when read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal, Value

if TYPE_CHECKING:
    from systolith_hw.memory.ram import Ram

ADDRESS_PINS = 14
DATA_PINS = 18
"""Of one port."""
BYTE_BITS = 9
"""Bits under one byte enable."""
BLOCK_DEPTHS = {36: 512, 18: 1024, 9: 2048, 4: 4096, 2: 8192, 1: 16384}
"""Words of a block by their width."""
BLOCK_LATENCY = 2
"""The block itself and its output register."""


@dataclass(frozen=True)
class Tiling:
    """How a memory is cut: banks by address, lanes by width; a lane has its own write enable."""

    width: int
    """Mode of every block."""
    lanes: int
    """Lanes in one granule of the memory."""
    columns: int
    """Blocks side by side."""
    banks: int
    """Blocks behind one another."""

    @property
    def lane_bits(self) -> int:
        """Width of a lane: nothing smaller can be written by itself."""
        return min(self.width, BYTE_BITS)

    @property
    def blocks(self) -> int:
        """DP16KD used."""
        return self.columns * self.banks

    @classmethod
    def of(cls, *, granule_bits: int, granules: int, depth: int) -> Self:
        """The tiling with the fewest blocks, and among these with the fewest banks."""
        tilings = []
        for width, words in BLOCK_DEPTHS.items():
            lane_bits = min(width, BYTE_BITS)
            lanes = -(-granule_bits // lane_bits)
            columns = -(-granules * lanes // (width // lane_bits))
            tilings.append(cls(width, lanes, columns, -(-depth // words)))
        return min(tilings, key=lambda tiling: (tiling.blocks, tiling.banks))


def elaborate_ecp5(ram: "Ram") -> Module:
    """The inside of ``ram``; what is left of its latency is fabric."""
    m = Module()
    granules = len(ram.w_en)
    granule_bits = ram.width // granules
    tiling = Tiling.of(granule_bits=granule_bits, granules=granules, depth=ram.depth)
    index_bits = (BLOCK_DEPTHS[tiling.width] - 1).bit_length()
    # The lanes of each granule, then the granules: (first bit, bits, enable).
    lanes = [(granule * granule_bits + low, min(tiling.lane_bits, granule_bits - low), ram.w_en[granule])
             for granule in range(granules) for low in range(0, granule_bits, tiling.lane_bits)]
    per_block = tiling.width // tiling.lane_bits
    words = [Signal(ram.width, name=f"bank{bank}") for bank in range(tiling.banks)]
    for bank, word in enumerate(words):
        here = ram.w_address[index_bits:] == bank if tiling.banks > 1 else Const(1)
        for column in range(tiling.columns):
            mine = lanes[per_block * column:per_block * (column + 1)]
            w_data = [Cat(ram.w_data[first:first + bits], Const(0, tiling.lane_bits - bits))
                      for first, bits, _ in mine]
            r_data = Signal(tiling.width, name=f"data{bank}_{column}")
            m.submodules[f"block{bank}_{column}"] = _block(
                tiling.width, r_en=ram.r_en, r_index=ram.r_address[:index_bits], r_data=r_data,
                w_enables=[enable & here for _, _, enable in mine], w_index=ram.w_address[:index_bits],
                w_data=Cat(*w_data))
            for number, (first, bits, _) in enumerate(mine):
                low = tiling.lane_bits * number
                m.d.comb += word[first:first + bits].eq(r_data[low:low + bits])
    m.d.comb += ram.r_data.eq(_last(m, _selected(m, ram, words, index_bits), ram.latency - BLOCK_LATENCY))
    return m


def _selected(m: Module, ram: "Ram", words: Sequence[Signal], index_bits: int) -> Value:
    """The word of the bank that was addressed when what now leaves the output registers was."""
    if len(words) == 1:
        return words[0]
    bank = _last(m, ram.r_address[index_bits:], BLOCK_LATENCY)
    selected = Signal(ram.width)
    with m.Switch(bank):
        for number, word in enumerate(words):
            with m.Case(number):
                m.d.comb += selected.eq(word)
    return selected


def _last(m: Module, value: Value, cycles: int) -> Value:
    for _ in range(cycles):
        later = Signal(len(value), reset_less=True)
        m.d.sync += later.eq(value)
        value = later
    return value


def _block(
    width: int, *, r_en: Value, r_index: Value, r_data: Signal, w_enables: Sequence[Value], w_index: Value,
    w_data: Value,
) -> Instance:
    """One DP16KD that port A writes and port B reads, both output registers on."""
    parameters = {
        "DATA_WIDTH_A": width, "DATA_WIDTH_B": width, "REGMODE_A": "OUTREG", "REGMODE_B": "OUTREG",
        "RESETMODE": "SYNC", "ASYNC_RESET_RELEASE": "SYNC", "CSDECODE_A": "0b000", "CSDECODE_B": "0b000",
        "WRITEMODE_A": "NORMAL", "WRITEMODE_B": "NORMAL", "GSR": "DISABLED",
    }
    by_byte = width >= 2 * BYTE_BITS
    enables = Cat(*w_enables)
    w_address, r_address = _address(width, w_index), _address(width, r_index)
    if by_byte:
        w_address = Cat(enables, w_address[len(enables):])
    pins: dict[str, Value] = {
        "CLKA": ClockSignal(), "CEA": Const(1), "OCEA": Const(1), "RSTA": Const(0),
        "WEA": Const(1) if by_byte else enables,
        "CLKB": ClockSignal(), "CEB": r_en, "OCEB": Const(1), "RSTB": Const(0), "WEB": Const(0),
        **{f"CS{port}{index}": Const(0) for port in "AB" for index in range(3)},
        **_numbered("ADA", w_address), **_numbered("ADB", r_address),
        **_numbered("DIA", w_data[:DATA_PINS]), **_numbered("DIB", w_data[DATA_PINS:]),
    }
    outputs = _numbered("DOB", r_data) if width <= DATA_PINS else {
        **_numbered("DOA", r_data[:DATA_PINS]), **_numbered("DOB", r_data[DATA_PINS:])}
    return Instance(
        "DP16KD",
        *(("p", name, value) for name, value in parameters.items()),
        *(("i", name, value) for name, value in pins.items()),
        *(("o", name, value) for name, value in outputs.items()),
    )


def _address(width: int, index: Value) -> Value:
    """Pins for a word's number: wide words leave the lowest pins free."""
    low = ADDRESS_PINS - (BLOCK_DEPTHS[width] - 1).bit_length()
    return Cat(Const(0, low), index, Const(0, ADDRESS_PINS - low - len(index)))


def _numbered(prefix: str, value: Value) -> dict[str, Value]:
    return {f"{prefix}{index}": value[index] for index in range(len(value))}
