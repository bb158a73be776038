"""SimPy play of a Graph on a Device: operations over launch, compute and memory, in the graph's order."""

from collections.abc import Iterable
from dataclasses import dataclass

import simpy
from simpy.events import ProcessGenerator

from systolith_model.graph import Graph, Operation
from systolith_sim.devices.device import Device
from systolith_sim.devices.kernel import KernelTime, Launch, cost
from systolith_sim.devices.timeline import Span

BUFFERS = 2
"""Operations whose weights may be on chip at once when the next is prefetched."""


@dataclass(frozen=True)
class Played:
    """A timeline and its end."""

    spans: tuple[Span, ...]
    total_s: float


def play(device: Device, graph: Graph, *, prefetch: bool = False, launch: Launch = "graph") -> Played:
    """Play a graph on a device, every instance of every operation.

    Parameters
    ----------
    prefetch : bool
        False: one kernel after the other, as a GPU stream runs them; the total is the sum of their seconds.
        True: the next operation's memory traffic runs behind the current one's compute, double buffered, as a
        compiler schedules a TPU.
    launch : {"graph", "eager"}
        As in ``kernel_time``.

    Raises
    ------
    ValueError
        As ``kernel_time``.
    """
    return played(cost(device, graph, launch=launch), prefetch=prefetch)


def played(costs: Iterable[tuple[Operation, KernelTime]], *, prefetch: bool = False) -> Played:
    """Play costs that are already known (see ``play``)."""
    work = [(operation, time) for operation, time in costs for _ in range(operation.count)]
    env, spans = simpy.Environment(), list[Span]()
    end = _double_buffered(env, work, spans) if prefetch else _in_order(env, work, spans)
    env.run(until=end)
    return Played(tuple(sorted(spans, key=lambda span: span.start_s)), float(env.now))


Work = list[tuple[Operation, KernelTime]]


def _span(
    spans: list[Span], env: simpy.Environment, track: str, operation: Operation, duration_s: float
) -> None:
    if duration_s > 0:
        spans.append(Span(track=track, name=operation.name, start_s=float(env.now), duration_s=duration_s))


def _in_order(env: simpy.Environment, work: Work, spans: list[Span]) -> simpy.Event:
    def stream() -> ProcessGenerator:
        for operation, time in work:
            _span(spans, env, "launch", operation, time.launch_seconds)
            yield env.timeout(time.launch_seconds)
            body = time.seconds - time.launch_seconds
            _span(spans, env, "compute", operation, min(time.compute_seconds, body))
            _span(spans, env, "memory", operation, min(time.memory_seconds, body))
            yield env.timeout(body)

    return env.process(stream())


def _double_buffered(env: simpy.Environment, work: Work, spans: list[Span]) -> simpy.Event:
    free = simpy.Container(env, capacity=BUFFERS, init=BUFFERS)
    full = simpy.Container(env, capacity=BUFFERS)

    def loader() -> ProcessGenerator:
        for operation, time in work:
            yield free.get(1)
            _span(spans, env, "memory", operation, time.memory_seconds)
            yield env.timeout(time.memory_seconds)
            yield full.put(1)

    def units() -> ProcessGenerator:
        for operation, time in work:
            yield full.get(1)
            _span(spans, env, "launch", operation, time.launch_seconds)
            yield env.timeout(time.launch_seconds)
            _span(spans, env, "compute", operation, time.compute_seconds)
            yield env.timeout(time.compute_seconds)
            yield free.put(1)

    env.process(loader())
    return env.process(units())
