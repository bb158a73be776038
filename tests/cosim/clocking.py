"""Shared by the cocotb benches: clock, reset, random stalls."""

import random
from collections.abc import Iterator
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge


async def start_clock_and_reset(dut: Any) -> None:
    """A clock of 10 ns and two cycles of reset."""
    cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
    dut.rst.value = 1
    for _ in range(3):
        await RisingEdge(dut.clk)
    dut.rst.value = 0
    await RisingEdge(dut.clk)


def stalls(seed: str, chance: float) -> Iterator[bool]:
    """Pause or not, cycle after cycle: bursts of pauses, so that queues both run full and run empty."""
    rng = random.Random(seed)
    while True:
        pause, length = rng.random() < chance, rng.choice([1, 1, 2, 5, 12])
        for _ in range(length):
            yield pause


def stall_channels(interface: Any, seed: str, chance: float) -> None:
    """Random pauses on the five channels of a cocotbext-axi memory or master."""
    for half, channels in ((interface.write_if, ("aw", "w", "b")), (interface.read_if, ("ar", "r"))):
        for name in channels:
            getattr(half, f"{name}_channel").set_pause_generator(stalls(f"{seed}{name}", chance))


def hush(interface: Any, level: str) -> None:
    """Log nothing below ``level`` of a cocotbext-axi memory or master."""
    for half in (interface.write_if, interface.read_if):
        half.log.setLevel(level)


def packed(values: Any, bits: int) -> int:
    """Integers side by side, the first lowest, as Amaranth lays out an array."""
    return sum((int(value) & ((1 << bits) - 1)) << bits * place for place, value in enumerate(values))


def unpacked(word: int, bits: int, count: int) -> list[int]:
    """The signed integers that stand side by side in ``word``."""
    fields = [word >> bits * place & ((1 << bits) - 1) for place in range(count)]
    return [value - (1 << bits) if value >> (bits - 1) else value for value in fields]
