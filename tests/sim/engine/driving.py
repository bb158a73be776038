"""Using the stand-in, and what the memory's contract expects of it."""

from dataclasses import dataclass
from random import Random

import numpy as np
from engine.exerciser import ADDRESS, BUFFER, CHANNELS, COUNT, EVENT, LENGTH, PUSH, SELECT

from systolith_hw.registers import Control, Register
from systolith_hw.timing import MemoryTiming
from systolith_sim.engine import Engine, Stalls

PAGE_BYTES = 4096


@dataclass(frozen=True)
class Command:
    """One burst."""

    write: bool
    address: int
    beats: int


def random_commands(random: Random, *, count: int, port_bytes: int, memory_bytes: int) -> list[Command]:
    """Bursts anywhere in memory that cross no page."""
    commands = []
    for _ in range(count):
        beats = random.choice([1, 1, 2, 3, 8, 16])
        page = random.randrange(memory_bytes // PAGE_BYTES)
        beat = random.randrange(PAGE_BYTES // port_bytes - beats + 1)
        commands.append(Command(random.random() < 0.4, page * PAGE_BYTES + beat * port_bytes, beats))
    return commands


def issue(engine: Engine, commands: list[Command], *, max_cycles: int = 100_000) -> bool:
    """Run commands; whether they have ended."""
    for command in commands:
        engine.write32(ADDRESS, command.address)
        engine.write32(LENGTH, command.write << 8 | command.beats - 1)
        engine.write32(PUSH, 0)
    engine.write32(Register.INTERRUPT_ENABLE, 1)
    engine.write32(Register.CONTROL, Control.START)
    return engine.advance(max_cycles)


def events(engine: Engine) -> dict[str, list[int]]:
    """Cycles of the handshakes of the last run."""
    found = {}
    for number, channel in enumerate(CHANNELS):
        engine.write32(SELECT, number << 12)
        cycles = []
        for index in range(engine.read32(COUNT)):
            engine.write32(SELECT, number << 12 | index)
            cycles.append(engine.read32(EVENT))
        found[channel] = cycles
    return found


def responses(engine: Engine, count: int) -> list[int]:
    """Responses of the read beats since the beginning."""
    codes = []
    for index in range(count):
        engine.write32(SELECT, index)
        codes.append(engine.read32(BUFFER))
    return codes


def expected_events(commands: list[Command], timing: MemoryTiming, stalls: Stalls | None
                    ) -> dict[str, list[int]]:
    """Rules M4 to M8; the stand-in offers the next address as soon as the previous one is done with."""
    waits = {name: iter(stalls.waits(name, 4096).tolist() if stalls else [0] * 4096) for name in CHANNELS}
    cycles: dict[str, list[int]] = {name: [] for name in CHANNELS}
    offered, busy_until = 1, 0
    for command in commands:
        kind = "aw" if command.write else "ar"
        accepted = max(offered, busy_until) + next(waits[kind])
        cycles[kind].append(accepted)
        busy_until = accepted + command.beats + timing.burst_overhead
        beat, first = ("w", accepted + 1) if command.write else ("r", accepted + timing.latency)
        for _ in range(command.beats):
            earliest = max(first, cycles[beat][-1] + 1 if cycles[beat] else 0)
            cycles[beat].append(earliest + next(waits[beat]))
        offered = accepted + 1
        if command.write:
            offered = cycles["w"][-1] + 1
            earliest = max(cycles["w"][-1] + timing.write_latency, cycles["b"][-1] + 1 if cycles["b"] else 0)
            cycles["b"].append(earliest + next(waits["b"]))
    return cycles


def fill(engine: Engine, seed: int) -> np.ndarray:
    """Random contents; a copy of them."""
    engine.memory[:] = np.random.default_rng(seed).integers(0, 256, len(engine.memory), dtype=np.uint8)
    return engine.memory.copy()
