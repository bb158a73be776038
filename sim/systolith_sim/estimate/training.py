"""Estimate of a training step: forward, backward and optimizer on every device, pipeline, messages, memory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from systolith_model.formats import BITS
from systolith_model.graph import Graph, Operation
from systolith_model.workload import training_graph
from systolith_sim.devices.device import Device
from systolith_sim.estimate.adapt import (
    accumulating,
    of_backward_attention,
    power_limit,
    power_source,
    scaled,
    slowed,
    with_passes,
)
from systolith_sim.estimate.assemble import Parts, assembled
from systolith_sim.estimate.generate import Estimate
from systolith_sim.estimate.models import Model
from systolith_sim.estimate.passes import Kernel, Kernels, Pass
from systolith_sim.estimate.recipe import Recipe
from systolith_sim.estimate.replica import is_layer
from systolith_sim.estimate.replicas import Replicas, Share
from systolith_sim.estimate.request import Request
from systolith_sim.estimate.tally import JOULES, Tally, lacking_energy, on_links, static_power_w, tally_of, waiting
from systolith_sim.estimate.unfused import adding_gradients, joined, unfused, unfused_loss
from systolith_sim.parallel.layout import Layout
from systolith_sim.parallel.links import Ends, Fabric, Message
from systolith_sim.parallel.memory import Change, Memory, advice, own_experts
from systolith_sim.parallel.pipeline import PipelineTimes, PlayedPipeline, play_pipeline
from systolith_sim.parallel.shard import LAYER_SUMS, STAGES, pass_messages, shard
from systolith_sim.parallel.training_memory import held_training_memory

PHASES = ("recompute", "backward", "optimizer")


@dataclass
class TrainingStep:
    """One step of a model on the devices of a layout; sizes of one replica and micro-batch.

    Raises
    ------
    ValueError
        If the batch is no multiple of the replicas' micro-batches, or the layout cannot split the model.
    """

    device: Device
    model: Model
    layout: Layout
    recipe: Recipe
    request: Request

    def __post_init__(self) -> None:
        self.layout.check(self.model)
        self.fabric = Fabric.of(self.device)
        self.kernels = Kernels(self.device)
        self.power = power_limit(self.device)
        whole = self.layout.dp * self.micro_batch
        if self.request.batch % whole:
            raise ValueError(f"batch must be a multiple of dp x micro_batch = {whole}, not {self.request.batch}")

    @property
    def micro_batch(self) -> int:
        """Sequences of one micro-batch."""
        return self.layout.micro_batch or 1

    @property
    def micros(self) -> int:
        """Micro-batches of one replica."""
        return self.request.batch // self.layout.dp // self.micro_batch

    @cached_property
    def phases(self) -> dict[str, Pass]:
        """Kernels of one micro-batch by phase, of one device of each stage together; the optimizer's of one stage."""
        graph = training_graph(
            shard(self.model.shape, self.layout),
            tokens=self.request.prompt,
            batch=self.micro_batch,
            formats=self.request.formats,
            recompute=self.layout.recompute,
            flash=self.recipe.flash,
            gradient_format=self.recipe.gradient_format,
        )
        graph = joined(graph)
        if not self.recipe.flash:
            graph = unfused(graph, dropout=self.recipe.dropout)
        if not self.recipe.fused_loss:
            graph = unfused_loss(graph)
        if not self.recipe.fused_accumulation and self.micros > 1:
            graph = adding_gradients(graph, product=self.request.formats.residual)
        found: dict[str, list[Kernel]] = {name: [] for name in ("forward", *PHASES)}
        for kernel in self.kernels.cost(graph).kernels:
            phase = kernel.operation.name.partition(".")[0]
            found[phase if phase in PHASES else "forward"].append(self._adapted(graph, kernel))
        return {name: Pass(tuple(kernels)) for name, kernels in found.items()}

    def _adapted(self, graph: Graph, kernel: Kernel) -> Kernel:
        """A kernel as this layout runs it: backward attention, and what sequence parallelism or ZeRO splits."""
        operation, layout, recipe = kernel.operation, self.layout, self.recipe
        if operation.kind == "matmul":
            kernel = slowed(kernel, self.power)
        if operation.kind == "attention" and operation.attributes.get("backward"):
            return of_backward_attention(graph, kernel)
        if operation.name.startswith("optimizer."):
            kernel = with_passes(graph, kernel, recipe.pass_bytes)
            return replace(kernel, count=kernel.count / layout.pp / (layout.dp if layout.zero else 1))
        if self.micros > 1 and operation.name.endswith(".dw") and recipe.fused_accumulation:
            return accumulating(graph, kernel, self.device)
        if layout.sequence and layout.tp > 1 and _on_the_stream(operation):
            return scaled(kernel, 1 / layout.tp)
        return kernel

    def tally(self, phase: str, *, layers: float, ends: tuple[str, ...] = ("first", "last")) -> Tally:
        """A phase of one micro-batch with a share of the layers and some ends of the model, and its messages."""
        work = self.phases[phase].scaled(layers, _in_layer)
        for end in ("first", "last"):
            if end not in ends:
                work = work.scaled(0.0, lambda operation, end=end: not _in_layer(operation) and _end(operation) == end)
        return tally_of(self.device, work) + on_links(self._sums_s(phase), static_power_w(self.device)) * layers

    def _sums_s(self, phase: str) -> Ends:
        """Seconds of a micro-batch's messages inside tensor parallel groups, all layers."""
        if phase == "optimizer" or (phase == "recompute" and self.layout.recompute != "full"):
            return 0.0, 0.0, 0.0
        return self.fabric.total((m for m in self._messages() if m.name == LAYER_SUMS), self.layout)

    def _messages(self) -> tuple[Message, ...]:
        return pass_messages(
            self.model.shape,
            self.layout,
            rows=self.micro_batch * self.request.prompt,
            sequences=0,
            element_bytes=BITS[self.request.formats.residual] / 8,
        )

    def _shares(self, name: Literal["forward", "backward"]) -> Iterator[Share]:
        """What a micro-batch's pass is in each part of the pipeline."""
        parts = self.layout.pp * self.layout.interleave
        again = self.tally("recompute", layers=1 / parts, ends=()).seconds if name == "backward" else 0.0
        layers_s = self.tally(name, layers=1 / parts, ends=()).seconds + again
        layers = (self.model.shape.n_layers + self.model.shape.n_encoder_layers) / parts
        for part in range(parts):
            ends = tuple(end for end, here in (("first", part == 0), ("last", part == parts - 1)) if here)
            whole_s = self.tally(name, layers=1 / parts, ends=ends).seconds + again if ends else layers_s
            yield Share(layers, layers_s, ends, whole_s - layers_s)

    def times(self) -> PipelineTimes:
        """Seconds of one micro-batch in each part of the pipeline, and of a hop."""
        send_s = sum(self._hop_s(message) for message in self._messages() if message.name == STAGES)
        waited_s = 0.0 if self.recipe.overlaps_sends else send_s
        forward, backward = (
            tuple(
                share.layers_s + share.ends_s + self.replicas.bare_s(name, share)[1] + waited_s
                for share in self._shares(name)
            )
            for name in ("forward", "backward")
        )
        return PipelineTimes(forward, backward, send_s - waited_s)

    def _hop_s(self, message: Message) -> float:
        """Seconds of one hop: each device of a group sends its share, which the next group gathers in its node."""
        tp = self.layout.tp
        seconds = self.fabric.seconds(replace(message, bytes=message.bytes / tp), self.layout)
        if tp > 1 and not self.layout.sequence:
            seconds += self.fabric.seconds(Message("all_gather", message.bytes, "tp"), self.layout)
        return seconds

    @cached_property
    def replicas(self) -> Replicas:
        """Messages between replicas."""
        own = own_experts(shard(self.model.shape, self.layout), self.layout)
        return Replicas(
            self.fabric, self.layout, own, self.request.formats.weight.format, self.recipe.gradient_format,
            self.recipe.overlaps_gradients,
        )  # fmt: skip

    def micro_exchange_s(self) -> Ends:
        """Seconds that messages between replicas add to one micro-batch on a device, beside what its work hides."""
        ends = [
            self.replicas.bare_s(name, share) for name in ("forward", "backward") for share in self._shares(name)
        ]
        low, value, high = (sum(column) / self.layout.pp for column in zip(*ends, strict=True))
        return low, value, high

    def gradients_s(self) -> Ends:
        """Seconds between replicas once a step: gradients beside what the last backward pass hides, and weights."""
        shares = list(self._shares("backward"))[:: self.layout.pp]
        ends_s, ends = sum(share.ends_s for share in shares), shares[0].ends + shares[-1].ends
        last = Share(
            sum(share.layers for share in shares), sum(share.layers_s for share in shares),
            tuple(dict.fromkeys(ends)), ends_s,
        )  # fmt: skip
        behind, after = self.replicas.bare_s("last backward", last), self.replicas.after_s()
        return behind[0] + after[0], behind[1] + after[1], behind[2] + after[2]

    def play(self, *, trace: bool = False) -> PlayedPipeline:
        """The pipeline's micro-batches, stage by stage."""
        layout = self.layout
        return play_pipeline(
            self.times(), layout.schedule, stages=layout.pp, micros=self.micros, interleave=layout.interleave,
            trace=trace,
        )  # fmt: skip

    def whole(self) -> tuple[float, Tally]:
        """(seconds of the pipeline, tally of the step): joules of one replica, seconds of its slowest devices."""
        layout = self.layout
        pipeline_s = self.play().seconds
        work = Tally.zero()
        for phase in ("forward", "recompute", "backward"):
            work = work + self.tally(phase, layers=1.0)
        # Every device does its share of the work; the rest of the pipeline's time it waits.
        step = work * (self.micros / layout.pp)
        step = step + on_links(self.micro_exchange_s(), static_power_w(self.device)) * self.micros
        step = step + waiting(pipeline_s - step.seconds, "bubble", static_power_w(self.device))
        step = step + on_links(self.gradients_s(), static_power_w(self.device))
        step = step + self.tally("optimizer", layers=1.0)
        step.values[JOULES] *= layout.tp * layout.pp
        return pipeline_s, step

    def memory(self) -> Memory:
        """Memory of the fullest device."""
        return held_training_memory(
            self.model.shape,
            shard(self.model.shape, self.layout),
            self.layout,
            tokens=self.request.prompt,
            micro_batch=self.micro_batch,
            micros=self.micros,
            formats=self.request.formats,
            gradient_format=self.recipe.gradient_format,
            flash=self.recipe.flash,
            dropout=self.recipe.dropout,
            usable=self.device.main_memory.size_bytes.value,
        )


