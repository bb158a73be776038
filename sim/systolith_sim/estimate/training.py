"""Estimate of a training step: forward, backward and optimizer on every device, pipeline, messages, memory."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

from systolith_model.formats import BITS
from systolith_model.graph import Graph, Operation, flops
from systolith_model.parameters import parameter_count
from systolith_model.workload import training_graph
from systolith_sim.devices.device import Device
from systolith_sim.estimate.assemble import Parts, assembled
from systolith_sim.estimate.generate import Estimate
from systolith_sim.estimate.models import Model
from systolith_sim.estimate.passes import Kernel, Kernels, Pass
from systolith_sim.estimate.recipe import Recipe
from systolith_sim.estimate.replica import is_layer
from systolith_sim.estimate.request import Request
from systolith_sim.estimate.tally import JOULES, Tally, lacking_energy, on_links, static_power_w, tally_of, waiting
from systolith_sim.estimate.unfused import unfused
from systolith_sim.parallel.layout import Layout
from systolith_sim.parallel.links import Ends, Fabric, Message
from systolith_sim.parallel.memory import Change, Memory, advice, own_experts
from systolith_sim.parallel.pipeline import PipelineTimes, PlayedPipeline, play_pipeline
from systolith_sim.parallel.shard import LAYER_SUMS, STAGES, pass_messages, shard
from systolith_sim.parallel.training_memory import held_training_memory

BACKWARD_RATE = 1.15
"""How much slower an operation of the backward pass of fused attention is than one of the forward pass: 73 % of the
peak forward, 63 % backward on A100 (Dao, FlashAttention-2, arXiv 2307.08691, section 4.1)."""
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
        if not self.recipe.flash:
            graph = unfused(graph, dropout=self.recipe.dropout)
        found: dict[str, list[Kernel]] = {name: [] for name in ("forward", *PHASES)}
        for kernel in self.kernels.cost(graph).kernels:
            phase = kernel.operation.name.partition(".")[0]
            found[phase if phase in PHASES else "forward"].append(self._adapted(graph, kernel))
        return {name: Pass(tuple(kernels)) for name, kernels in found.items()}

    def _adapted(self, graph: Graph, kernel: Kernel) -> Kernel:
        """A kernel as this layout runs it: backward attention, and what sequence parallelism or ZeRO splits."""
        operation, layout = kernel.operation, self.layout
        if operation.kind == "attention" and operation.attributes.get("backward"):
            return backward_attention(graph, kernel)
        if operation.name.startswith("optimizer."):
            return replace(kernel, count=kernel.count / layout.pp / (layout.dp if layout.zero else 1))
        if self.micros > 1 and operation.name.endswith(".dw"):
            return _accumulating(graph, kernel, self.device)
        if layout.sequence and layout.tp > 1 and _on_the_stream(operation):
            return _scaled(kernel, 1 / layout.tp)
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

    def times(self) -> PipelineTimes:
        """Seconds of one micro-batch in each part of the pipeline, and of a hop."""
        parts = self.layout.pp * self.layout.interleave
        forward, backward = [], []
        for part in range(parts):
            ends = tuple(
                name for name, here in (("first", part == 0), ("last", part == parts - 1)) if here
            )
            forward.append(self.tally("forward", layers=1 / parts, ends=ends).seconds)
            behind = self.tally("backward", layers=1 / parts, ends=ends)
            backward.append((behind + self.tally("recompute", layers=1 / parts, ends=())).seconds)
        send_s = sum(self._hop_s(message) for message in self._messages() if message.name == STAGES)
        if self.recipe.overlaps_sends:
            return PipelineTimes(tuple(forward), tuple(backward), send_s)
        return PipelineTimes(tuple(f + send_s for f in forward), tuple(b + send_s for b in backward))

    def _hop_s(self, message: Message) -> float:
        """Seconds of one hop: each device of a group sends its share, which the next group gathers in its node."""
        tp = self.layout.tp
        seconds = self.fabric.seconds(replace(message, bytes=message.bytes / tp), self.layout)
        if tp > 1 and not self.layout.sequence:
            seconds += self.fabric.seconds(Message("all_gather", message.bytes, "tp"), self.layout)
        return seconds

    def gradients_s(self) -> Ends:
        """Seconds of summing gradients over replicas, beside what the backward pass hides."""
        if self.layout.dp == 1:
            return 0.0, 0.0, 0.0
        count = parameter_count(own_experts(shard(self.model.shape, self.layout), self.layout)) / self.layout.pp
        size = count * BITS[self.recipe.gradient_format] / 8
        low, value, high = self.fabric.total([Message("all_reduce", size, "dp")], self.layout)
        hidden = 0.0
        if self.recipe.overlaps_gradients:
            hidden = self.tally("backward", layers=1 / self.layout.pp).seconds
        return max(0.0, low - hidden), max(0.0, value - hidden), max(0.0, high - hidden)

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


def backward_attention(graph: Graph, kernel: Kernel) -> Kernel:
    """The kernel of attention's backward pass, whose cost was that of the forward pass, with its own work."""
    operation = kernel.operation
    ahead = replace(operation, attributes={**operation.attributes, "backward": False})
    return _scaled(kernel, BACKWARD_RATE * flops(graph, operation) / flops(graph, ahead))


def _scaled(kernel: Kernel, factor: float) -> Kernel:
    """The kernel with ``factor`` times its work, its launch unchanged."""
    time = kernel.time

    def scaled(seconds: float) -> float:
        return time.launch_seconds + factor * max(0.0, seconds - time.launch_seconds)

    scaled_time = replace(
        time,
        seconds=scaled(time.seconds),
        low=scaled(time.low),
        high=scaled(time.high),
        flops=round(factor * time.flops),
        bytes=round(factor * time.bytes),
    )
    return replace(kernel, time=scaled_time)


def _accumulating(graph: Graph, kernel: Kernel, device: Device) -> Kernel:
    """The kernel of a weight's gradient that is added to those of the micro-batches before: it reads them too."""
    size = sum(tensor.bytes for tensor in graph.outputs_of(kernel.operation))
    more = size / device.main_memory.bandwidth_bytes_per_s.value
    time = kernel.time
    longer = {name: getattr(time, name) + more for name in ("seconds", "low", "high", "memory_seconds")}
    return replace(kernel, time=replace(time, bytes=time.bytes + size, **longer))


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
    """Whether an operation works on the residual stream: norms and sums, not what lies inside a block."""
    last = _bare(operation).rpartition(".")[2]
    return operation.kind in ("norm", "elementwise") and (last.endswith("norm") or last.startswith("add_"))


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
    return {
        "time": f"kernel cost model of {step.device.id}, forward and backward of {step.micros} micro-batches of "
        f"{step.micro_batch} a replica, played through a {layout.schedule} pipeline of {layout.pp}",
        "engine": step.recipe.name,
        "interval": "kinds of kernels at the ends of their scored errors, independent of each other",
        "energy": lacking or "static power x time + operations + bytes, devices without host",
        "memory": "weights, gradients, Adam's states and kept activations (arXiv 2205.05198)",
    }
