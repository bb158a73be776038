"""Names: from steps and values to a Graph."""

from collections import Counter
from collections.abc import Sequence

from systolith_model.formats import Format
from systolith_model.graph import Graph, Operation, Tensor
from systolith_model.workload.traced.collapse import without_numbers
from systolith_model.workload.traced.steps import Shape, Step, Value


def graph_of(name: str, values: Sequence[Value], steps: Sequence[Step]) -> Graph:
    """A Graph of the steps.

    Operations are named after their module and torch's operation, tensors after what made them; a view after what
    it looks at, with its shape, and its first element where that is not the first, in brackets.
    """
    return _Naming(values).graph(name, steps)


class _Naming:
    def __init__(self, values: Sequence[Value]) -> None:
        self.values = values
        self.tensors: dict[str, Tensor] = {}
        self.names: dict[int, str] = {}
        self.used: Counter[str] = Counter()

    def graph(self, name: str, steps: Sequence[Step]) -> Graph:
        operations = tuple(self._operation(step) for step in steps)
        return Graph(name=name, tensors=self.tensors, operations=operations)

    def _operation(self, step: Step) -> Operation:
        path = without_numbers(step.path) if step.count > 1 else step.path
        name = self._unused(f"{path}.{step.word}" if path else step.word)
        inputs = tuple(self._name(place) for place in step.inputs)
        for number, place in enumerate(step.outputs):
            self._keep(place, self._unused(f"{name}.out{number or ''}"))
        outputs = tuple(self.names[place] for place in step.outputs)
        return Operation(
            name=name, kind=step.kind, inputs=inputs, outputs=outputs, attributes=step.attributes, count=step.count
        )

    def _unused(self, name: str) -> str:
        self.used[name] += 1
        return name if self.used[name] == 1 else f"{name}_{self.used[name]}"

    def _name(self, place: int) -> str:
        if place not in self.names:
            value = self.values[place]
            if value.base is None:
                name = value.label or f"made.{place}"
            else:
                name = f"{self._name(value.base)}[{_words(value.shape)}{f'@{value.offset}' if value.offset else ''}]"
                if value.format != self.values[value.base].format:
                    name += f" {value.format}"
                name += f" {value.label}" if value.label else ""
            self._keep(place, name)
        return self.names[place]

    def _keep(self, place: int, name: str) -> None:
        value = self.values[place]
        self.names[place] = name
        self.tensors[name] = tensor_of(name, value.shape, value.format, constant=value.constant, cache=value.cache)


def tensor_of(name: str, shape: Shape, format: Format, *, constant: bool, cache: bool) -> Tensor:
    """A tensor of the Graph."""
    return Tensor(name=name, shape=shape, format=format, constant=constant, cache=cache and not constant)


def _words(shape: Shape) -> str:
    return "x".join(str(size) for size in shape)
