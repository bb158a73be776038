"""Pipelines: the order each stage works in, the SimPy play of it, and closed forms where they exist.

A stage of layers does forward and backward passes of micro-batches. A pass starts when the stage is free, its
neighbour has finished the same micro-batch, and the message between them has arrived.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import simpy
from simpy.events import ProcessGenerator

from systolith_sim.devices.timeline import Span
from systolith_sim.parallel.layout import Schedule


@dataclass(frozen=True)
class Task:
    """One pass of one micro-batch through one chunk of layers; chunk c of stage s is part ``c * stages + s``."""

    backward: bool
    micro: int
    chunk: int


@dataclass(frozen=True)
class PipelineTimes:
    """Seconds of one micro-batch in each part of the model, parts in order; and of a hop between two."""

    forward_s: tuple[float, ...]
    backward_s: tuple[float, ...]
    send_s: float = 0.0


@dataclass(frozen=True)
class PlayedPipeline:
    """End of the last pass, and the timeline with one track a stage."""

    seconds: float
    spans: tuple[Span, ...]


def order(schedule: Schedule, *, stages: int, stage: int, micros: int, interleave: int = 1) -> list[Task]:
    """Tasks of one stage in the order it does them.

    Raises
    ------
    ValueError
        If the interleaved schedule gets a number of micro-batches that the stages do not divide.
    """
    if schedule == "interleaved" and micros % stages:
        raise ValueError(f"micro-batches must be a multiple of the {stages} stages when interleaved, not {micros}")
    chunks = interleave if schedule == "interleaved" else 1
    forwards = [_task(False, k, stages, chunks) for k in range(micros * chunks)]
    backwards = [_task(True, k, stages, chunks) for k in range(micros * chunks)]
    if schedule == "gpipe":
        return forwards + backwards
    ahead = stages - stage - 1 if chunks == 1 else 2 * (stages - stage - 1) + (chunks - 1) * stages
    if chunks > 1 and micros == stages:
        ahead = micros * chunks  # all forwards first, as Megatron-LM does
    ahead = min(ahead, micros * chunks)
    tasks = forwards[:ahead]
    for index in range(ahead, micros * chunks):
        tasks += [forwards[index], backwards[index - ahead]]
    return tasks + backwards[micros * chunks - ahead :]


def _task(backward: bool, k: int, stages: int, chunks: int) -> Task:
    """The k-th pass of a stage: groups of ``stages`` micro-batches take the chunks in turn."""
    if chunks == 1:
        return Task(backward, k, 0)
    chunk = k % (stages * chunks) // stages
    micro = k // (stages * chunks) * stages + k % stages
    return Task(backward, micro, chunks - 1 - chunk if backward else chunk)


def bubble_free_s(times: PipelineTimes, *, stages: int, micros: int) -> float:
    """Seconds the busiest stage works; no schedule is faster."""
    each = [f + b for f, b in zip(times.forward_s, times.backward_s, strict=True)]
    return micros * max(sum(each[stage::stages]) for stage in range(stages))


def closed_form_s(times: PipelineTimes, *, stages: int, micros: int, interleave: int = 1) -> float:
    """Seconds of any of the schedules where all parts are alike and messages are free.

    ``(micros + (stages - 1) / interleave)`` times the passes of one stage (Narayanan et al., arXiv 2104.04473, 2.2).
    """
    return bubble_free_s(times, stages=stages, micros=micros) * (1 + (stages - 1) / (interleave * micros))


def in_flight(schedule: Schedule, *, stages: int, stage: int, micros: int, interleave: int = 1) -> float:
    """Most micro-batches whose activations a stage holds at once, in passes through all its layers."""
    held, most = 0, 0
    for task in order(schedule, stages=stages, stage=stage, micros=micros, interleave=interleave):
        held += -1 if task.backward else 1
        most = max(most, held)
    return most / (interleave if schedule == "interleaved" else 1)


def play_pipeline(
    times: PipelineTimes,
    schedule: Schedule,
    *,
    stages: int,
    micros: int,
    interleave: int = 1,
    trace: bool = False,
) -> PlayedPipeline:
    """Play a pipeline, event by event.

    Raises
    ------
    ValueError
        If there is not one part for each stage and chunk, or as ``order``.
    """
    parts = stages * (interleave if schedule == "interleaved" else 1)
    if not len(times.forward_s) == len(times.backward_s) == parts:
        raise ValueError(f"forward_s and backward_s must hold {parts} parts, not {len(times.forward_s)}")
    play = _Play(times, stages, parts, trace)
    for stage in range(stages):
        tasks = order(schedule, stages=stages, stage=stage, micros=micros, interleave=interleave)
        play.env.process(play.stage(stage, tasks))
    play.env.run()
    return PlayedPipeline(float(play.env.now), tuple(play.spans))


Pass = tuple[bool, int, int]
"""A pass by direction, micro-batch and part."""


class _Play:
    """State that the stages of one play share."""

    def __init__(self, times: PipelineTimes, stages: int, parts: int, trace: bool) -> None:
        self.times, self.stages, self.parts, self.trace = times, stages, parts, trace
        self.env, self.spans = simpy.Environment(), list[Span]()
        self.done_s: dict[Pass, float] = {}
        self.awaited: dict[Pass, simpy.Event] = {}

    def stage(self, stage: int, tasks: Sequence[Task]) -> ProcessGenerator:
        """One stage at its tasks, in order."""
        for task in tasks:
            part = task.chunk * self.stages + stage
            before = _needed(task, part, self.parts)
            if before is not None:
                yield from self._arrival(before, part)
            seconds = (self.times.backward_s if task.backward else self.times.forward_s)[part]
            if self.trace:
                name = f"{'backward' if task.backward else 'forward'} {task.micro}"
                span = Span(track=f"stage {stage}", name=name, start_s=self.env.now, duration_s=seconds)
                self.spans.append(span)
            yield self.env.timeout(seconds)
            finished = task.backward, task.micro, part
            self.done_s[finished] = float(self.env.now)
            if finished in self.awaited:
                self.awaited.pop(finished).succeed()

    def _arrival(self, before: Pass, part: int) -> ProcessGenerator:
        """Wait for a pass to end and for its message."""
        if before not in self.done_s:
            self.awaited[before] = self.env.event()
            yield self.awaited[before]
        ready_s = self.done_s[before] + (self.times.send_s if before[2] != part and self.stages > 1 else 0.0)
        if ready_s > self.env.now:
            yield self.env.timeout(ready_s - self.env.now)


def _needed(task: Task, part: int, parts: int) -> tuple[bool, int, int] | None:
    """The pass that must be finished before this one."""
    if not task.backward:
        return (False, task.micro, part - 1) if part else None
    return (True, task.micro, part + 1) if part < parts - 1 else (False, task.micro, part)
