"""Planted faults: components of which one place in the source is changed."""

import inspect
import sys
import textwrap
from typing import Any, NamedTuple


class Fault(NamedTuple):
    """One planted fault; docs/reference/planted-faults.md lists them all."""

    component: type
    method: str
    good: str
    """Text that stands exactly once in the source of the method."""
    bad: str

    def planted(self) -> type[Any]:
        """The component with the fault in it."""
        source = textwrap.dedent(inspect.getsource(getattr(self.component, self.method)))
        if source.count(self.good) != 1:
            raise ValueError(f"{self.good!r} must stand once in {self.component.__name__}.{self.method}, "
                             f"not {source.count(self.good)} times")
        names: dict[str, Any] = {}
        exec(source.replace(self.good, self.bad), vars(sys.modules[self.component.__module__]), names)
        return type(self.component.__name__, (self.component,), {self.method: names[self.method]})
