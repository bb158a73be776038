"""Estimate of a static batch: time to first token, time per token, energy, price and memory on one kind of device."""

from dataclasses import dataclass, replace

from systolith_sim.devices.device import Device
from systolith_sim.devices.figures import joined
from systolith_sim.estimate.engine import Engine
from systolith_sim.estimate.models import Model
from systolith_sim.estimate.passes import Pass
from systolith_sim.estimate.price import price_of, price_per_million
from systolith_sim.estimate.replica import Replica
from systolith_sim.estimate.request import Formats, Request
from systolith_sim.estimate.result import EstimateResult, MemoryBytes, Parallel
from systolith_sim.estimate.tally import Tally, lacking_energy
from systolith_sim.parallel.layout import Layout
from systolith_sim.parallel.memory import Change, Memory, activation_bytes, advice, cache_bytes, weights_bytes, wider_layouts

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
    share = replace(request, batch=-(-request.batch // layout.dp))
    replica = Replica(device, model, layout, engine, request.formats)
    prefill = replica.pass_tally(batch=share.batch, tokens=share.prompt, context=0)
    steps = share.generate - 1
    decode = Tally.zero()
    if steps:
        decode = replica.steps_tally(batch=share.batch, first=share.prompt, last=share.prompt + steps - 1)
    memory = memory_of(replica, share)
    middle = share.prompt + steps // 2
    work = replica.work(batch=share.batch, tokens=share.prompt, context=0)
    lacking = lacking_energy(device, work)
    result = _result(name, device, request, layout, engine, prefill, decode, memory, lacking)
    if not memory.fits:
        sentence = advice(memory, _changes(replica, share))
        result = result.model_copy(update={"provenance": {**result.provenance, "fit": sentence}})
    step = replica.work(batch=share.batch, tokens=1, context=middle)
    passes, tallies = {"prefill": work, "decode": step}, {"prefill": prefill, "decode": decode}
    return Estimate(result, device, passes, tallies)


def memory_of(replica: Replica, request: Request) -> Memory:
    """Memory of the fullest device while ``request`` (one replica's share) runs."""
    layout, model = replica.layout, replica.shard.config
    graph = replica.graph(batch=request.batch, tokens=request.prompt, context=0)
    layers = -(-model.n_layers // layout.pp)
    usable = replica.engine.memory_share.value * replica.device.main_memory.size_bytes.value
    return Memory(
        weights=weights_bytes(graph, pp=layout.pp, tied=model.tied_embeddings),
        kv=cache_bytes(
            model.n_kv_heads, model.head_dim, layers, request.batch * request.length, request.formats.cache
        ),
        activations=activation_bytes(graph),
        usable=usable,
    )


def _changes(replica: Replica, request: Request) -> list[Change]:
    """Changes that save memory, the smallest first: a smaller batch, narrower weights, more devices."""

    def with_batch() -> Memory | None:
        return memory_of(replica, replace(request, batch=_largest_batch(replica, request)))

    def with_weights(format: str) -> Memory:
        formats = Formats.parse(f"{format}/{request.formats.activations}/{request.formats.cache}")
        return memory_of(replace(replica, formats=formats), replace(request, formats=formats))

    def with_layout(layout: Layout) -> Memory | None:
        try:
            return memory_of(replace(replica, layout=layout), request)
        except ValueError:
            return None

    changes = []
    fitting = _largest_batch(replica, request)
    if fitting:
        changes.append(Change(f"a batch of {fitting} instead of {request.batch}", with_batch))
    changes += [Change(f"tp {layout.tp}", lambda layout=layout: with_layout(layout)) for layout in wider_layouts(replica.layout, WIDEST)]
    changes += [Change(f"weights in {format}", lambda format=format: with_weights(format)) for format in NARROWER]
    return changes


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


def _result(
    name: str,
    device: Device,
    request: Request,
    layout: Layout,
    engine: Engine,
    prefill: Tally,
    decode: Tally,
    memory: Memory,
    lacking: str,
) -> EstimateResult:
    steps, tokens = request.generate - 1, request.batch * request.generate
    whole = prefill + decode
    low, high = _with_engine(whole, engine)
    rates = (tokens / high, tokens / low)
    figures: dict[str, float | None] = {
        "ttft_s": prefill.seconds,
        "tpot_s": decode.seconds / steps if steps else None,
        "total_s": whole.seconds,
        "tokens_per_s": tokens / whole.seconds,
    }
    interval = {"ttft_s": _with_engine(prefill, engine), "total_s": (low, high), "tokens_per_s": rates}
    if steps:
        ends = _with_engine(decode, engine)
        interval["tpot_s"] = (ends[0] / steps, ends[1] / steps)
    interval |= _energy(figures, whole, tokens, layout, lacking)
    price = price_of(device)
    priced = price_per_million(price, layout.devices, tokens / whole.seconds, rates)
    if priced:
        interval["price_usd_per_million_tokens"] = (priced[0], priced[2])
    return EstimateResult(
        model=name,
        device=device.id,
        devices=layout.devices,
        parallel=Parallel(tp=layout.tp, pp=layout.pp, dp=layout.dp, ep=layout.ep),
        format=str(request.formats),
        engine=engine.id,
        price_usd_per_million_tokens=priced[1] if priced else None,
        memory_bytes=memory_bytes(memory),
        fits=memory.fits,
        bound_by=whole.bound_by,
        interval=interval,
        provenance=_provenance(device, engine, lacking, price.source),
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
