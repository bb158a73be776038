"""The estimate's page: comparison across devices, breakdowns, and rooflines with the kernels on them."""

from pathlib import Path
from typing import cast

from systolith_model.graph import Format
from systolith_sim.devices.device import Device
from systolith_sim.estimate.cells import figure_cells, label, layout_words
from systolith_sim.estimate.generate import Estimate
from systolith_sim.estimate.passes import Kernel
from systolith_sim.estimate.result import EstimateResult, kind_of, results_json
from systolith_sim.report.page import fill, write_page
from systolith_sim.report.perfetto import write_trace
from systolith_sim.report.plots import KIND_SYMBOLS, LOG_TICKS, PALETTE, Plot
from systolith_sim.units import GB, si

MOST_NAMES = 16
"""Kernels named in a breakdown; the rest are summed."""


def write_folder(found: list[Estimate], folder: Path) -> None:
    """Write ``report.html``, ``estimate.json`` and a ``trace-DEVICE.json`` for Perfetto of each device."""
    (folder / "estimate.json").write_text(results_json([one.result for one in found]) + "\n", "utf-8")
    write_page(render(found), folder / "report.html")
    for one in found:
        name = one.result.device
        write_trace(one.timeline(), folder / f"trace-{name}.json", process=name)


def render(found: list[Estimate]) -> str:
    """The page's HTML; it loads nothing from elsewhere and runs without a network."""
    first = found[0].result
    figures: dict[str, Plot] = {
        "total": _bars(found, "total_s", "seconds"),
        "energy": _energy(found),
        "price": _bars(found, "price_usd_per_million_tokens", "USD"),
        "memory": _memory(found),
    }
    for index, one in enumerate(found, start=1):
        figures[f"breakdown-{index}"] = breakdown(one)
        figures[f"roofline-{index}"] = roofline(one)
    return fill(
        "estimate.html.j2",
        figures,
        title=f"{first.model} on {', '.join(label(one.result) for one in found)}",
        lead=f"{kind_of(first)}, {first.format}",
        rows=[_row(one.result) for one in found],
        devices=[label(one.result) for one in found],
        provenance={label(one.result): one.result.provenance for one in found},
        schema=first.schema_id,
    )


def _row(result: EstimateResult) -> dict[str, object]:
    return {
        "device": label(result),
        "layout": layout_words(result),
        "engine": result.engine,
        "cells": figure_cells(result),
        "fits": result.fits,
        "bound_by": result.bound_by,
        "note": result.provenance.get("fit", ""),
    }


def _bars(found: list[Estimate], field: str, title: str) -> Plot:
    """One dot a device with its interval, on a log axis; devices without the figure are left out."""
    return _dotted([_dots(found, field, title)], title)


def _energy(found: list[Estimate]) -> Plot:
    """Energy a token of the devices alone, and with their hosts where these are known."""
    alone = {**_dots(found, "energy_j_per_token", "joules"), "name": "devices alone"}
    whole = {**_dots(found, "energy_with_host_j_per_token", "joules", colour=PALETTE[1]), "name": "with hosts"}
    legend = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}
    return _dotted([alone, whole], "joules", legend=legend, showlegend=True)


def _dotted(traces: list[Plot], title: str, **layout: object) -> Plot:
    rows = len({name for trace in traces for name in cast("list[str]", trace["y"])})
    # Devices often lie within one decade: label 2 and 5 too.
    axis = {"type": "log", "title": {"text": title}, **LOG_TICKS, "dtick": "D2"}
    return _plot(traces, 110 + 46 * max(2, rows), xaxis=axis, yaxis={"automargin": True}, **layout)


def _dots(found: list[Estimate], field: str, title: str, colour: str = PALETTE[0]) -> Plot:
    rows = [
        (one, float(value), one.result.interval.get(field, (value, value)))
        for one in found
        if (value := getattr(one.result, field)) is not None
    ]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [value for _, value, _ in rows],
        "y": [label(one.result) for one, _, _ in rows],
        "marker": {"size": 12, "color": colour, "symbol": [KIND_SYMBOLS[one.device.kind] for one, _, _ in rows]},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [ends[1] - value for _, value, ends in rows],
            "arrayminus": [value - ends[0] for _, value, ends in rows],
        },
        "hovertemplate": "%{y}: %{x:.4g} " + title + "<extra></extra>",
    }


