"""Advice: which hardware, how many and in what format serve a demand, ranked, with reasons.

Every machine is tried alone and in tensor parallel groups, in several formats, with several requests in flight
(``closed_loop``); enough replicas carry the rate; the cheapest way of each machine that fits and keeps the latency
is ranked by what it costs an hour.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from systolith_model.formats import Formats
from systolith_sim.devices.device import Device
from systolith_sim.devices.library import device_names, find_device
from systolith_sim.energy.host_energy import host_power_w, idle_host_power_w
from systolith_sim.estimate.closed_loop import ClosedLoop, closed_loop
from systolith_sim.estimate.engine import default_engine, find_engine
from systolith_sim.estimate.generate import memory_of
from systolith_sim.estimate.models import Model, find_model
from systolith_sim.estimate.price import MILLION, SECONDS_PER_HOUR, price_of
from systolith_sim.estimate.replica import Replica
from systolith_sim.estimate.request import Request
from systolith_sim.parallel.layout import Layout
from systolith_sim.units import si

SCHEMA: Literal["systolith.advice/1"] = "systolith.advice/1"
FORMATS = {"bf16": 1.0, "fp8": 1.1, "int8": 1.12, "int4/bf16/bf16": 1.25}
"""Formats tried, and the factor by which a narrower one must be cheaper to come first: its effect on quality must be
measured. Declared."""
WIDTHS = (1, 2, 4, 8)
"""Tensor parallel widths tried, within one node."""
WIDEST_WITHOUT_PEERS = 2
"""Widest group of devices that reach each other through the host alone. Declared: few servers hold more cards."""
IN_FLIGHT = (1, 4, 8, 16, 32, 64, 128, 256)
"""Requests in flight on a replica that are tried."""
MOST_LOAD = 0.8
"""Share of a replica's rate that is planned with; above it, queues grow faster than the load. Declared."""
MOST_BOARDS = 1
"""Most boards of a kind that is bought, not rented: a pile of them is no server. Declared."""
MOST_DEVICES = 256
"""Most devices of one kind. Declared."""
SHOWN = 10
"""Options shown."""


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What must be served.

    Raises
    ------
    ValueError
        If a number is not positive: names it.
    """

    prompt: int
    generate: int
    rate: float
    latency_s: float | None = None
    budget_usd_per_hour: float | None = None

    def __post_init__(self) -> None:
        for name in ("prompt", "generate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, not {getattr(self, name)}")
        for name in ("rate", "latency_s", "budget_usd_per_hour"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name.partition('_')[0]} must be above 0 and finite, not {value:g}")


class DemandResult(BaseModel):
    """The demand, as data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: int
    generate: int
    rate: float
    latency_s: float | None
    budget_usd_per_hour: float | None


class Option(BaseModel):
    """One way to serve the demand."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str
    devices: int
    replicas: int
    tp: int
    batch: int
    format: str
    latency_s: float
    ttft_s: float
    tpot_s: float | None
    requests_per_s: float
    load: float
    usd_per_hour: float | None
    usd_per_million_tokens: float | None
    power_w: float | None
    """Of the devices, at work and idle between."""
    power_with_host_w: float | None
    """The same with their hosts, where these are known."""
    reason: str


class Advice(BaseModel):
    """Options, best first."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)

    schema_id: Literal["systolith.advice/1"] = Field(default=SCHEMA, alias="schema")
    model: str
    demand: DemandResult
    options: tuple[Option, ...]
    notes: tuple[str, ...]


