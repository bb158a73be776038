"""Timeline: spans on named tracks, what every simulator hands to the report and to Perfetto."""

from collections.abc import Iterable, Mapping

from pydantic import BaseModel, ConfigDict, NonNegativeFloat

Detail = str | int | float | bool


class Span(BaseModel):
    """One piece of work on one track."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    track: str
    """Queue, unit or link that is busy."""
    name: str
    """What it does."""
    start_s: NonNegativeFloat
    """From the start of the run."""
    duration_s: NonNegativeFloat
    """Zero for an instant."""
    details: Mapping[str, Detail] = {}
    """Shown when the span is selected."""

    @property
    def end_s(self) -> float:
        """End, from the start of the run."""
        return self.start_s + self.duration_s


def end_s(spans: Iterable[Span]) -> float:
    """End of the last span; 0 where there is none."""
    return max((span.end_s for span in spans), default=0.0)


def busy_s(spans: Iterable[Span]) -> dict[str, float]:
    """Seconds each track is busy, tracks in order of first appearance."""
    busy: dict[str, float] = {}
    for span in spans:
        busy[span.track] = busy.get(span.track, 0.0) + span.duration_s
    return busy
