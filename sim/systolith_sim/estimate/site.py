"""Site: where a machine stands, as given: losses of the building, price and carbon of its electricity."""

from dataclasses import dataclass, replace
from math import inf

from systolith_sim.estimate.generate import Estimate
from systolith_sim.estimate.price import (
    carbon_g_per_million,
    electricity_usd_per_million,
    price_of,
)
from systolith_sim.estimate.result import EstimateResult

Ends = tuple[float, float, float]
WITH_HOST = ("energy_with_host_j", "energy_with_host_j_per_token")


@dataclass(frozen=True, kw_only=True)
class Site:
    """What of a building counts; what is not given changes nothing.

    Raises
    ------
    ValueError
        If a figure is out of range: names it.
    """

    pue: float | None = None
    """Energy of the building over that of its machines."""
    electricity: float | None = None
    """USD per kWh; counts for boards that are bought, since rent includes it."""
    grid: float | None = None
    """Grams of CO2 equivalent per kWh."""

    def __post_init__(self) -> None:
        if self.pue is not None and not 1 <= self.pue < inf:
            raise ValueError(f"pue must be >= 1 and finite, not {self.pue:g}")
        for name, unit in (("electricity", "USD/kWh"), ("grid", "g/kWh")):
            value = getattr(self, name)
            if value is not None and not 0 <= value < inf:
                raise ValueError(f"{name} must be >= 0 {unit} and finite, not {value:g}")


def at_site(one: Estimate, site: Site) -> Estimate:
    """The estimate with the building's losses, and price and carbon of the energy at its meter."""
    result = _with_pue(one.result, site.pue or 1.0)
    joules, words = _at_meter(result)
    for fields, interval, topics in (
        _electricity(one, result, joules, words, site),
        _carbon(result, joules, words, site),
    ):
        result = result.model_copy(
            update={
                **fields,
                "interval": {**result.interval, **interval},
                "provenance": {**result.provenance, **topics},
            }
        )
    return replace(one, result=result)


Part = tuple[dict[str, float], dict[str, tuple[float, float]], dict[str, str]]
"""Fields, intervals and provenance."""


def _with_pue(result: EstimateResult, pue: float) -> EstimateResult:
    """Losses of the building on devices and hosts."""
    changed = {name: pue * value for name in WITH_HOST if (value := getattr(result, name)) is not None}
    ends = {name: (pue * result.interval[name][0], pue * result.interval[name][1]) for name in changed}
    return result.model_copy(update={**changed, "pue": pue, "interval": {**result.interval, **ends}})


def _at_meter(result: EstimateResult) -> tuple[Ends | None, str]:
    """(low, value, high) joules a token that the building's meter counts, and what they hold."""
    name = "energy_with_host_j_per_token"
    if (value := getattr(result, name)) is not None:
        low, high = result.interval[name]
        return (low, value, high), f"devices and hosts, PUE {result.pue:g}"
    if result.energy_j_per_token is None:
        return None, "no energy is known"
    low, high = (result.pue * end for end in result.interval["energy_j_per_token"])
    value = result.pue * result.energy_j_per_token
    return (low, value, high), f"devices without their host, which is not known, PUE {result.pue:g}"


def _electricity(one: Estimate, result: EstimateResult, joules: Ends | None, words: str, site: Site) -> Part:
    price, name = result.price_usd_per_million_tokens, "price_usd_per_million_tokens"
    if site.electricity is None or price is None:
        return {}, {}, {}
    paid = result.provenance["price"]
    if price_of(one.device).rented:
        return {}, {}, {"price": f"{paid}; rent includes hosts, building and electricity"}
    if joules is None:
        return {}, {}, {"price": f"{paid}; electricity is not counted: {words}"}
    low, value, high = (electricity_usd_per_million(end, site.electricity) for end in joules)
    ends = result.interval[name]
    board = paid.replace(", no host, no power", ", no host")
    counted = f"{board}; with electricity at {site.electricity:g} USD/kWh: {words}"
    return {name: price + value}, {name: (ends[0] + low, ends[1] + high)}, {"price": counted}


def _carbon(result: EstimateResult, joules: Ends | None, words: str, site: Site) -> Part:
    name, alone = "carbon_g_per_million_tokens", result.energy_j_per_token
    if site.grid is None:
        return {}, {}, {}
    if joules is None or alone is None:
        return {}, {}, {"carbon": words}
    low, value, high = (carbon_g_per_million(end, site.grid) for end in joules)
    devices = f"{carbon_g_per_million(alone, site.grid):.3g} g CO2 equivalent a million tokens for the devices alone"
    said = f"{devices} at {site.grid:g} g/kWh as given; {value:.3g} g for {words}"
    return {name: value}, {name: (low, high)}, {"carbon": said}