def _bare(operation: Operation) -> str:
    """Name without its phase."""
    head, _, rest = operation.name.partition(".")
    return rest if head in PHASES else operation.name


def _in_layer(operation: Operation) -> bool:
    return is_layer(replace(operation, name=_bare(operation)))


def _end(operation: Operation) -> str:
    """Which end of the model an operation outside the layers stands at."""
    return "first" if "embedding" in _bare(operation) or "positions" in _bare(operation) else "last"


def _on_the_stream(operation: Operation) -> bool:
    """Whether an operation works on the residual stream: norms, sums and biases of it, not what lies inside a block."""
    name = _bare(operation)
    last = name.rpartition(".")[2]
    of_stream = last.endswith("norm") or last.startswith("add_") or name.endswith(("o_proj.db", "down_proj.db"))
    return operation.kind in ("norm", "elementwise") and of_stream


def estimate_training(
    name: str, model: Model, device: Device, request: Request, layout: Layout, recipe: Recipe
) -> Estimate:
    """One training step on sequences of ``request.prompt`` tokens, ``request.batch`` of them.

    Raises
    ------
    ValueError
        As ``TrainingStep``, or if the device cannot compute a format.
    """
    step = TrainingStep(device, model, layout, recipe, request)
    _, tally = step.whole()
    memory = step.memory()
    lacking = lacking_energy(device, step.phases["forward"])
    parts = Parts(
        name=name, device=device, layout=layout, formats=request.formats, engine=recipe.id,
        tokens=request.batch * request.prompt, whole=tally, interval_s=tally.interval_s, memory=memory,
        lacking=lacking, provenance=_provenance(step, lacking),
    )  # fmt: skip
    passes = {phase: work for phase, work in step.phases.items() if work.kernels}
    one = Estimate(assembled(parts), device, passes, {"step": tally}, lambda: list(step.play(trace=True).spans))
    return one if memory.fits else one.with_provenance(fit=_sentence(step, memory))


