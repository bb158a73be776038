"""Figures of the report, as plain plotly data: traces and layout, drawn by the page's own copy of plotly.js.

Colors of text, grid and background come from the page, so that one figure serves light and dark.
"""

from collections.abc import Callable, Iterable

from systolith_sim.devices.figures import Figure
from systolith_sim.report.results import DeviceResult, RunResults
from systolith_sim.units import si

Plot = dict[str, object]

PALETTE = ("#3b82c4", "#e08a1e", "#2f9e77", "#b65fa8", "#d1544f", "#7d8fd6", "#a3892c", "#4aa9b8", "#8b8f98")
"""Told apart with the common kinds of color blindness, and legible on white and on near-black."""
HOW_COLORS = {"measured": "#2f9e77", "modelled": "#3b82c4", "published": "#e08a1e", "derived": "#b65fa8"}
"""One color for each way a figure was obtained, everywhere in the report."""
KIND_SYMBOLS = {"fpga": "star", "cpu": "circle", "gpu": "square", "tpu": "diamond"}
LOG_TICKS: Plot = {"exponentformat": "SI", "minexponent": 0, "dtick": 1}
"""Decades, written with SI prefixes."""
MOST_SPANS = 4000
"""Spans drawn in the timeline; the Perfetto file holds all."""


def comparison(results: RunResults, quantity: str, title: str) -> Plot:
    """Dots with intervals on a log axis, one line a device, best on top; color says how a figure came.

    ``quantity`` is a field of ``DeviceResult`` that holds a ``Figure``; devices without it are left out.
    """
    found = [
        (device, figure) for device in results.devices if (figure := _figure(device, quantity)) is not None
    ]
    found.sort(key=lambda pair: -pair[1].value)
    traces = []
    for how in HOW_COLORS:
        rows = [(device, figure) for device, figure in found if figure.how == how]
        if rows:
            traces.append(_dots(how, rows))
    axis = {"type": "log", "title": {"text": title}, **LOG_TICKS}
    order = {
        "categoryorder": "array",
        "categoryarray": [device.id for device, _ in found],
        "automargin": True,
    }
    return _plot(
        traces, height=110 + 46 * max(3, len(found)), xaxis=axis, yaxis=order, legend=_legend_above()
    )


def _figure(device: DeviceResult, quantity: str) -> Figure | None:
    return getattr(device, quantity)


def _dots(how: str, rows: list[tuple[DeviceResult, Figure]]) -> Plot:
    values = [figure.value for _, figure in rows]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": how,
        "x": values,
        "y": [device.id for device, _ in rows],
        "marker": {
            "color": HOW_COLORS[how],
            "size": 13,
            "symbol": [KIND_SYMBOLS[device.kind] for device, _ in rows],
        },
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [(figure.high or figure.value) - figure.value for _, figure in rows],
            "arrayminus": [
                figure.value - (figure.value if figure.low is None else figure.low) for _, figure in rows
            ],
            "thickness": 2,
            "width": 6,
            "color": HOW_COLORS[how],
        },
        "text": [f"{device.name}: {interval(figure)}" for device, figure in rows],
        "hovertemplate": "%{text}<extra></extra>",
    }


def interval(figure: Figure) -> str:
    """A figure with its interval, for people: ``13.1 µs (11.6 µs .. 14.7 µs)``."""
    text = si(figure.value, figure.unit)
    if figure.low is None or figure.high is None or figure.low == figure.high:
        return text
    return f"{text} ({si(figure.low, figure.unit)} .. {si(figure.high, figure.unit)})"


def stalls(results: RunResults) -> Plot:
    """Stall cycles of each queue by cause, as a share of the cycles; ``views`` holds all layers, and each."""
    queues = _ordered(queue for layer in results.layers for queue in layer.stalls)
    causes = _ordered(cause for layer in results.layers for part in layer.stalls.values() for cause in part)
    views = [("all layers", results.layers), *((layer.name, (layer,)) for layer in results.layers)]

    def share(view: tuple[object, ...], queue: str, cause: str) -> float:
        chosen = [layer for layer in results.layers if layer in view]
        total = sum(layer.cycles for layer in chosen)
        return sum(layer.stalls.get(queue, {}).get(cause, 0) for layer in chosen) / total if total else 0.0

    shares = [[[share(view, queue, cause) for queue in queues] for cause in causes] for _, view in views]
    traces: list[Plot] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": cause,
            "y": queues,
            "x": shares[0][index],
            "marker": {"color": PALETTE[index % len(PALETTE)]},
            "hovertemplate": "%{y}: " + cause + " %{x:.1%}<extra></extra>",
        }
        for index, cause in enumerate(causes)
    ]
    return {
        **_plot(
            traces,
            height=120 + 46 * max(3, len(queues)),
            barmode="stack",
            legend=_legend_above(),
            xaxis={"title": {"text": "share of cycles"}, "tickformat": ".0%", "rangemode": "tozero"},
            yaxis={"autorange": "reversed", "automargin": True},
        ),
        "views": [{"label": name, "x": values} for (name, _), values in zip(views, shares, strict=True)],
    }


