"""A result from its parts, the same for a generation and a training step."""

from dataclasses import dataclass, field

from systolith_model.formats import Formats
from systolith_sim.devices.device import Device
from systolith_sim.estimate.price import Price, price_of, price_per_million
from systolith_sim.estimate.result import EstimateResult, MemoryBytes, Parallel
from systolith_sim.estimate.tally import Tally
from systolith_sim.parallel.layout import Layout
from systolith_sim.parallel.memory import Memory

Ends = tuple[float, float]
Range = tuple[float, float, float]
"""Low end, value, high end."""


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
    figures: dict[str, Range | None] = {"energy_j": None, "power_w": None}
    if not parts.lacking:
        joules = [layout.dp * end for end in whole.limited_joules(device, layout.tp * layout.pp)]
        figures["energy_j"] = (joules[0], joules[1], joules[2])
        figures["power_w"] = _divided(figures["energy_j"], whole.seconds)
    price = price_of(device)
    figures.update(_per_token(parts, figures["energy_j"], price))
    interval = {name: (ends[0], ends[2]) for name, ends in figures.items() if ends}
    values = {name: ends[1] if ends else None for name, ends in figures.items()}
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
        tokens_per_s=values["tokens_per_s"],
        energy_j=values["energy_j"],
        energy_j_per_token=values["energy_j_per_token"],
        power_w=values["power_w"],
        price_usd_per_million_tokens=values["price_usd_per_million_tokens"],
        memory_bytes=_memory(parts.memory),
        fits=parts.memory.fits,
        bound_by=whole.bound_by,
        interval={**parts.intervals, "total_s": parts.interval_s, **interval},
        provenance={**parts.provenance, "price": price.source},
    )


def _per_token(parts: Parts, joules: Range | None, price: Price) -> dict[str, Range | None]:
    """What counts tokens; nothing where there are none."""
    if parts.tokens is None:
        return {"tokens_per_s": None, "energy_j_per_token": None, "price_usd_per_million_tokens": None}
    low, high = parts.interval_s
    rate = (parts.tokens / high, parts.tokens / parts.whole.seconds, parts.tokens / low)
    return {
        "tokens_per_s": rate,
        "energy_j_per_token": _divided(joules, parts.tokens),
        "price_usd_per_million_tokens": price_per_million(
            price, parts.layout.devices, rate[1], (rate[0], rate[2])
        ),
    }  # fmt: skip


def _divided(ends: Range | None, by: float) -> Range | None:
    return None if ends is None else (ends[0] / by, ends[1] / by, ends[2] / by)


def _memory(memory: Memory) -> MemoryBytes:
    return MemoryBytes(weights=memory.weights, kv=memory.kv, activations=memory.activations, total=memory.total)
