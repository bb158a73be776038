"""The figures of an estimate as the cells of a table, in the terminal and on the page alike."""

from systolith_sim.estimate.result import EstimateResult
from systolith_sim.units import GB, si


def label(result: EstimateResult) -> str:
    """How many of which device."""
    return f"{result.devices} x {result.device}"


def layout_words(result: EstimateResult) -> str:
    """Degrees above 1."""
    degrees = {name: size for name, size in result.parallel.model_dump().items() if size > 1}
    return " ".join(f"{name} {size}" for name, size in degrees.items()) or "one device"


def figure_cells(result: EstimateResult) -> list[str]:
    """First token, token, total, rate, energy without and with hosts, power, price and memory; a dash for none."""
    price = result.price_usd_per_million_tokens
    return [
        _figure(result, "ttft_s", "s"),
        _figure(result, "tpot_s", "s"),
        _figure(result, "total_s", "s"),
        f"{result.tokens_per_s:,.4g}",
        _figure(result, "energy_j_per_token", "J"),
        _figure(result, "energy_with_host_j_per_token", "J"),
        _power(result),
        "-" if price is None else f"{price:.3g}",
        f"{result.memory_bytes.total / GB:.1f} GB",
    ]


def _power(result: EstimateResult) -> str:
    """Devices, and their hosts where they are known."""
    if result.power_w is None:
        return "-"
    return si(result.power_w, "W") + (f" + {si(result.host_power_w, 'W')}" if result.host_power_w else "")


def _figure(result: EstimateResult, name: str, unit: str) -> str:
    value = getattr(result, name)
    if value is None:
        return "-"
    ends = result.interval.get(name)
    return si(value, unit) + (f" [{si(ends[0], unit)} .. {si(ends[1], unit)}]" if ends else "")