def _memory(found: list[Estimate]) -> Plot:
    labels = [label(one.result) for one in found]
    traces: list[Plot] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": part,
            "y": labels,
            "x": [getattr(one.result.memory_bytes, part) / GB for one in found],
            "marker": {"color": PALETTE[index]},
        }
        for index, part in enumerate(("weights", "kv", "activations"))
    ]
    size: Plot = {
        "type": "scatter",
        "mode": "markers",
        "name": "of the device",
        "y": labels,
        "x": [one.device.main_memory.size_bytes.value / GB for one in found],
        "marker": {"symbol": "line-ns-open", "size": 18, "color": PALETTE[4], "line": {"width": 3}},
    }
    return _plot(
        [*traces, size], 130 + 46 * max(2, len(found)), barmode="stack", xaxis={"title": {"text": "GB"}},
        yaxis={"automargin": True}, legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    )  # fmt: skip


def breakdown(one: Estimate) -> Plot:
    """Seconds of the kernels of each pass by name, longest first."""
    traces = []
    for index, (name, work) in enumerate(one.passes.items()):
        seconds: dict[str, float] = {}
        for kernel in work.kernels:
            label = kernel.operation.name.removeprefix("layer.")
            seconds[label] = seconds.get(label, 0.0) + kernel.count * kernel.time.seconds
        ranked = sorted(seconds.items(), key=lambda item: -item[1])
        shown = dict(ranked[:MOST_NAMES])
        if rest := sum(value for _, value in ranked[MOST_NAMES:]):
            shown["others"] = rest
        traces.append(
            {
                "type": "bar",
                "name": name,
                "x": list(shown),
                "y": [value / work.seconds for value in shown.values()],
                "marker": {"color": PALETTE[index]},
                "text": [si(value, "s") for value in shown.values()],
                "hovertemplate": "%{x}: %{text}, %{y:.1%} of the kernels<extra>" + name + "</extra>",
            }
        )
    axis = {"title": {"text": "share of the kernels' time"}, "tickformat": ".0%", "automargin": True}
    return _plot(
        traces, 380, barmode="group", yaxis=axis, xaxis={"tickangle": -35, "automargin": True},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    )  # fmt: skip


def roofline(one: Estimate) -> Plot:
    """Operations a byte against operations a second: the device's lines, and one mark a kernel."""
    marks = {name: [kernel for kernel in work.kernels if kernel.time.flops and kernel.time.bytes]
             for name, work in one.passes.items()}  # fmt: skip
    traces = [_kernels(name, kernels, index) for index, (name, kernels) in enumerate(marks.items())]
    xs = [_intensity(kernel) for kernels in marks.values() for kernel in kernels]
    lines = _lines(one.device, min([*xs, 1.0]), max([*xs, 1000.0]), _formats(one))
    return _plot(
        [*lines, *traces], 430,
        xaxis={"type": "log", "title": {"text": "operations a byte"}, **LOG_TICKS},
        yaxis={"type": "log", "title": {"text": "operations a second"}, "automargin": True, **LOG_TICKS},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    )  # fmt: skip


def _intensity(kernel: Kernel) -> float:
    """Operations a byte."""
    return kernel.time.flops / kernel.time.bytes


def _formats(one: Estimate) -> list[Format]:
    kernels = [kernel for work in one.passes.values() for kernel in work.kernels]
    return list(dict.fromkeys(kernel.time.format for kernel in kernels))


def _kernels(name: str, kernels: list[Kernel], index: int) -> Plot:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [_intensity(kernel) for kernel in kernels],
        "y": [kernel.time.flops / kernel.time.seconds for kernel in kernels],
        "text": [
            f"{kernel.operation.name}: {si(kernel.time.seconds, 's')}, {kernel.time.bound_by} bound"
            for kernel in kernels
        ],
        "hovertemplate": "%{text}<extra>" + name + "</extra>",
        "marker": {"size": 10, "color": PALETTE[index]},
    }


def _lines(device: Device, low: float, high: float, formats: list[Format]) -> list[Plot]:
    bandwidth = device.main_memory.bandwidth_bytes_per_s.value
    lines = []
    for index, format in enumerate(formats):
        peak = device.peak_ops_per_s[format].value
        ridge = peak / bandwidth
        xs = [low, ridge, max(high, 2 * ridge)]
        lines.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": f"{format}: {si(bandwidth, 'B/s')}, {si(peak, 'op/s')}",
                "x": xs,
                "y": [min(x * bandwidth, peak) for x in xs],
                "line": {"color": PALETTE[(index + 2) % len(PALETTE)], "width": 2},
                "hoverinfo": "name",
            }
        )
    return lines


def _plot(traces: list[Plot], height: int, **layout: object) -> Plot:
    base: Plot = {"height": height, "margin": {"l": 10, "r": 20, "t": 30, "b": 50}, "hovermode": "closest"}
    return {"data": traces, "layout": {**base, **layout}}
