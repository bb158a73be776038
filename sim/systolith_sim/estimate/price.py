"""Price and carbon of tokens: rent of the devices, or a bought board written off; electricity and the grid's carbon."""

from dataclasses import dataclass

from systolith_sim.devices.device import Device

WRITE_OFF_HOURS = 3 * 365 * 24
"""Hours over which a bought board is written off, run without a pause. Declared by this project."""
SECONDS_PER_HOUR = 3600.0
JOULES_PER_KWH = 3.6e6
MILLION = 1e6


@dataclass(frozen=True)
class Price:
    """USD of a device and hour with its interval, and where it comes from; None where no price is known."""

    usd_per_hour: tuple[float, float, float] | None
    source: str
    rented: bool = False
    """Rent includes host, building and electricity; a bought board none of them."""


def price_of(device: Device) -> Price:
    """What a device costs in an hour: rent where a rent is known, else its purchase written off."""
    if (rent := device.price_usd_per_hour) is not None:
        low, high = rent.interval
        words = f"rent of {device.id}, host and electricity included: {device.cite(rent)}"
        return Price((low, rent.value, high), words, rented=True)
    if (bought := device.price_usd) is not None:
        low, high = bought.interval
        hourly = (low / WRITE_OFF_HOURS, bought.value / WRITE_OFF_HOURS, high / WRITE_OFF_HOURS)
        years = WRITE_OFF_HOURS // (365 * 24)
        words = f"board of {device.id} bought, written off over {years} years, no host, no power"
        return Price(hourly, f"{words}: {device.cite(bought)}")
    return Price(None, f"device {device.id!r} states no price")


def price_per_million(
    price: Price, devices: int, tokens_per_s: float, interval: tuple[float, float]
) -> tuple[float, float, float] | None:
    """(low, value, high) USD per million tokens; ``interval`` is that of the tokens per second."""
    if price.usd_per_hour is None:
        return None
    low, value, high = (rate * devices / SECONDS_PER_HOUR * MILLION for rate in price.usd_per_hour)
    slow, fast = interval
    return low / fast, value / tokens_per_s, high / slow


def electricity_usd_per_million(joules_per_token: float, usd_per_kwh: float) -> float:
    """USD of the electricity of a million tokens."""
    return joules_per_token * MILLION / JOULES_PER_KWH * usd_per_kwh


def carbon_g_per_million(joules_per_token: float, grid_g_per_kwh: float) -> float:
    """Grams of CO2 equivalent of a million tokens on a grid of ``grid_g_per_kwh``."""
    return joules_per_token * MILLION / JOULES_PER_KWH * grid_g_per_kwh
