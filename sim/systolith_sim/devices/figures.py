"""Figures and where they come from.

A ``Datum`` stands in a device file: one number, its source and how far to trust it. A ``Figure`` is a result:
a number with its unit, how it was obtained, its source and an interval. Nothing is compared without one.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Confidence = Literal["read", "measured", "derived", "recalled"]
How = Literal["measured", "modelled", "published", "derived"]

SPREAD: Mapping[Confidence, float] = MappingProxyType(
    {"read": 1.1, "measured": 1.1, "derived": 1.5, "recalled": 2.0}
)
"""Factor below and above a datum that states no interval of its own.

Declared by this project, not fitted: a figure read in a source is taken as good to 10 %, one derived from
others to a factor 1.5, one recalled without a source at hand to a factor 2.
"""

Finite = Annotated[float, Field(allow_inf_nan=False)]


class Strict(BaseModel):
    """Frozen, closed, documented under each field: the base of everything read from a file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


class Datum(Strict):
    """One figure of a device file, in the unit its field's name states."""

    value: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """The number itself."""
    source: str
    """A key of the file's ``sources``."""
    confidence: Confidence
    """read in that source, measured here, derived from other figures, or recalled."""
    low: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Lower end of the interval; without it, ``value`` over the spread of its confidence."""
    high: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Upper end of the interval; without it, ``value`` times the spread of its confidence."""
    note: str = ""
    """What a reader must know beside the source."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        low, high = self.interval
        if not low <= self.value <= high:
            raise ValueError(f"low <= value <= high must hold, not {low:g}, {self.value:g}, {high:g}")
        return self

    @property
    def interval(self) -> tuple[float, float]:
        """(low, high), stated or from the confidence."""
        factor = SPREAD[self.confidence]
        low = self.value / factor if self.low is None else self.low
        high = self.value * factor if self.high is None else self.high
        return low, high


class Figure(BaseModel):
    """A result: value, unit, how it was obtained, source and interval."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    value: Finite
    """The number, in ``unit``."""
    unit: str
    """SI unit, such as ``s``, ``J``, ``W``, ``USD/h``."""
    how: How
    """measured on the thing itself, modelled, published by others, or derived from such figures."""
    source: str
    """Document, measurement or model, one sentence."""
    low: Finite | None = None
    """Lower end of the interval, where one is known."""
    high: Finite | None = None
    """Upper end of the interval, where one is known."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        low = self.value if self.low is None else self.low
        high = self.value if self.high is None else self.high
        if not low <= self.value <= high:
            raise ValueError(f"low <= value <= high must hold, not {low:g}, {self.value:g}, {high:g}")
        return self

    def scaled(self, factor: float, unit: str) -> "Figure":
        """The same figure times an exact positive ``factor``, in ``unit``."""
        ends = {
            name: None if end is None else end * factor
            for name, end in (("low", self.low), ("high", self.high))
        }
        return self.model_copy(update={"value": self.value * factor, "unit": unit, **ends})


def joined(sources: Iterable[str]) -> str:
    """Distinct sources in order of first appearance, as one string.

    >>> joined(["a", "b", "a"])
    'a; b'
    """
    return "; ".join(dict.fromkeys(source for source in sources if source))


def tuples(item: object) -> object:
    """TOML arrays as tuples, which strict frozen models ask for."""
    if isinstance(item, dict):
        return {key: tuples(value) for key, value in item.items()}
    if isinstance(item, list):
        return tuple(tuples(value) for value in item)
    return item
