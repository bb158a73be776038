"""Shared by the benches of the units: instructions as the units see them."""

from typing import Any

from amaranth.sim._async import SimulatorContext  # public in amaranth.sim, but not in its stubs

from systolith_hw.config import CoreConfig
from systolith_hw.control.layouts import instruction_layout
from systolith_hw.isa import Instruction


def payload(core: CoreConfig, instruction: Instruction, *, index: int = 0) -> dict[str, int]:
    """The fields that the queues hold of an instruction."""
    names = instruction_layout(core, instruction.opcode).members
    return {name: index if name == "index" else int(getattr(instruction, name)) for name in names}


async def start(ctx: SimulatorContext, unit: Any, core: CoreConfig, instruction: Instruction, *, index: int
                ) -> int:
    """Start the instruction as soon as the unit is free and has room; the cycles that passed before."""
    waited = 0
    while not (ctx.get(unit.free) and ctx.get(unit.room)):
        await ctx.tick()
        waited += 1
    ctx.set(unit.instruction, payload(core, instruction, index=index))
    ctx.set(unit.start, 1)
    await ctx.tick()
    ctx.set(unit.start, 0)
    return waited
