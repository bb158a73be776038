"""Replica: one copy of a model on ``tp * pp`` devices under an engine; seconds and joules of its passes."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from systolith_model.graph import BITS, Graph, Operation
from systolith_sim.devices.device import Device
from systolith_sim.estimate.engine import Engine
from systolith_sim.estimate.fusion import fused
from systolith_sim.estimate.models import Model
from systolith_sim.estimate.passes import Kernels, Pass, sum_over
from systolith_sim.estimate.request import Formats
from systolith_sim.estimate.tally import JOULES, Tally, static_power_w, tally_of, waiting
from systolith_sim.parallel.layout import Layout
from systolith_sim.parallel.links import Fabric
from systolith_sim.parallel.shard import pass_messages, shard


def is_layer(operation: Operation) -> bool:
    """Whether an operation stands in every layer, and so is dealt to pipeline stages."""
    return operation.name.startswith("layer.")


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
        self.fabric = Fabric.of(self.device)
        self.kernels = Kernels(self.engine.on(self.device))

    @cached_property
    def shard(self) -> Model:
        """What one device of a tensor parallel group computes, with all layers."""
        return self.model.with_config(shard(self.model.config, self.layout))

    def graph(self, *, batch: int, tokens: int, context: int) -> Graph:
        """One pass of one device, as the engine runs it."""
        graph = self.shard.graph(batch=batch, tokens=tokens, context=context, formats=self.formats)
        graph = with_cache_format(graph, self.formats)
        return fused(graph) if self.engine.fuses else graph

    def work(self, *, batch: int, tokens: int, context: int) -> Pass:
        """Kernels of one pass of one device of each stage together."""
        return self.kernels.cost(self.graph(batch=batch, tokens=tokens, context=context))

    def pass_tally(self, *, batch: int, tokens: int, context: int) -> Tally:
        """One pass of ``batch`` sequences, from embedding to logits: seconds in series, joules of all devices."""
        micros = min(self.layout.pp, batch)
        micro = -(-batch // micros)
        whole = self._through(micro, tokens, context)
        if micros == 1:
            return whole
        # The micro-batches follow each other through the slowest stage.
        stage = self._busiest_share(micro, tokens, context)
        total = whole + whole * stage * (micros - 1)
        total.values[JOULES] = whole.values[JOULES] * micros
        return total

    def step_tally(self, *, batch: int, context: int) -> Tally:
        """One decode step in the steady state of the pipeline: every sequence gets one token."""
        micros = min(self.layout.pp, batch)
        micro = -(-batch // micros)
        whole = self._through(micro, 1, context)
        if micros == 1:
            return whole
        period = max(1.0, micros * self._busiest_share(micro, 1, context))
        total = whole * period
        total.values[JOULES] = whole.values[JOULES] * micros
        return total

    def steps_tally(self, *, batch: int, first: int, last: int) -> Tally:
        """Decode steps at every context from ``first`` to ``last``; exact where a step is affine in it."""
        return Tally(sum_over(lambda context: self.step_tally(batch=batch, context=context).values, first, last))

    def _through(self, micro: int, tokens: int, context: int) -> Tally:
        """One micro-batch through all stages."""
        work = self.work(batch=micro, tokens=tokens, context=context)
        messages = self._messages_s(micro, tokens)
        engine = self.engine
        engine_s = engine.sequence_s.value * micro - (1 - engine.launch_share.value) * work.launch_s
        if self.layout.tp > 1:
            engine_s += engine.group_step_s.value
        power = static_power_w(self.device)
        one = tally_of(self.device, work) + waiting(engine_s, "engine", power) + waiting(messages, "link", power)
        one.values[JOULES] *= self.layout.tp
        return one

    def _messages_s(self, micro: int, tokens: int) -> float:
        messages = pass_messages(
            self.model.config,
            self.layout,
            rows=micro * tokens,
            sequences=micro,
            element_bytes=BITS[self.formats.activations] / 8,
        )
        return sum(message.count * self.fabric.seconds(message, self.layout) for message in messages)

    def _busiest_share(self, micro: int, tokens: int, context: int) -> float:
        """Share of one pass that the slowest stage takes: the last, with the head, or any with one layer more."""
        work = self.work(batch=micro, tokens=tokens, context=context)
        layers = work.scaled(0.0, lambda operation: not is_layer(operation)).seconds
        ends = work.seconds - layers
        share = -(-self.model.n_layers // self.layout.pp) / self.model.n_layers
        return float(np.clip((share * layers + ends) / work.seconds, share, 1.0))


def with_cache_format(graph: Graph, formats: Formats) -> Graph:
    """The graph with keys and values kept in the cache's format."""
    if formats.cache == formats.activations:
        return graph
    names = {name for operation in graph if operation.kind == "attention" for name in operation.inputs[1:3]}
    tensors = {
        name: replace(tensor, format=formats.cache) if name in names else tensor
        for name, tensor in graph.tensors.items()
    }
    return Graph(name=graph.name, tensors=tensors, operations=graph.operations)
