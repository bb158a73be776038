"""Estimate of a static batch: time to first token, time per token, energy, price and memory on one kind of device."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from systolith_model.formats import Formats
from systolith_sim.devices.device import Device
from systolith_sim.devices.figures import joined
from systolith_sim.estimate.engine import Engine
from systolith_sim.estimate.models import Model
from systolith_sim.estimate.passes import Pass
from systolith_sim.estimate.price import price_of, price_per_million
from systolith_sim.estimate.replica import Replica
from systolith_sim.estimate.request import Request
from systolith_sim.estimate.result import EstimateResult, MemoryBytes, Parallel
from systolith_sim.estimate.tally import Tally, lacking_energy
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
    shown = _Shown(name, device, request, layout, engine, steps, tokens, lacking)
    one = Estimate(_result(shown, tallies, memory), device, passes, tallies)
    return one if memory.fits else one.with_provenance(fit=advice(memory, _changes(replica, share)))


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


@dataclass(frozen=True)
class _Shown:
    """What a result repeats of the question, and how many tokens its rates count."""

    name: str
    device: Device
    request: Request
    layout: Layout
    engine: Engine
    steps: int
    tokens: int
    lacking: str


def _result(shown: _Shown, tallies: dict[str, Tally], memory: Memory) -> EstimateResult:
    device, layout, engine, tokens = shown.device, shown.layout, shown.engine, shown.tokens
    prefill, decode = tallies["prefill"], tallies.get("decode", Tally.zero())
    whole = prefill + decode
    low, high = _with_engine(whole, engine)
    rates = (tokens / high, tokens / low)
    figures: dict[str, float | None] = {
        "ttft_s": prefill.seconds,
        "tpot_s": decode.seconds / shown.steps if shown.steps else None,
        "total_s": whole.seconds,
        "tokens_per_s": tokens / whole.seconds,
    }
    interval = {"ttft_s": _with_engine(prefill, engine), "total_s": (low, high), "tokens_per_s": rates}
    if shown.steps:
        ends = _with_engine(decode, engine)
        interval["tpot_s"] = (ends[0] / shown.steps, ends[1] / shown.steps)
    interval |= _energy(figures, whole, tokens, layout, shown.lacking)
    price = price_of(device)
    priced = price_per_million(price, layout.devices, tokens / whole.seconds, rates)
    if priced:
        interval["price_usd_per_million_tokens"] = (priced[0], priced[2])
    return EstimateResult(
        model=shown.name,
        device=device.id,
        devices=layout.devices,
        parallel=Parallel(tp=layout.tp, pp=layout.pp, dp=layout.dp, ep=layout.ep),
        format=str(shown.request.formats),
        engine=engine.id,
        price_usd_per_million_tokens=priced[1] if priced else None,
        memory_bytes=memory_bytes(memory),
        fits=memory.fits,
        bound_by=whole.bound_by,
        interval=interval,
        provenance=_provenance(device, engine, shown.lacking, price.source),
        **figures,
    )


def memory_bytes(memory: Memory) -> MemoryBytes:
    """Memory as the result states it."""
    return MemoryBytes(weights=memory.weights, kv=memory.kv, activations=memory.activations, total=memory.total)


def _energy(
    figures: dict[str, float | None], whole: Tally, tokens: int, layout: Layout, lacking: str
) -> dict[str, tuple[float, float]]:
    """Puts the energy figures into ``figures`` and gives their intervals."""
    low, value, high = (layout.dp * joules for joules in whole.joules)
    known = not lacking
    figures["energy_j"] = value if known else None
    figures["energy_j_per_token"] = value / tokens if known else None
    figures["power_w"] = value / whole.seconds if known else None
    if not known:
        return {}
    # Low and high energies already take the time at its ends; their power is over the same time.
    slow, fast = low / whole.seconds, high / whole.seconds
    return {"energy_j": (low, high), "energy_j_per_token": (low / tokens, high / tokens), "power_w": (slow, fast)}


def _with_engine(tally: Tally, engine: Engine) -> tuple[float, float]:
    """Interval of a tally, at least as wide as the engine's own scored error."""
    low, high = tally.interval_s
    for error in engine.errors:
        low, high = min(low, tally.seconds * error.low), max(high, tally.seconds * error.high)
    return low, high


def _provenance(device: Device, engine: Engine, lacking: str, price: str) -> dict[str, object]:
    constants = joined(engine.cite(datum) for datum in (engine.launch_share, engine.sequence_s))
    power = [device.power.active_w or device.power.idle_w, device.main_memory.energy_j_per_byte]
    energy = joined(device.cite(datum) for datum in power if datum is not None)
    return {
        "time": f"kernel cost model of {device.id} (systolith devices {device.id}), summed in order",
        "engine": f"{engine.name}: {constants}",
        "interval": "kinds of kernels at the ends of their scored errors, independent of each other; at least the engine's own error",
        "energy": lacking or f"static power x time + operations + bytes, devices without host: {energy}",
        "price": price,
        "memory": f"weights, cache and activations against {engine.memory_share.value:g} of the device's memory: "
        f"{engine.cite(engine.memory_share)}",
    }