def layers(results: RunResults) -> Plot:
    """Cycles of each layer on RTL, by the cycle model, and the bound where one is given."""
    names = [layer.name for layer in results.layers]
    model = {"color": PALETTE[1], "symbol": "line-ew-open", "size": 16, "line": {"width": 3}}
    bound = {"color": "#f2c14e", "symbol": "triangle-up", "size": 9, "line": {"width": 1}}
    traces: list[Plot] = [
        {
            "type": "bar",
            "name": "RTL",
            "x": names,
            "y": [layer.cycles for layer in results.layers],
            "marker": {"color": PALETTE[0]},
            "hovertemplate": "%{x}: %{y:,} cycles<extra></extra>",
        },
        _marks("cycle model", names, [layer.model_cycles for layer in results.layers], model),
    ]
    if any(layer.bound_cycles for layer in results.layers):
        traces.append(_marks("bound", names, [layer.bound_cycles for layer in results.layers], bound))
    return _plot(
        traces,
        height=360,
        legend=_legend_above(),
        bargap=0.35,
        xaxis={"automargin": True, "tickangle": -35},
        yaxis={"title": {"text": "cycles"}, "rangemode": "tozero", "automargin": True},
    )


def _marks(name: str, x: list[str], y: list[int | None], marker: Plot) -> Plot:
    hover = "%{x}: " + name + " %{y:,} cycles<extra></extra>"
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": x,
        "y": y,
        "marker": marker,
        "hovertemplate": hover,
    }


def operations(results: RunResults) -> Plot:
    """Latency of each operation on each device, log axis."""
    traces: list[Plot] = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": device.id,
            "x": [operation.name for operation in device.operations],
            "y": [operation.latency_s.value for operation in device.operations],
            "marker": {"symbol": KIND_SYMBOLS[device.kind], "size": 9},
            "line": {"width": 1, "color": PALETTE[index % len(PALETTE)], "dash": "dot"},
            "text": [
                f"{device.id}: {interval(operation.latency_s)}, {operation.bound_by} bound"
                if device.kind != "fpga"
                else f"{device.id}: {interval(operation.latency_s)}"
                for operation in device.operations
            ],
            "hovertemplate": "%{x}<br>%{text}<extra></extra>",
        }
        for index, device in enumerate(results.devices)
        if device.operations
    ]
    return _plot(
        traces,
        height=440,
        legend=_legend_below(),
        xaxis={"automargin": True, "tickangle": -35},
        yaxis={"type": "log", "title": {"text": "seconds"}, "automargin": True, **LOG_TICKS},
    )


def timeline(results: RunResults) -> Plot:
    """Queues of the core over time, first ``MOST_SPANS`` spans."""
    spans = results.timeline[:MOST_SPANS]
    tracks = _ordered(span.track for span in spans)
    clock = results.core.clock_hz.value
    traces: list[Plot] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": track,
            "showlegend": False,
            "y": [track] * len(own),
            "base": [round(span.start_s * clock) for span in own],
            "x": [round(span.duration_s * clock) for span in own],
            "marker": {
                "color": PALETTE[index % len(PALETTE)],
                "line": {"width": 0.5, "color": "rgba(128,128,128,.6)"},
            },
            "text": [span.name for span in own],
            "textposition": "none",
            "hovertemplate": "%{text}<br>from cycle %{base:,}, %{x:,} cycles<extra>" + track + "</extra>",
        }
        for index, track in enumerate(tracks)
        for own in [[span for span in spans if span.track == track]]
    ]
    return _plot(
        traces,
        height=130 + 44 * max(3, len(tracks)),
        barmode="overlay",
        bargap=0.3,
        xaxis={"title": {"text": "cycle"}, "separatethousands": True, "rangeslider": {"visible": False}},
        yaxis={"autorange": "reversed", "automargin": True},
        dragmode="pan",
    )


ALL: dict[str, Callable[[RunResults], Plot]] = {
    "latency": lambda results: comparison(results, "latency_s", "seconds"),
    "energy": lambda results: comparison(results, "energy_j", "joules"),
    "layers": layers,
    "stalls": stalls,
    "operations": operations,
    "timeline": timeline,
}
"""Every figure of the page by the id of its place."""


def _ordered(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _legend_above() -> Plot:
    return {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}


def _legend_below() -> Plot:
    return {"orientation": "h", "x": 0, "y": -0.25, "yanchor": "top"}


def _plot(traces: list[Plot], *, height: int, **layout: object) -> Plot:
    base: Plot = {"height": height, "margin": {"l": 10, "r": 20, "t": 30, "b": 50}, "hovermode": "closest"}
    return {"data": traces, "layout": {**base, **layout}}
