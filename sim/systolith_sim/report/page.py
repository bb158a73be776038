"""The report: one self-contained HTML file, made from RunResults."""

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from systolith_sim.devices.figures import Figure
from systolith_sim.report import plots
from systolith_sim.report.results import DeviceResult, RunResults
from systolith_sim.units import si


def render(results: RunResults) -> str:
    """The page's HTML; it loads nothing from elsewhere and runs without a network."""
    return fill(
        "template.html.j2",
        {name: draw(results) for name, draw in plots.ALL.items()},
        results=results,
        tiles=tiles(results),
        devices=sorted(results.devices, key=lambda device: device.latency_s.value),
        how_colors=plots.HOW_COLORS,
        cut=max(0, len(results.timeline) - plots.MOST_SPANS),
    )


def fill(template: str, figures: Mapping[str, plots.Plot], **context: object) -> str:
    """A template of this package with plotly, the page's style, and ``figures`` by the id of their place."""
    import jinja2
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(si=si, interval=plots.interval, count=_count, percent=_percent)
    # "<" inside a script element could end it early
    data = json.dumps(figures, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return environment.from_string(_text(template)).render(
        **context,
        style=Markup(_text("style.css")),
        draw=Markup(_text("draw.js")),
        figures=Markup(data),
        plotly=Markup(get_plotlyjs().replace("</script", "<\\/script")),
    )


def write_page(html: str, path: Path) -> None:
    """Write a page, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(html, "utf-8")
    partial.replace(path)


def write_report(results: RunResults, path: Path) -> None:
    """Write ``report.html``, whole or not at all."""
    write_page(render(results), path)


def tiles(results: RunResults) -> list[dict[str, str]]:
    """Headline figures: label, value, note, and a state (good, bad or plain) that colors them."""
    layers = results.layers
    exact = sum(layer.bit_exact for layer in layers)
    modelled = [layer for layer in layers if layer.model_cycles is not None]
    equal = sum(layer.cycles == layer.model_cycles for layer in modelled)
    peak = results.core.rows * results.core.cols
    core = next((device for device in results.devices if device.kind == "fpga"), None)
    found = [
        _tile(
            "bit exact",
            f"{exact} / {len(layers)}",
            "layers equal to the integer contract",
            exact == len(layers),
        ),
        _tile(
            "cycle model = RTL",
            f"{equal} / {len(modelled)}",
            "layers, cycle for cycle",
            equal == len(modelled),
        ),
        _tile("cycles", f"{results.cycles:,}", f"for {results.macs:,} multiply-accumulates", None),
        _tile(
            "array utilization",
            _percent(results.macs / (peak * results.cycles)) if layers else "-",
            f"of {peak} multiply-accumulates a cycle",
            None,
        ),
    ]
    if core is not None:
        clock = results.core.clock_hz
        note = f"at {si(clock.value, 'Hz')}, a clock {clock.how}"
        found.append(_tile("latency", si(core.latency_s.value, "s"), note, None))
        if core.energy_j is not None:
            found.append(_tile("energy", si(core.energy_j.value, "J"), _range(core), None))
    return found


def _tile(label: str, value: str, note: str, good: bool | None) -> dict[str, str]:
    state = "plain" if good is None else "good" if good else "bad"
    return {"label": label, "value": value, "note": note, "state": state}


def _range(device: DeviceResult) -> str:
    figure: Figure | None = device.energy_j
    if figure is None or figure.low is None or figure.high is None:
        return ""
    return f"{figure.how}, {si(figure.low, 'J')} .. {si(figure.high, 'J')}"


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _text(name: str) -> str:
    return (resources.files("systolith_sim.report") / name).read_text("utf-8")
