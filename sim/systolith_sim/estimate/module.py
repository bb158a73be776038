"""Estimate of one pass, or one training step, of a module: every replica runs it on its own inputs."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING

from systolith_model.formats import BITS, Formats
from systolith_model.graph import Operation
from systolith_sim.devices.device import Device
from systolith_sim.devices.play import played
from systolith_sim.devices.timeline import Span
from systolith_sim.estimate.adapt import (
    PowerLimit,
    of_backward_attention,
    power_limit,
    power_source,
    slowed,
    unaligned,
)
from systolith_sim.estimate.assemble import Parts, assembled
from systolith_sim.estimate.engine import NONE, Engine, find_engine
from systolith_sim.estimate.generate import NARROWER, Estimate, energy_sources
from systolith_sim.estimate.module_file import LoadedModule, place, user_code
from systolith_sim.estimate.passes import Kernel, Kernels, Pass
from systolith_sim.estimate.price import MILLION, SECONDS_PER_HOUR, price_of
from systolith_sim.estimate.tally import Tally, lacking_energy, on_links, static_power_w, tally_of
from systolith_sim.parallel.layout import Layout
from systolith_sim.parallel.links import Ends, Fabric, Message
from systolith_sim.parallel.memory import Change, Memory, advice

if TYPE_CHECKING:
    from systolith_model.workload.traced.result import ModuleGraph

PHASES = ("forward", "backward", "optimizer")


@dataclass
class ModuleRun:
    """A traced module on a device, ``layout.dp`` times."""

    device: Device
    traced: "ModuleGraph"
    layout: Layout
    engine: Engine

    @cached_property
    def power(self) -> PowerLimit | None:
        """What slows products, whose real numbers draw more power than those of their tables."""
        return power_limit(self.device)

    @cached_property
    def phases(self) -> dict[str, Pass]:
        """Kernels by phase; one phase where nothing is trained."""
        graph = self.traced.graph
        found: dict[str, list[Kernel]] = {name: [] for name in PHASES}
        for kernel in Kernels(self.device).cost(graph).kernels:
            if kernel.operation.kind == "matmul":
                kernel = unaligned(graph, slowed(kernel, self.power), self.device)
            name = kernel.operation.name.partition(".")[0]
            if kernel.operation.kind == "attention" and kernel.operation.attributes.get("backward"):
                kernel = of_backward_attention(graph, kernel)
            found[name if name in PHASES else "forward"].append(kernel)
        return {name: Pass(tuple(kernels)) for name, kernels in found.items() if kernels}

    def tally(self) -> Tally:
        """One replica's pass, and the sum of gradients that its backward pass does not hide."""
        whole = Tally.zero()
        for work in self.phases.values():
            whole = whole + tally_of(self.device, work)
        return whole + on_links(self._gradients_s(), static_power_w(self.device))

    def _gradients_s(self) -> Ends:
        if not self.traced.training or self.layout.dp == 1:
            return 0.0, 0.0, 0.0
        message = Message("all_reduce", self.traced.trained * BITS[self.traced.own] / 8, "dp")
        low, value, high = Fabric.of(self.device).total([message], self.layout)
        hidden = self.phases["backward"].seconds
        return max(0.0, low - hidden), max(0.0, value - hidden), max(0.0, high - hidden)

    def memory(self) -> Memory:
        """What one device holds."""
        traced = self.traced
        return Memory(
            weights=traced.weight_bytes + traced.state_bytes, kv=traced.cache_bytes,
            activations=traced.activation_bytes,
            usable=self.engine.memory_share.value * self.device.main_memory.size_bytes.value,
        )  # fmt: skip

    def timeline(self) -> list[Span]:
        """Every kernel in order, those of equal layers as often as they stand."""
        kernels = [kernel for work in self.phases.values() for kernel in work.kernels]
        return list(played((kernel.operation, kernel.time) for kernel in _in_order(kernels)).spans)


def _in_order(kernels: list[Kernel]) -> Iterator[Kernel]:
    """Runs of kernels with one count and one list of layers, as often as there are layers."""
    for (count, _), run in groupby(kernels, key=lambda kernel: (int(kernel.count), _layers(kernel.operation))):
        once = [replace(kernel, operation=replace(kernel.operation, count=1)) for kernel in run]
        for _ in range(count):
            yield from once


def _layers(operation: Operation) -> str:
    return operation.name.partition("*")[0]


def check_layout(layout: Layout, devices: int, what: str = "a module") -> None:
    """Refuse a layout that would split what is known as kernels alone: ``what`` it is.

    Raises
    ------
    ValueError
        Names the degrees.
    """
    if (layout.tp, layout.pp, layout.ep) != (1, 1, 1):
        degrees = f"{layout.tp}, {layout.pp} and {layout.ep}"
        raise ValueError(f"tp, pp and ep must be 1 for {what}, whose heads and layers are not known, not {degrees}")
    if layout.dp != devices:
        raise ValueError(f"dp must be the {devices} devices for {what}, not {layout.dp}")


