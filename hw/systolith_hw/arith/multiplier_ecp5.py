"""The multiplier in one MULT18X18D, with the block's own registers.

Ref: Lattice Semiconductor, "ECP5 and ECP5-5G sysDSP Usage Guide", technical note TN1267: input, pipeline and
output registers of MULT18X18D, one cycle each when clocked.
"""

from typing import TYPE_CHECKING

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal, Value

if TYPE_CHECKING:
    from systolith_hw.arith.multiplier import Multiplier

OPERAND_BITS = 18
"""Bits of each operand of a MULT18X18D."""
BLOCK_LATENCY = 3
"""Input, pipeline and output register."""


def elaborate_ecp5(multiplier: "Multiplier") -> Module:
    """The inside of ``multiplier``, operands of at most 18 bits; what is left of the latency is fabric."""
    m = Module()
    # Aligned to the top, so that the places below are constants and no sign bit has to reach many pins.
    a, b = (Cat(Const(0, OPERAND_BITS - len(port)), port) for port in (multiplier.a, multiplier.b))
    product = Signal(2 * OPERAND_BITS)
    # SRIA and SRIB stay open: tied off, they cannot be routed (nextpnr issue 208).
    m.submodules.block = Instance(
        "MULT18X18D",
        *(("p", f"REG_{name}_CLK", "CLK0") for name in ("INPUTA", "INPUTB", "PIPELINE", "OUTPUT")),
        p_GSR="DISABLED",
        i_CLK0=ClockSignal(), i_CE0=Const(1), i_RST0=Const(0),
        i_SIGNEDA=Const(1), i_SIGNEDB=Const(1), i_SOURCEA=Const(0), i_SOURCEB=Const(0),
        **_pins("i_A", a), **_pins("i_B", b), **_pins("o_P", product),
    )
    value: Value = product[2 * OPERAND_BITS - len(multiplier.p):]
    # A register between block and adder: 216 instead of 185 MHz on grade 6.
    for stage in range(multiplier.latency - BLOCK_LATENCY):
        later = Signal.like(multiplier.p, name=f"p{stage}", reset_less=True)
        m.d.sync += later.eq(value)
        value = later
    m.d.comb += multiplier.p.eq(value)
    return m


def _pins(prefix: str, value: Value) -> dict[str, Value]:
    return {f"{prefix}{index}": value[index] for index in range(len(value))}
