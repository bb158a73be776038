"""Timelines as Chrome trace JSON, which ui.perfetto.dev and chrome://tracing open."""

import json
from collections.abc import Iterable
from pathlib import Path

from systolith_sim.devices.timeline import Span
from systolith_sim.units import US_PER_S


def chrome_trace(spans: Iterable[Span], *, process: str = "systolith") -> dict[str, object]:
    """Trace events of a timeline: one thread a track, in order of first appearance; times in microseconds."""
    tracks: dict[str, int] = {}
    events: list[dict[str, object]] = [
        {"ph": "M", "name": "process_name", "pid": 1, "tid": 0, "args": {"name": process}}
    ]
    for span in spans:
        if span.track not in tracks:
            tracks[span.track] = len(tracks) + 1
            thread = {"pid": 1, "tid": tracks[span.track]}
            events.append({"ph": "M", "name": "thread_name", **thread, "args": {"name": span.track}})
            order = {"sort_index": tracks[span.track]}
            events.append({"ph": "M", "name": "thread_sort_index", **thread, "args": order})
        events.append(
            {
                "ph": "X",
                "name": span.name,
                "pid": 1,
                "tid": tracks[span.track],
                "ts": span.start_s * US_PER_S,
                "dur": span.duration_s * US_PER_S,
                "args": dict(span.details),
            }
        )
    return {"displayTimeUnit": "ns", "traceEvents": events}


def write_trace(spans: Iterable[Span], path: Path, *, process: str = "systolith") -> None:
    """Write a timeline for Perfetto."""
    path.write_text(json.dumps(chrome_trace(spans, process=process)), "utf-8")