def advise(name: str, demand: Demand, *, on: Sequence[str] = ()) -> Advice:
    """Options for a demand, the cheapest first, among the devices ``on`` or all but FPGAs.

    Raises
    ------
    ValueError
        If nothing keeps the demand: one sentence that says what would have to change.
    """
    model = find_model(name)
    model.check(demand.prompt, demand.generate)
    machines = {device.id: device for device in _machines(on)}
    every = [option for device in machines.values() for option in _options(model, device, demand)]
    tried = [option for option in every if option.devices <= _most(machines[option.device])]
    if not every:
        raise ValueError(f"model {name!r} fits on none of these machines, nor on {WIDTHS[-1]} of one together")
    if not tried:
        least = min(every, key=lambda option: option.devices)
        raise ValueError(f"rate must be lower: {demand.rate:g} takes {least.devices} x {least.device} or more")
    quick = [option for option in tried if _quick(option, demand)]
    if not quick:
        best = min(tried, key=lambda option: option.latency_s)
        where = f"for this demand ({best.tp} x {best.device} in {best.format})"
        raise ValueError(f"latency must be at least {best.latency_s:.3g} s {where}, not {demand.latency_s:g}")
    affordable = [option for option in quick if _affordable(option, demand)]
    if not affordable:
        priced = [option.usd_per_hour for option in quick if option.usd_per_hour is not None]
        least = f"at least {min(priced):.4g} USD per hour" if priced else "for machines with a known price"
        raise ValueError(f"budget must be {least} for this demand, not {demand.budget_usd_per_hour:g}")
    best = {option.device: option for option in sorted(affordable, key=_preference, reverse=True)}
    ranked = sorted(best.values(), key=_cost)[:SHOWN]
    return Advice(
        model=name,
        demand=DemandResult(**vars(demand)),
        options=tuple(
            option.model_copy(update={"reason": _reason(option, ranked, machines[option.device])})
            for option in ranked
        ),
        notes=NOTES,
    )


NOTES = (
    "Requests come evenly and are all alike; a burst needs more. FPGA boards are left out: their core is too small.",
    "Rent is on demand, with hosts and electricity; a board is written off over three years, without. Both go stale.",
    "Power is that of devices at work and idle between, and with their hosts where these are known.",
    "A narrower format is preferred only where it is cheaper by the factors of the documentation: measure quality.",
)


def _machines(on: Sequence[str]) -> Iterator[Device]:
    for name in on or device_names():
        device = find_device(name.strip())
        if on or device.kind != "fpga":
            yield device


def _most(device: Device) -> int:
    """Most devices of a kind that an option may have."""
    bought = device.price_usd_per_hour is None and device.price_usd is not None
    return MOST_BOARDS if bought else MOST_DEVICES


def _options(model: Model, device: Device, demand: Demand) -> Iterator[Option]:
    """The cheapest number of requests in flight for each format and width that fits."""
    for format in _formats(device):
        fitting = 0
        for tp in _widths(device):
            option = _option(model, device, demand, format, tp)
            if option is not None:
                yield option
                fitting += 1
            if fitting == 2:  # wider groups than these only add messages
                break


def _widths(device: Device) -> list[int]:
    """Tensor parallel widths that such devices are put together in."""
    if device.kind == "cpu" or not device.links:
        return [1]
    peers = any(name not in ("pcie", "host") for name in device.links)
    return [tp for tp in WIDTHS if peers or tp <= WIDEST_WITHOUT_PEERS]


def _formats(device: Device) -> list[str]:
    """Formats whose arithmetic the device has, or that only weights are stored in."""
    return [text for text in FORMATS if "/" in text or text == "bf16" or text in device.peak_ops_per_s]


def _option(model: Model, device: Device, demand: Demand, format: str, tp: int) -> Option | None:
    """One width and format, with as many requests in flight as cost least; None where nothing fits."""
    try:
        formats = Formats.parse(format)
        replica = Replica(device, model, Layout(tp=tp), find_engine(default_engine(device)), formats)
        options, enter = [], None
        for batch in IN_FLIGHT:
            request = Request(batch=batch, prompt=demand.prompt, generate=demand.generate, formats=formats)
            if not memory_of(replica, request).fits:
                break
            enter = enter or replica.prefill_tally(batch=1, prompt=demand.prompt)
            loop = closed_loop(
                replica, concurrency=batch, prompt=demand.prompt, generate=demand.generate, enter=enter
            )
            options.append(_served(device, demand, format, tp, batch, loop))
            if demand.latency_s is not None and loop.latency_s > demand.latency_s:
                break
            if loop.requests_per_s * MOST_LOAD >= demand.rate:  # one replica carries it
                break
    except ValueError:
        return None
    quick = [option for option in options if _quick(option, demand)] or options
    return min(quick, key=_cost, default=None)


