"""Estimates and advice for people, in the terminal."""

from rich.console import Console
from rich.table import Table

from systolith_sim.estimate.advise import Advice
from systolith_sim.estimate.generate import Estimate
from systolith_sim.estimate.result import EstimateResult, kind_of
from systolith_sim.units import GB, si

WIDE = 180
"""Columns where stdout is no terminal."""


def print_estimates(found: list[Estimate]) -> None:
    """One row a device, then what a reader must know."""
    console = _console()
    first = found[0].result
    table = Table(title=f"{first.model}, {first.format}, {kind_of(first)}")
    columns = ("device", "layout", "engine", "first token", "per token", "total", "tokens/s", "J/token", "power",
               "USD/M tokens", "memory", "fits", "bound by")  # fmt: skip
    for column in columns:
        table.add_column(column, no_wrap=column in ("device", "total"))
    for one in found:
        table.add_row(*_row(one.result))
    console.print(table)
    for one in found:
        for topic in ("fit", "search", "carbon"):
            if topic in one.result.provenance:
                console.print(f"{one.result.device}: {one.result.provenance[topic]}", highlight=False)
    console.print("in brackets: interval of the scored errors; --json gives every figure with interval and source")


def _row(result: EstimateResult) -> list[str]:
    parallel = {name: value for name, value in result.parallel.model_dump().items() if value > 1}
    layout = " ".join(f"{name} {value}" for name, value in parallel.items()) or "one"
    memory = result.memory_bytes
    return [
        f"{result.devices} x {result.device}",
        layout,
        result.engine,
        _figure(result, "ttft_s", "s"),
        _figure(result, "tpot_s", "s"),
        _figure(result, "total_s", "s"),
        f"{result.tokens_per_s:,.4g}",
        _figure(result, "energy_j_per_token", "J"),
        "-" if result.power_w is None else si(result.power_w, "W"),
        "-" if result.price_usd_per_million_tokens is None else f"{result.price_usd_per_million_tokens:.3g}",
        f"{memory.total / GB:.1f} GB",
        "yes" if result.fits else "no",
        result.bound_by,
    ]


def _figure(result: EstimateResult, name: str, unit: str) -> str:
    value = getattr(result, name)
    if value is None:
        return "-"
    ends = result.interval.get(name)
    text = si(value, unit)
    return text if ends is None else f"{text} [{si(ends[0], unit)}..{si(ends[1], unit)}]"


def print_advice(advice: Advice) -> None:
    """Options, best first, each with its reason."""
    console = _console()
    demand = advice.demand
    title = f"{advice.model}: {demand.rate:g} requests/s of {demand.prompt} + {demand.generate} tokens"
    table = Table(title=title)
    columns = ("", "machines", "one replica", "format", "USD/hour", "USD/M tokens", "latency", "load", "why")
    for column in columns:
        table.add_column(column)
    for place, option in enumerate(advice.options, start=1):
        price = "-" if option.usd_per_hour is None else f"{option.usd_per_hour:.4g}"
        per_million = "-" if option.usd_per_million_tokens is None else f"{option.usd_per_million_tokens:.3g}"
        table.add_row(
            str(place), f"{option.devices} x {option.device}", f"tp {option.tp}, {option.batch} in flight",
            option.format, price, per_million, si(option.latency_s, "s"), f"{option.load:.0%}", option.reason,
        )  # fmt: skip
    console.print(table)
    for line in advice.notes:
        console.print(line, highlight=False)


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=WIDE)