def _sentence(step: TrainingStep, memory: Memory) -> str:
    """One sentence: what is missing, and the smallest change that would fit."""
    layout = step.layout

    def changed(make: Callable[[], Layout]) -> Callable[[], Memory | None]:
        def memory_after() -> Memory | None:
            try:
                return replace(step, layout=make()).memory()
            except ValueError:
                return None
        return memory_after

    changes: list[Change] = []
    if layout.recompute == "none":
        changes.append(Change("selective recomputation", changed(lambda: replace(layout, recompute="selective"))))
    if layout.recompute != "full":
        changes.append(Change("full recomputation", changed(lambda: replace(layout, recompute="full"))))
    if layout.dp > 1 and layout.zero == 0:
        changes.append(Change("ZeRO stage 1", changed(lambda: replace(layout, zero=1))))
    changes += [Change(f"tp {tp}", changed(lambda tp=tp: replace(layout, tp=tp))) for tp in _multiples(layout.tp, 8)]
    changes += [Change(f"pp {pp}", changed(lambda pp=pp: replace(layout, pp=pp))) for pp in _multiples(layout.pp, 16)]
    changes += [
        Change(f"tp 8 with pp {pp} and full recomputation",
               changed(lambda pp=pp: replace(layout, tp=8, pp=pp, recompute="full")))
        for pp in (2, 4, 8, 16, 32)
    ]
    return advice(memory, changes)


