"""Values and steps of a traced pass, before they get the names of a Graph."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from systolith_model.formats import Format
from systolith_model.graph import Kind

Attribute = int | float | bool | str
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Value:
    """A tensor of the pass, or a view of one."""

    shape: Shape
    format: Format
    label: str = ""
    """Name of what comes from outside: a parameter, a buffer, an input."""
    constant: bool = False
    cache: bool = False
    base: int | None = None
    """The value it is a view of."""
    offset: int = 0
    """Elements of the base before a view's first."""


@dataclass(frozen=True)
class Step:
    """One operation of the pass; inputs and outputs are places in a list of values."""

    path: str
    """Module it ran in, behind ``backward.`` in the backward pass."""
    call: int
    """Which call of a module it ran in."""
    word: str
    kind: Kind
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    count: int = 1
