"""Estimate of a static batch: time to first token, time per token, energy, price and memory on one kind of device."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from systolith_model.formats import Formats
from systolith_sim.devices.device import Device
from systolith_sim.devices.figures import joined
from systolith_sim.devices.timeline import Span, end_s
from systolith_sim.energy.device_energy import floor_power
from systolith_sim.estimate.assemble import Parts, assembled
from systolith_sim.estimate.engine import Engine
from systolith_sim.estimate.models import Model
from systolith_sim.estimate.passes import Pass
from systolith_sim.estimate.replica import Replica
from systolith_sim.estimate.request import Request
from systolith_sim.estimate.result import EstimateResult
from systolith_sim.estimate.tally import Tally, lacking_energy
from systolith_sim.estimate.timeline import pass_timeline
from systolith_sim.parallel.layout import Layout
from systolith_sim.parallel.memory import (
    Change,
    Memory,
    activation_bytes,
    advice,
    held_cache_bytes,
    held_weights_bytes,
    wider_layouts,
)

WIDEST = 64
"""Widest tensor parallel group that the advice on memory tries."""
NARROWER = ("fp8", "int8", "int4")
"""Weight formats that the advice on memory tries, in this order."""


@dataclass(frozen=True)
class Estimate:
    """A result, and the passes behind it for tables and plots."""

    result: EstimateResult
    device: Device
    passes: dict[str, Pass]
    """Kernels of the passes by name, of one device of each stage: the prompt's, and the step in the middle."""
    tallies: dict[str, Tally]
    """Sums over the whole batch by the same names."""
    timeline: Callable[[], list[Span]] = list
    """Spans of the passes on one device, or of the stages of a pipeline."""

    def with_provenance(self, **topics: str) -> "Estimate":
        """The same with more topics in the result's provenance."""
        provenance = {**self.result.provenance, **topics}
        return replace(self, result=self.result.model_copy(update={"provenance": provenance}))