def _served(device: Device, demand: Demand, format: str, tp: int, batch: int, loop: ClosedLoop) -> Option:
    replicas = ceil(demand.rate / (MOST_LOAD * loop.requests_per_s))
    price = price_of(device).usd_per_hour
    hourly = None if price is None else price[1] * tp * replicas
    tokens_per_s = demand.rate * demand.generate
    load = demand.rate / (replicas * loop.requests_per_s)
    joules = loop.work.limited_joules(device, tp)[1]
    power_w, with_host_w = _mean_power_w(device, tp * replicas, joules * demand.rate, load)
    return Option(
        device=device.id, devices=tp * replicas, replicas=replicas, tp=tp, batch=batch, format=format,
        latency_s=loop.latency_s, ttft_s=loop.ttft_s, tpot_s=loop.tpot_s if demand.generate > 1 else None,
        requests_per_s=replicas * loop.requests_per_s, load=load,
        usd_per_hour=hourly,
        usd_per_million_tokens=None if hourly is None else hourly / SECONDS_PER_HOUR / tokens_per_s * MILLION,
        power_w=power_w, power_with_host_w=with_host_w, reason="",
    )  # fmt: skip


def _mean_power_w(device: Device, devices: int, busy_w: float, load: float) -> tuple[float | None, float | None]:
    """Watts of devices that work a share ``load`` of the time, alone and with their hosts; None where not known."""
    idle = device.power.idle_w
    if not busy_w or idle is None:
        return None, None
    alone_w = busy_w + (1 - load) * devices * idle.value
    hosts = host_power_w(device, devices), idle_host_power_w(device, devices)
    if hosts[0] is None or hosts[1] is None:
        return alone_w, None
    return alone_w, alone_w + load * hosts[0][1] + (1 - load) * hosts[1][1]


def _quick(option: Option, demand: Demand) -> bool:
    return demand.latency_s is None or option.latency_s <= demand.latency_s


def _affordable(option: Option, demand: Demand) -> bool:
    budget = demand.budget_usd_per_hour
    return budget is None or (option.usd_per_hour is not None and option.usd_per_hour <= budget)


def _cost(option: Option) -> tuple[bool, float, float]:
    """Machines with a known price first, cheapest first; the others by their number."""
    return option.usd_per_hour is None, option.usd_per_hour or 0.0, option.devices * option.latency_s


def _preference(option: Option) -> tuple[bool, float, float]:
    """As the cost, but a narrower format must be cheaper by its factor."""
    unknown, price, work = _cost(option)
    return unknown, price * FORMATS[option.format], work * FORMATS[option.format]


def _reason(option: Option, ranked: list[Option], device: Device) -> str:
    """What speaks for an option among those shown."""
    first = ranked[0]
    speed = f"{si(option.latency_s, 's')} a request"
    if option is first:
        priced = option.usd_per_hour is not None
        words = "cheapest that keeps the demand" if priced else "fewest machines; no price known"
    elif option.usd_per_hour is None:
        words = "no price known"
    else:
        times = option.usd_per_hour / (first.usd_per_hour or 1.0)
        words = f"{times:.1f} times the cheapest" if times < 10 else f"{times:.0f} times the cheapest"
    best = [
        (min(ranked, key=lambda one: one.latency_s), "fastest answers"),
        (min(ranked, key=lambda one: one.devices), "fewest devices"),
        (min(ranked, key=lambda one: one.power_w or float("inf")), "least power"),
    ]
    words += "".join(f", {praise}" for holder, praise in best if holder is option)
    group = f"{option.replicas} replicas" if option.replicas > 1 else "one replica"
    measured = "" if device.kernel or device.same_die else "; its kernels were never measured"
    return f"{words}; {group} at {option.load:.0%} load, {speed}{measured}"