def _multiples(size: int, most: int) -> list[int]:
    """Twice the size, four times, and so on up to ``most`` times."""
    return [size * factor for factor in (2, 4, 8, 16) if factor <= most]


def _provenance(step: TrainingStep, lacking: str) -> dict[str, str]:
    layout = step.layout
    found = {
        "time": f"kernel cost model of {step.device.id}, forward and backward of {step.micros} micro-batches of "
        f"{step.micro_batch} a replica, played through a {layout.schedule} pipeline of {layout.pp}",
        "engine": step.recipe.name,
        "interval": "kinds of kernels at the ends of their scored errors, independent of each other",
        "energy": lacking or "static power x time + operations + bytes, devices without host",
        "memory": "weights, gradients, Adam's states and kept activations (arXiv 2205.05198)",
    }
    found |= power_source(step.device, step.power)
    return {**found, "overlap": overlap} if (overlap := _overlap(step)) else found


def _overlap(step: TrainingStep) -> str:
    """What hides behind work and what is waited for; empty on one device."""
    layout, said = step.layout, list[str]()
    if layout.dp > 1:
        bare_s = step.micros * step.micro_exchange_s()[1] + step.gradients_s()[1]
        how = "go on behind the passes, layer by layer" if step.recipe.overlaps_gradients else "stand alone"
        sent_s = step.replicas.sent_s(step.micros)
        said.append(f"messages between replicas {how}: {bare_s:.3g} s of {sent_s:.3g} s a step are waited for")
    if layout.pp > 1:
        said.append("stages " + ("go on while they send" if step.recipe.overlaps_sends else "wait for what they send"))
    if layout.tp > 1:
        said.append("messages inside tensor parallel groups are waited for")
    return "; ".join(said)
