"""Timeline of a pass: kernels of every layer in order, and the messages behind them, played in SimPy."""

from collections.abc import Iterator

import simpy
from simpy.events import ProcessGenerator

from systolith_sim.devices.timeline import Span
from systolith_sim.estimate.passes import Kernel
from systolith_sim.estimate.replica import Replica, is_layer
from systolith_sim.parallel.links import Message

SUMMED = ("o_proj", "cross_o_proj", "down_proj", "combine")
"""Operations whose results a tensor parallel group sums."""


def pass_timeline(replica: Replica, *, batch: int, prompt: int, done: int = 0, start_s: float = 0.0) -> list[Span]:
    """Spans of one pass of one device: tracks launch, compute, memory and link.

    The prompts' pass, or the step behind ``done`` tokens; one kernel after the other, as the estimate sums them.
    """
    spans: list[Span] = []
    env = simpy.Environment(initial_time=start_s)
    layout, rows = replica.layout, batch if done else batch * prompt
    message = Message("all_reduce", rows * replica.model.shape.hidden_size * replica.stream_bytes, "tp")
    sum_s = replica.fabric.seconds(message, layout) if layout.tp > 1 else 0.0

    def device() -> ProcessGenerator:
        for kernel in _in_order(list(replica.work(batch=batch, prompt=prompt, done=done).kernels)):
            time, name = kernel.time, kernel.operation.name
            body = time.seconds - time.launch_seconds
            parts = (("launch", time.launch_seconds), ("compute", min(time.compute_seconds, body)),
                     ("memory", min(time.memory_seconds, body)))  # fmt: skip
            for track, seconds in parts:
                offset = 0.0 if track == "launch" else time.launch_seconds
                if seconds > 0:
                    spans.append(Span(track=track, name=name, start_s=env.now + offset, duration_s=seconds))
            yield env.timeout(time.seconds)
            if sum_s and name.rpartition(".")[2] in SUMMED:
                spans.append(Span(track="link", name=f"sum of {name}", start_s=env.now, duration_s=sum_s))
                yield env.timeout(sum_s)

    env.run(until=env.process(device()))
    return spans


def _in_order(kernels: list[Kernel]) -> Iterator[Kernel]:
    """Kernels as they run: those of a group of layers in turn, as often as there are layers."""
    place = 0
    while place < len(kernels):
        group = kernels[place].operation.name.partition(".")[0]
        end = place + 1
        if is_layer(kernels[place].operation):
            while end < len(kernels) and kernels[end].operation.name.partition(".")[0] == group:
                end += 1
        for _ in range(max(1, round(kernels[place].count))):
            yield from kernels[place:end]
        place = end