def trace(loaded: LoadedModule, formats: Formats | None, *, train: bool) -> "ModuleGraph":
    """The module's graph.

    Raises
    ------
    ValueError
        If the module cannot run on shapes alone, or trains with weights narrower than its activations.
    """
    from systolith_model.workload.module import module_graph

    if train and formats is not None and formats.weight.format != formats.residual:
        raise ValueError(f"format must be one word for training a module, such as bf16, not {formats}")
    try:
        with user_code(loaded.path):
            return module_graph(loaded.module, *loaded.args, formats=formats, train=train, **loaded.kwargs)
    except ValueError as error:
        where = place(error.__cause__, loaded.path) if error.__cause__ else ""
        raise ValueError(f"model {loaded.name!r}{where}: {error}") from None


def _what(traced: "ModuleGraph") -> str:
    return "an ONNX file" if traced.nodes else "a module"


def estimate_module(name: str, traced: "ModuleGraph", device: Device, layout: Layout) -> Estimate:
    """One pass on each of ``layout.dp`` devices.

    Raises
    ------
    ValueError
        If the layout splits the module, or the device cannot compute a format.
    """
    check_layout(layout, layout.devices, _what(traced))
    run = ModuleRun(device, traced, layout, find_engine(NONE))
    tally, memory = run.tally(), run.memory()
    lacking = lacking_energy(device, run.phases["forward"])
    tokens = None if traced.tokens is None else layout.dp * traced.tokens
    parts = Parts(
        name=name, device=device, layout=layout, formats=traced.formats, engine=NONE, tokens=tokens, whole=tally,
        interval_s=tally.interval_s, memory=memory, lacking=lacking, provenance=_provenance(run, tally, lacking),
    )  # fmt: skip
    tallies = {phase: tally_of(device, work) for phase, work in run.phases.items()}
    one = Estimate(assembled(parts), device, run.phases, tallies, run.timeline)
    return one if memory.fits else one.with_provenance(fit=advice(memory, _changes(run), tried="format"))


def _changes(run: ModuleRun) -> Iterator[Change]:
    """Narrower weights; the inputs' sizes are not the estimate's to change."""
    if run.traced.training:
        return
    old = run.traced.formats
    for format in NARROWER:
        narrow = Formats.parse(f"{format}/{old.activation}/{old.kv}")
        changed = replace(run, traced=replace(run.traced, formats=narrow))
        yield Change(f"weights in {format}", changed.memory)


def _provenance(run: ModuleRun, tally: Tally, lacking: str) -> dict[str, str]:
    traced, what = run.traced, _what(run.traced)
    found = {
        "time": f"kernel cost model of {run.device.id} (systolith devices {run.device.id}), summed in order",
        "engine": run.engine.name,
        "interval": "kinds of kernels at the ends of their scored errors, independent of each other",
        "energy": lacking or energy_sources(run.device),
        "pass": f"training step of {what}" if traced.training else f"one pass of {what}",
        "module": _kernels_source(run, tally),
        "ttft_s": f"null: a pass of {what} has no first token",
        "tpot_s": f"null: a pass of {what} has no later tokens",
        "tokens": f"{traced.tokens} elements of the first input of integers in each pass"
        if traced.tokens is not None
        else "null: no input holds integers such as token ids, so nothing counts tokens",
        "memory": f"parameters, buffers, caches among the inputs, and tensors from first to last use, against "
        f"{run.engine.memory_share.value:g} of the device's memory",
    }
    if traced.approximated:
        calls = ", ".join(f"{name} ({number})" for name, number in sorted(traced.approximated.items()))
        found["approximated"] = f"counted as one pass over their bytes, since no rule knows them: {calls}"
    if traced.training:
        found["training"] = f"Adam on {traced.trained} parameters; replicas sum gradients behind the backward pass"
    found |= power_source(run.device, run.power)
    if (rent := price_of(run.device).usd_per_hour) is not None:
        usd = rent[1] / SECONDS_PER_HOUR * tally.seconds * MILLION
        found["price_of_passes"] = f"{usd:.4g} USD for a million passes"
    return found


def _kernels_source(run: ModuleRun, tally: Tally) -> str:
    """Whose kernels they are, and what their launches take at least where a host is too slow."""
    number, host = sum(operation.count for operation in run.traced.graph), run.device.eager_launch_s
    if run.traced.nodes:
        return f"{number} kernels, one a node of the file; runtimes join some; time between launches is not counted"
    kernels = f"{number} kernels as eager torch launches them on a GPU, fused only where torch's own functions are"
    between = "time between launches is not counted"
    if run.device.kind == "gpu" and host is not None and number * host.value > tally.seconds:
        least = f"{number * host.value:.3g} s at least"
        between = f"called one by one from Python they take {least}: {run.device.cite(host)}"
    return f"{kernels}; {between}"
