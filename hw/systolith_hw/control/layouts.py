"""Instructions as the gateware holds them: structs made from the instruction set's tables."""

from amaranth import signed, unsigned
from amaranth.hdl import ShapeLike
from amaranth.lib import data

from systolith_hw.config import SEMAPHORES_PER_QUEUE, CoreConfig
from systolith_hw.isa import FIELDS, Opcode
from systolith_hw.operands import operand_rules

INDEX_BITS = 24
"""Bits of an instruction's index in its program."""


def instruction_layout(core: CoreConfig, opcode: Opcode) -> data.StructLayout:
    """An instruction in its queue: semaphores, index, and the built fields as narrow as the core allows."""
    rules = operand_rules(core)[opcode]
    members: dict[str, ShapeLike] = {
        "wait": 4 * SEMAPHORES_PER_QUEUE, "post": SEMAPHORES_PER_QUEUE, "index": INDEX_BITS}
    for name, field in FIELDS[opcode].items():
        if field.built:
            width = min(field.width, rules[name].most.bit_length()) if name in rules else field.width
            members[name] = signed(width) if field.signed else unsigned(max(width, 1))
    return data.StructLayout(members)
