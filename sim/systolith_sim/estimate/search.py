"""Search: the best layout of a number of devices, within bounds on latency, price and memory."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from systolith_sim.estimate.generate import Estimate
from systolith_sim.parallel.layout import Layout, Splittable, divisors
from systolith_sim.units import GB

OBJECTIVES = ("latency", "throughput", "price")


@dataclass(frozen=True)
class Bounds:
    """Upper bounds that a layout must keep; None for none.

    Raises
    ------
    ValueError
        If a bound is not positive.
    """

    latency_s: float | None = None
    """Of ``total_s``."""
    price_usd: float | None = None
    """Of ``price_usd_per_million_tokens``."""
    memory_gb: float | None = None
    """Of the fullest device."""

    def __post_init__(self) -> None:
        for name in ("latency_s", "price_usd", "memory_gb"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be above 0, not {value:g}")

    def broken(self, one: Estimate) -> str:
        """The first bound that an estimate breaks, in words; empty where it keeps all."""
        result = one.result
        if not result.fits:
            return "memory"
        checks = (
            ("latency", result.total_s, self.latency_s),
            ("price", result.price_usd_per_million_tokens, self.price_usd),
            ("memory", result.memory_bytes.total / GB, self.memory_gb),
        )
        return next((name for name, value, most in checks if most is not None and (value is None or value > most)), "")


def layouts(model: Splittable, devices: int, batch: int, base: Layout) -> Iterator[Layout]:
    """Layouts of exactly ``devices`` that can split the model and give every replica a sequence."""
    experts = int(getattr(model, "n_experts", 0) or 0)
    for tp in divisors(devices):
        for pp in divisors(devices // tp):
            dp = devices // tp // pp
            if dp > batch:
                continue
            for ep in divisors(tp * dp) if experts else [1]:
                interleave = base.interleave if pp > 1 else 1
                schedule = base.schedule if pp > 1 and interleave > 1 else "1f1b"
                layout = replace(base, tp=tp, pp=pp, dp=dp, ep=ep, interleave=interleave, schedule=schedule)
                try:
                    layout.check(model)
                except ValueError:
                    continue
                yield layout


def best_layout(
    evaluate: Callable[[Layout], Estimate],
    model: Splittable,
    devices: int,
    batch: int,
    bounds: Bounds,
    objective: str,
    base: Layout,
) -> Estimate:
    """The best layout that fits and keeps the bounds.

    Raises
    ------
    ValueError
        If there is none: says which bound stops the one that comes closest.
    """
    if devices < 1:
        raise ValueError(f"devices must be >= 1, not {devices}")
    tried = list(_evaluated(evaluate, layouts(model, devices, batch, base)))
    kept = [one for one in tried if not bounds.broken(one)]
    if kept:
        best = min(kept, key=lambda one: _merit(one, objective))
        words = f"{len(tried)} layouts, {len(kept)} of them within the bounds"
        return best.with_provenance(search=f"best {objective} of {words}")
    if not tried:
        raise ValueError(f"devices must allow a layout of this model, not {devices}")
    broken = [(bounds.broken(one), one) for one in tried]
    name, one = min(broken, key=lambda item: (item[0] == "memory", item[1].result.total_s))
    fit = one.result.provenance.get("fit", "")
    said = f": {fit}" if name == "memory" and fit else ""
    raise ValueError(f"no layout of {devices} devices keeps the bound on {name}{said}")


def _evaluated(evaluate: Callable[[Layout], Estimate], found: Iterable[Layout]) -> Iterator[Estimate]:
    """Estimates of those layouts that are possible."""
    for layout in found:
        try:
            yield evaluate(layout)
        except ValueError:
            continue


def _merit(one: Estimate, objective: str) -> float:
    result = one.result
    if objective == "throughput":
        return -(result.tokens_per_s or 0.0)
    if objective == "price":
        price = result.price_usd_per_million_tokens
        return price if price is not None else float("inf")
    return result.total_s