def estimate(
    name: str, model: Model, device: Device, request: Request, layout: Layout, engine: Engine
) -> Estimate:
    """A static batch on ``layout.devices`` of a device.

    Raises
    ------
    ValueError
        If the layout cannot split the model, or the device cannot compute a format.
    """
    layout.check(model)
    model.check(request.prompt, request.generate)
    share = replace(request, batch=-(-request.batch // layout.dp))
    replica = Replica(device, model, layout, engine, request.formats)
    steps = share.generate - 1 if model.generates else 0
    tallies = {"prefill": replica.prefill_tally(batch=share.batch, prompt=share.prompt)}
    passes = {"prefill": replica.work(batch=share.batch, prompt=share.prompt)}
    if steps:
        tallies["decode"] = replica.steps_tally(batch=share.batch, prompt=share.prompt, steps=steps)
        passes["decode"] = replica.work(batch=share.batch, prompt=share.prompt, done=1 + steps // 2)
    memory = memory_of(replica, share)
    lacking = lacking_energy(device, passes["prefill"])
    tokens = request.batch * (request.generate if model.generates else request.prompt)
    prefill, decode = tallies["prefill"], tallies.get("decode")
    intervals = {"ttft_s": with_engine(prefill.seconds, prefill.interval_s, replica)}
    if decode is not None:
        low, high = with_engine(decode.seconds, decode.interval_s, replica)
        intervals["tpot_s"] = (low / steps, high / steps)
    whole = prefill if decode is None else prefill + decode
    ends = with_engine(whole.seconds, whole.interval_s, replica)
    parts = Parts(
        name=name, device=device, layout=layout, formats=request.formats, engine=engine.id, tokens=tokens,
        whole=whole, interval_s=ends, memory=memory, lacking=lacking,
        provenance=sources(replica, lacking), ttft_s=prefill.seconds,
        tpot_s=None if decode is None else decode.seconds / steps, intervals=intervals,
    )  # fmt: skip
    one = Estimate(assembled(parts), device, passes, tallies, lambda: _timeline(replica, share))
    return with_advice(one, replica, share, memory)


def with_advice(one: Estimate, replica: Replica, share: Request, memory: Memory) -> Estimate:
    """The estimate; where it does not fit, with the sentence that says what would."""
    return one if memory.fits else one.with_provenance(fit=advice(memory, _changes(replica, share)))


def _timeline(replica: Replica, share: Request) -> list[Span]:
    """The prompts' pass and the first decode step of one micro-batch."""
    micro = -(-share.batch // min(replica.layout.pp, share.batch))
    spans = pass_timeline(replica, batch=micro, prompt=share.prompt)
    if share.generate > 1 and replica.model.generates:
        spans += pass_timeline(replica, batch=micro, prompt=share.prompt, done=1, start_s=end_s(spans))
    return spans


def memory_of(replica: Replica, request: Request) -> Memory:
    """Memory of the fullest device while ``request`` (one replica's share) runs."""
    layout, shape, formats = replica.layout, replica.shard.shape, request.formats
    graph = replica.graph(batch=request.batch, prompt=request.prompt)
    generate = request.generate if replica.model.generates else 0
    return Memory(
        weights=held_weights_bytes(shape, layout, formats),
        kv=held_cache_bytes(
            shape, layout, batch=request.batch, prompt=request.prompt, generate=generate, formats=formats
        ),
        activations=activation_bytes(graph),
        usable=replica.engine.memory_share.value * replica.device.main_memory.size_bytes.value,
    )


def _changes(replica: Replica, request: Request) -> Iterator[Change]:
    """Changes that save memory, the smallest first: a smaller batch, more devices, narrower weights."""
    fitting = _largest_batch(replica, request)
    if fitting:
        words = f"a batch of {fitting} instead of {request.batch} a replica"
        yield Change(words, lambda: memory_of(replica, replace(request, batch=fitting)))
    for layout in wider_layouts(replica.layout, WIDEST):
        yield Change(f"tp {layout.tp}", lambda layout=layout: _with_layout(replica, request, layout))
    for format in NARROWER:
        narrow = Formats.parse(f"{format}/{request.formats.activation}/{request.formats.kv}")
        changed = replace(request, formats=narrow)
        yield Change(
            f"weights in {format}",
            lambda changed=changed: memory_of(replace(replica, formats=changed.formats), changed),
        )


def _with_layout(replica: Replica, request: Request, layout: Layout) -> Memory | None:
    try:
        return memory_of(replace(replica, layout=layout), request)
    except ValueError:
        return None


def _largest_batch(replica: Replica, request: Request) -> int:
    """Largest batch that fits, 0 where none does."""
    low, high = 0, request.batch
    while high - low > 1:
        middle = (low + high) // 2
        if memory_of(replica, replace(request, batch=middle)).fits:
            low = middle
        else:
            high = middle
    return low


def with_engine(seconds: float, ends: tuple[float, float], replica: Replica) -> tuple[float, float]:
    """An interval of seconds, at least as wide as the engine's own scored error."""
    below, above = replica.engine.error_factors(replica.device, replica.layout.tp)
    return min(ends[0], seconds * below), max(ends[1], seconds * above)


def sources(replica: Replica, lacking: str) -> dict[str, str]:
    """Where the figures of an inference come from, by topic."""
    device, engine, kv = replica.device, replica.engine, replica.formats.kv
    constants = joined(engine.cite(datum) for datum in (engine.launch_share, engine.sequence_s, engine.step_s))
    power = [floor_power(device), device.main_memory.energy_j_per_byte]
    energy = joined(device.cite(datum) for datum in power if datum is not None)
    cache = {}
    if device.kind == "gpu" and kv == "fp8" and kv not in device.peak_ops_per_s:
        cache["cache"] = (
            f"{device.id} has no fp8: the time of converting the cache in software is not in these figures; on A100 it "
            "made generations 1.2 to 8 times as long"
        )
    return cache | {
        "time": f"kernel cost model of {device.id} (systolith devices {device.id}), summed in order",
        "engine": f"{engine.name}: {constants}",
        "interval": "kinds of kernels at the ends of their scored errors, independent of each other; at least the "
        "engine's own error, wider by the root of two in logarithm on a device that it was not measured on",
        "energy": lacking or f"static power x time + operations + bytes, devices without host: {energy}",
        "memory": f"weights, cache and activations against {engine.memory_share.value:g} of the device's memory: "
        f"{engine.cite(engine.memory_share)}",
    }
