"""A result from its parts, the same for a generation and a training step."""

from dataclasses import dataclass, field

from systolith_model.formats import Formats
from systolith_sim.devices.device import Device
from systolith_sim.energy.host_energy import host_power_w, host_words
from systolith_sim.estimate.price import Price, price_of, price_per_million
from systolith_sim.estimate.result import EstimateResult, MemoryBytes, Parallel
from systolith_sim.estimate.tally import Tally
from systolith_sim.parallel.layout import Layout
from systolith_sim.parallel.memory import Memory

Ends = tuple[float, float]
Triple = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a result is made of; ``whole`` and its interval are of one replica, which all replicas equal."""

    name: str
    device: Device
    layout: Layout
    formats: Formats
    engine: str
    tokens: int | None
    """Of all replicas, what rates count; None where the pass has none."""
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
    price = price_of(device)
    ends = {**_energy_ends(parts), **_rate_ends(parts, price)}
    value = {name: None if triple is None else triple[1] for name, triple in ends.items()}
    inner = {name: (triple[0], triple[2]) for name, triple in ends.items() if triple is not None}
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
        tokens_per_s=value["tokens_per_s"],
        energy_j=value["energy_j"],
        energy_j_per_token=value["energy_j_per_token"],
        power_w=value["power_w"],
        host_power_w=value["host_power_w"],
        energy_with_host_j=value["energy_with_host_j"],
        energy_with_host_j_per_token=value["energy_with_host_j_per_token"],
        price_usd_per_million_tokens=value["price_usd_per_million_tokens"],
        memory_bytes=_memory(parts.memory),
        fits=parts.memory.fits,
        bound_by=whole.bound_by,
        interval={**parts.intervals, "total_s": parts.interval_s, **inner},
        provenance={**parts.provenance, "price": price.source, "host": host_words(device)},
    )


def _energy_ends(parts: Parts) -> dict[str, Triple | None]:
    """(low, value, high) of every figure of energy and power; None where one is not known."""
    whole, device, layout, tokens = parts.whole, parts.device, parts.layout, parts.tokens
    hosts_w, joules, steady, with_hosts = host_power_w(device, layout.devices), None, None, None
    if not parts.lacking:
        joules = _times(layout.dp, whole.limited_joules(device, layout.tp * layout.pp, parts.interval_s))
        steady = _times(layout.dp, whole.limited_joules(device, layout.tp * layout.pp))
    if joules is not None and hosts_w is not None:
        # The shorter the run, the less its hosts draw.
        seconds = parts.interval_s[0], whole.seconds, parts.interval_s[1]
        low, value, high = (mine + watts * long for mine, watts, long in zip(joules, hosts_w, seconds, strict=True))
        with_hosts = low, value, high
    return {
        "energy_j": joules,
        "energy_j_per_token": _divided(joules, tokens),
        "power_w": _divided(steady, whole.seconds),
        "host_power_w": hosts_w,
        "energy_with_host_j": with_hosts,
        "energy_with_host_j_per_token": _divided(with_hosts, tokens),
    }


def _rate_ends(parts: Parts, price: Price) -> dict[str, Triple | None]:
    """(low, value, high) of tokens a second and their price; None where nothing counts tokens."""
    rate = priced = None
    if parts.tokens is not None:
        low, high = parts.interval_s
        rate = parts.tokens / high, parts.tokens / parts.whole.seconds, parts.tokens / low
        priced = price_per_million(price, parts.layout.devices, rate[1], (rate[0], rate[2]))
    return {"tokens_per_s": rate, "price_usd_per_million_tokens": priced}


def _times(count: int, triple: Triple) -> Triple:
    return count * triple[0], count * triple[1], count * triple[2]


def _divided(triple: Triple | None, by: float | None) -> Triple | None:
    return None if triple is None or by is None else (triple[0] / by, triple[1] / by, triple[2] / by)


def _memory(memory: Memory) -> MemoryBytes:
    return MemoryBytes(weights=memory.weights, kv=memory.kv, activations=memory.activations, total=memory.total)
