"""A result from its parts, the same for a generation and a training step."""

from dataclasses import dataclass, field

from systolith_model.formats import Formats
from systolith_sim.devices.device import Device
from systolith_sim.estimate.price import price_of, price_per_million
from systolith_sim.estimate.result import EstimateResult, MemoryBytes, Parallel
from systolith_sim.estimate.tally import Tally
from systolith_sim.parallel.layout import Layout
from systolith_sim.parallel.memory import Memory

Ends = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a result is made of; ``whole`` and its interval are of one replica, which all replicas equal."""

    name: str
    device: Device
    layout: Layout
    formats: Formats
    engine: str
    tokens: int
    """Of all replicas, what rates count."""
    whole: Tally
    interval_s: Ends
    memory: Memory
    lacking: str
    """What the device lacks for an energy, as a sentence; empty where nothing is missing."""
    provenance: dict[str, str]
    ttft_s: float | None = None
    tpot_s: float | None = None
    intervals: dict[str, Ends] = field(default_factory=dict)
    """Of ``ttft_s`` and ``tpot_s``."""


def assembled(parts: Parts) -> EstimateResult:
    """The result, with rates, energy and price."""
    whole, device, layout = parts.whole, parts.device, parts.layout
    low, high = parts.interval_s
    rate, rates = parts.tokens / whole.seconds, (parts.tokens / high, parts.tokens / low)
    interval = {**parts.intervals, "total_s": (low, high), "tokens_per_s": rates}
    joules = None
    if not parts.lacking:
        joules = [layout.dp * end for end in whole.limited_joules(device, layout.tp * layout.pp)]
        interval["energy_j"] = (joules[0], joules[2])
        interval["energy_j_per_token"] = (joules[0] / parts.tokens, joules[2] / parts.tokens)
        interval["power_w"] = (joules[0] / whole.seconds, joules[2] / whole.seconds)
    price = price_of(device)
    priced = price_per_million(price, layout.devices, rate, rates)
    if priced is not None:
        interval["price_usd_per_million_tokens"] = (priced[0], priced[2])
    return EstimateResult(
        model=parts.name,
        device=device.id,
        devices=layout.devices,
        parallel=Parallel(tp=layout.tp, pp=layout.pp, dp=layout.dp, ep=layout.ep),
        format=str(parts.formats),
        engine=parts.engine,
        ttft_s=parts.ttft_s,
        tpot_s=parts.tpot_s,
        total_s=whole.seconds,
        tokens_per_s=rate,
        energy_j=joules[1] if joules else None,
        energy_j_per_token=joules[1] / parts.tokens if joules else None,
        power_w=joules[1] / whole.seconds if joules else None,
        price_usd_per_million_tokens=priced[1] if priced else None,
        memory_bytes=_memory(parts.memory),
        fits=parts.memory.fits,
        bound_by=whole.bound_by,
        interval=interval,
        provenance={**parts.provenance, "price": price.source},
    )


def _memory(memory: Memory) -> MemoryBytes:
    return MemoryBytes(weights=memory.weights, kv=memory.kv, activations=memory.activations, total=memory.total)
