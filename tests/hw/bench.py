"""Shared helpers of the gateware's benches: run a simulation, move data through streams, play a waveform."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from amaranth.hdl import Elaboratable
from amaranth.lib import stream
from amaranth.sim import Simulator
from amaranth.sim._async import SimulatorContext  # public in amaranth.sim, but not in its stubs

Testbench = Callable[[SimulatorContext], Coroutine[Any, Any, None]]
PERIOD_S = 1e-6


def simulate(dut: Elaboratable, *testbenches: Testbench, limit: int = 100_000) -> None:
    """Run ``testbenches`` until all have ended; fail if that takes more than ``limit`` cycles."""
    simulator = Simulator(dut)
    simulator.add_clock(PERIOD_S, if_exists=True)
    for testbench in testbenches:
        simulator.add_testbench(testbench)

    async def watchdog(ctx: SimulatorContext) -> None:
        # A delay, not tick().repeat(): the latter is noisy when the other testbenches end first.
        await ctx.delay(limit * PERIOD_S)
        raise AssertionError(f"{type(dut).__name__}: not finished after {limit} cycles")

    simulator.add_testbench(watchdog, background=True)
    simulator.run()


async def put(ctx: SimulatorContext, port: stream.Interface, payload: Any, *, gap: int = 0) -> None:
    """Offer ``payload`` to a component's input stream after ``gap`` idle cycles, until it is taken."""
    for _ in range(gap):
        await ctx.tick()
    ctx.set(port.payload, payload)
    ctx.set(port.valid, 1)
    await ctx.tick().until(port.ready)
    ctx.set(port.valid, 0)


async def get(ctx: SimulatorContext, port: stream.Interface, *, pause: int = 0) -> Any:
    """Take one payload from a component's output stream, having refused for ``pause`` cycles."""
    for _ in range(pause):
        await ctx.tick()
    ctx.set(port.ready, 1)
    (payload,) = await ctx.tick().sample(port.payload).until(port.valid)
    ctx.set(port.ready, 0)
    return payload


def play(dut: Any, cycles: Sequence[Mapping[str, Any]], *outputs: str) -> list[Any]:
    """The values of ``outputs`` in each cycle while the inputs follow ``cycles``.

    Entry t of the result is what the ports hold during cycle t, in which the inputs are ``cycles[t]``; an
    input that is not named keeps its value. So a component with latency n answers entry t at entry t + n.
    One output gives plain values, several give tuples.
    """
    seen: list[Any] = []

    async def bench(ctx: SimulatorContext) -> None:
        ports = [getattr(dut, name) for name in outputs]
        for inputs in cycles:
            for name, value in inputs.items():
                ctx.set(getattr(dut, name), value)
            _, _, *values = await ctx.tick().sample(*ports)
            seen.append(values[0] if len(values) == 1 else tuple(values))

    simulate(dut, bench, limit=len(cycles) + 1)
    return seen
