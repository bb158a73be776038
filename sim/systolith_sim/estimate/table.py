"""Estimates and advice for people, in the terminal."""

from rich.console import Console
from rich.table import Table

from systolith_sim.estimate.advise import Advice, Option
from systolith_sim.estimate.cells import figure_cells, label, layout_words
from systolith_sim.estimate.generate import Estimate
from systolith_sim.estimate.result import kind_of
from systolith_sim.units import si

WIDE = 180
"""Columns where stdout is no terminal."""


def print_estimates(found: list[Estimate]) -> None:
    """One row a device, then what a reader must know."""
    console = _console()
    first = found[0].result
    table = Table(title=f"{first.model}, {first.format}, {kind_of(first)}")
    columns = ("device", "layout", "engine", "first token", "per token", "total", "tokens/s", "J/token", "with host",
               "power", "USD/M tokens", "memory", "fits", "bound by")  # fmt: skip
    for column in columns:
        table.add_column(column, no_wrap=column in ("device", "total"))
    for one in found:
        result = one.result
        table.add_row(label(result), layout_words(result), result.engine, *figure_cells(result),
                      "yes" if result.fits else "no", result.bound_by)  # fmt: skip
    console.print(table)
    for one in found:
        for topic in ("fit", "search", "carbon"):
            if topic in one.result.provenance:
                console.print(f"{one.result.device}: {one.result.provenance[topic]}", highlight=False)
    console.print("in brackets: interval of the scored errors; --json gives every figure with interval and source")


def print_advice(advice: Advice) -> None:
    """Options, best first, each with its reason."""
    console = _console()
    demand = advice.demand
    title = f"{advice.model}: {demand.rate:g} requests/s of {demand.prompt} + {demand.generate} tokens"
    table = Table(title=title)
    columns = ("", "machines", "one replica", "format", "USD/hour", "USD/M tokens", "latency", "load", "power", "why")
    for column in columns:
        table.add_column(column)
    for place, option in enumerate(advice.options, start=1):
        price = "-" if option.usd_per_hour is None else f"{option.usd_per_hour:.4g}"
        per_million = "-" if option.usd_per_million_tokens is None else f"{option.usd_per_million_tokens:.3g}"
        table.add_row(
            str(place), f"{option.devices} x {option.device}", f"tp {option.tp}, {option.batch} in flight",
            option.format, price, per_million, si(option.latency_s, "s"), f"{option.load:.0%}", _power(option),
            option.reason,
        )  # fmt: skip
    console.print(table)
    for line in advice.notes:
        console.print(line, highlight=False)


def _power(option: Option) -> str:
    """Of the devices, and with their hosts where these are known."""
    if option.power_w is None:
        return "-"
    whole = option.power_with_host_w
    return si(option.power_w, "W") + ("" if whole is None else f", {si(whole, 'W')} with hosts")


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=WIDE)
