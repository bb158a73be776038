"""ZeRO and plain data parallelism: the messages between replicas, and how much of them the work does not hide.

Rajbhandari et al. 2020 (arXiv 1910.02054), section 7: a device sends and receives 2 Psi bytes a step with gradients
all-reduced, 2 Psi with stages 1 and 2 (gradients reduced and scattered, weights gathered after the optimizer), 3 Psi
with stage 3 (weights gathered in the forward pass and again in the backward pass, gradients reduced and scattered),
for Psi parameters and one micro-batch. With more, stages 2 and 3 send again for each of them, since a device keeps
no gradients, or no weights, of others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import simpy
from simpy.events import Event, ProcessGenerator

from systolith_sim.parallel.links import Message

When = Literal["forward", "backward", "last backward", "optimizer"]
"""What a message goes with: a pass of each micro-batch, the last one's backward pass, or the optimizer."""


@dataclass(frozen=True)
class Exchange:
    """A message between replicas, for parameters of any number: its kind, and what it goes with."""

    message: Literal["all_reduce", "reduce_scatter", "all_gather"]
    when: When
    of: Literal["weights", "gradients"]


EXCHANGES: tuple[tuple[Exchange, ...], ...] = (
    (Exchange("all_reduce", "last backward", "gradients"),),
    (Exchange("reduce_scatter", "last backward", "gradients"), Exchange("all_gather", "optimizer", "weights")),
    (Exchange("reduce_scatter", "backward", "gradients"), Exchange("all_gather", "optimizer", "weights")),
    (
        Exchange("all_gather", "forward", "weights"),
        Exchange("all_gather", "backward", "weights"),
        Exchange("reduce_scatter", "backward", "gradients"),
    ),
)
"""By ZeRO stage; 0 is plain data parallelism."""


def step_messages(stage: int, *, micros: int, weight_bytes: float, gradient_bytes: float) -> tuple[Message, ...]:
    """All messages between replicas of one step of ``micros`` micro-batches.

    ``weight_bytes`` and ``gradient_bytes`` are those of all parameters on one device, were nothing split over replicas.
    """
    sizes = {"weights": weight_bytes, "gradients": gradient_bytes}
    return tuple(
        Message(one.message, sizes[one.of], "dp", micros if one.when in ("forward", "backward") else 1, one.when)
        for one in EXCHANGES[stage]
    )


@dataclass(frozen=True)
class Unit:
    """A part of a pass whose parameters travel together, commonly a layer; seconds."""

    work_s: float
    gather_s: float = 0.0
    """Of the weights it needs before it works."""
    reduce_s: float = 0.0
    """Of the gradients it leaves behind."""


def play_units(units: Sequence[Unit]) -> float:
    """Seconds of a pass over units in order, until its last message has arrived.

    Weights of a unit are gathered while the one before it works, no earlier, as PyTorch's FSDP does by default
    (arXiv 2304.11277, section 3.3.2). One link carries all messages in the order they are asked for.
    """
    return _played(tuple(units))


@cache
def _played(units: tuple[Unit, ...]) -> float:
    env = simpy.Environment()
    link = simpy.Resource(env)
    here = [env.event() for _ in units]

    def message(seconds: float, arrived: Event | None = None) -> ProcessGenerator:
        if seconds:
            with link.request() as turn:
                yield turn
                yield env.timeout(seconds)
        if arrived is not None:
            arrived.succeed()

    def work() -> ProcessGenerator:
        for place, unit in enumerate(units):
            if not place:
                env.process(message(unit.gather_s, here[0]))
            yield here[place]
            if place + 1 < len(units):
                env.process(message(units[place + 1].gather_s, here[place + 1]))
            yield env.timeout(unit.work_s)
            env.process(message(unit.reduce_s))

    if units:
        env.process(work())
    env.run()
    return float(env.now)


def gathered_ahead_s(layers: int, *, work_s: float, gather_s: float) -> float:
    """Closed form of a forward pass of equal layers: the first gather is bare, the others hide behind work."""
    return gather_s + (layers - 1) * max(work_s, gather_s) + work_s


def reduced_behind_s(layers: int, *, work_s: float, reduce_s: float) -> float:
    """Closed form of a backward pass of equal layers that gathers nothing: the last reduction is bare."""
    return work_s + (layers - 1) * max(work_s, reduce_s) + reduce_s
