"""Replica: one copy of a model on ``tp * pp`` devices under an engine; seconds and joules of its passes."""

from dataclasses import dataclass, field
from functools import cached_property
from math import ceil

import numpy as np

from systolith_model.formats import BITS, Formats
from systolith_model.graph import Graph, Operation
from systolith_sim.devices.device import Device
from systolith_sim.estimate.adapt import PowerLimit, limited, power_limit
from systolith_sim.estimate.engine import Engine
from systolith_sim.estimate.models import Model
from systolith_sim.estimate.passes import Kernels, Pass, joined_passes, sum_over
from systolith_sim.estimate.tally import JOULES, Tally, on_links, static_power_w, tally_of, waiting
from systolith_sim.parallel.layout import Layout
from systolith_sim.parallel.links import Fabric, Message
from systolith_sim.parallel.shard import busiest_experts, pass_messages, shard, with_expert_share


def is_layer(operation: Operation) -> bool:
    """Whether an operation stands in a layer, and so is dealt to pipeline stages."""
    return "layer" in operation.name.partition(".")[0]


@dataclass
class Replica:
    """A model on the devices of one replica.

    Raises
    ------
    ValueError
        If the layout cannot split the model.
    """

    device: Device
    model: Model
    layout: Layout
    engine: Engine
    formats: Formats
    fabric: Fabric = field(init=False)
    kernels: Kernels = field(init=False)

    def __post_init__(self) -> None:
        self.fabric = Fabric.of(self.device, own_all_reduce=self.engine.all_reduce == "own")
        self.kernels = Kernels(self.device)

    @cached_property
    def shard(self) -> Model:
        """What one device of a tensor parallel group computes, with all layers."""
        return self.model.with_shape(shard(self.model.shape, self.layout))

    @cached_property
    def power(self) -> PowerLimit | None:
        """What slows the products of prompts that have a pass of their own; decode steps draw less."""
        return power_limit(self.device)

    @property
    def stream_bytes(self) -> float:
        """Bytes of one element of the residual stream, which devices exchange."""
        return BITS[self.formats.residual] / 8

    def graph(self, *, batch: int, prompt: int, done: int = 0) -> Graph:
        """One pass of one device, as the engine runs it: the prompts', or the step behind ``done`` tokens."""
        formats, fused = self.formats, self.engine.fuses
        if done:
            graph = self.shard.step(batch=batch, prompt=prompt, done=done, formats=formats, fused=fused)
        else:
            graph = self.shard.prefill(batch=batch, prompt=prompt, formats=formats, fused=fused)
        rows = self._rows(batch, prompt, done)
        return with_expert_share(graph, self.model.shape, self.layout, rows)

    def work(self, *, batch: int, prompt: int, done: int = 0) -> Pass:
        """Kernels of one pass of one device of each stage together."""
        work = self.kernels.cost(self.graph(batch=batch, prompt=prompt, done=done))
        experts = self.model.shape.experts
        if self.layout.ep == 1 or experts is None:
            return work
        busiest = busiest_experts(experts, self.layout, self._rows(batch, prompt, done))
        return work.scaled(busiest / int(busiest), lambda operation: bool(operation.attributes.get("grouped")))

    def prefill_tally(self, *, batch: int, prompt: int) -> Tally:
        """The prompts' pass, from embedding to logits: seconds in series, joules of all devices."""
        micros = min(self.layout.pp, batch)
        micro = -(-batch // micros)
        whole = self._through(micro, prompt, 0)
        # The micro-batches follow each other through the slowest stage.
        return _in_series(whole, 1 + (micros - 1) * self._busiest_share(micro, prompt, 0), micros)

    def step_tally(self, *, batch: int, prompt: int, done: int) -> Tally:
        """One decode step in the steady state of the pipeline: every sequence gets one token."""
        micros = min(self.layout.pp, batch)
        micro = -(-batch // micros)
        whole = self._through(micro, prompt, done)
        return _in_series(whole, max(1.0, micros * self._busiest_share(micro, prompt, done)), micros)

    def steps_tally(self, *, batch: int, prompt: int, steps: int) -> Tally:
        """The first ``steps`` decode steps; exact where a step is affine in what came before it."""
        if not steps:
            return Tally.zero()
        return Tally(
            sum_over(lambda done: self.step_tally(batch=batch, prompt=prompt, done=done).values, 1, steps)
        )

    def mixed_tally(self, *, batch: int, prompt: int, done: int, prompts: float = 1.0) -> Tally:
        """A decode step of ``batch`` sequences with prompts that enter in the same pass.

        Products and streaming kernels see the rows of both; attention runs apart for prompts and for steps.
        ``prompts`` is at least 1.
        """
        wide, enter = self.work(batch=1, prompt=prompt + batch), self.work(batch=1, prompt=prompt)
        step = self.work(batch=batch, prompt=prompt, done=done)
        one = joined_passes(
            (
                wide.scaled(0.0, lambda operation: not is_layer(operation) or operation.kind == "attention"),
                enter.scaled(0.0, lambda operation: not is_layer(operation) or operation.kind != "attention"),
                step.scaled(0.0, lambda operation: is_layer(operation) and operation.kind != "attention"),
            )
        )
        # Further prompts make the same kernels longer; their launches are a small part of that.
        work, rows = joined_passes((one, enter.scaled(prompts - 1))), batch + round(prompts * prompt)
        return self._timed(work, rows=rows, sequences=batch + prompts, launched=one.operations)

    @property
    def mixes(self) -> bool:
        """Whether prompts enter with a decode step: decoders in one stage, under an engine that does so."""
        return self.engine.mixes and self.layout.pp == 1 and self.model.shape.kind == "decoder"

    def _through(self, micro: int, prompt: int, done: int) -> Tally:
        """One micro-batch through all stages."""
        work = self.work(batch=micro, prompt=prompt, done=done)
        work = work if done else limited(work, self.power)
        launched = 0.0 if done else work.operations
        return self._timed(work, rows=self._rows(micro, prompt, done), sequences=micro, launched=launched)

    def _timed(self, work: Pass, *, rows: int, sequences: float, launched: float) -> Tally:
        """A pass with its messages and what the engine adds; ``launched`` operations where no graph launches it."""
        engine, power = self.engine, static_power_w(self.device)
        messages = self._messages(rows, sequences)
        one = tally_of(self.device, work) + on_links(self.fabric.total(messages, self.layout), power)
        hidden_s = (1 - engine.launch_share.value) * work.launch_s
        engine_s = engine.step_s.value + engine.sequence_s.value * sequences - hidden_s
        if self.layout.tp > 1:
            engine_s += engine.group_step_s.value
        if launched:
            operations = launched + sum(message.count for message in messages)
            engine_s += max(0.0, operations * engine.eager_operation_s.value - (one.seconds - hidden_s))
        one = one + waiting(engine_s, "engine", power)
        one.values[JOULES] *= self.layout.tp
        return one

    def _rows(self, batch: int, prompt: int, done: int) -> int:
        """New tokens of a pass."""
        return batch if done else batch * prompt

    def _messages(self, rows: int, sequences: float) -> tuple[Message, ...]:
        return pass_messages(
            self.model.shape,
            self.layout,
            rows=rows,
            sequences=ceil(sequences),
            element_bytes=self.stream_bytes,
        )

    def _busiest_share(self, micro: int, prompt: int, done: int) -> float:
        """Share of one pass that the slowest stage takes: the last, with the head, or any with one layer more."""
        if self.layout.pp == 1:
            return 1.0
        work = self.work(batch=micro, prompt=prompt, done=done)
        layers = work.scaled(0.0, lambda operation: not is_layer(operation)).seconds
        share = -(-self.model.n_layers // self.layout.pp) / self.model.n_layers
        return float(np.clip((share * layers + work.seconds - layers) / work.seconds, share, 1.0))


def _in_series(whole: Tally, times: float, micros: int) -> Tally:
    """``micros`` micro-batches whose passes take ``times`` the time of one, and ``micros`` its joules."""
    total = whole * times
    total.values[JOULES] = whole.values[JOULES] * micros
    return total
