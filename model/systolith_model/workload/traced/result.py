"""A traced pass: its graph, and what the graph does not say."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

from systolith_model.formats import BITS, Format, Formats, storage_bytes
from systolith_model.graph import Graph
from systolith_model.workload.traced.retype import retyped
from systolith_model.workload.traced.steps import Shape, Step, Value


@dataclass(frozen=True, kw_only=True)
class ModuleGraph:
    """A module's pass as a graph, and what the graph does not say."""

    graph: Graph
    """Kernels one by one; equal layers once, with ``count``."""
    own: Format
    """Format of most of the parameters' bytes."""
    formats: Formats
    """Formats of the graph."""
    training: bool
    """Whether it is a step of forward, backward and optimizer."""
    parameters: int
    """Parameters, shared ones once."""
    trained: int
    """Those of them with a gradient."""
    parameter_bytes: int
    """In the formats that they are given in."""
    own_bytes: int
    """Of those in ``own``, which alone other formats change."""
    buffer_bytes: int
    """Of other tensors that the module registers."""
    cache_bytes: int
    """Of tensors inside objects among the inputs, such as a cache of keys and values, when the pass ends."""
    activation_bytes: int
    """Most bytes of other tensors needed at once, from the first operation that touches each to the last; gradients
    of parameters stay from the backward pass to the end of the step, as torch's optimizers free them by default."""
    state_bytes: int
    """States of the optimizer and master weights."""
    matrices: Mapping[Shape, int]
    """Constant matrices (K, N) of products that nothing else reads: how many of each shape."""
    tokens: int | None
    """Elements of the first input of integers, such as token ids."""
    approximated: Mapping[str, int] = field(default_factory=dict)
    """Calls of operations that no rule knows, by name: counted as one pass over their operands and results."""

    nodes: bool = False
    """Whether the kernels are nodes of an ONNX file; otherwise they are what eager torch launches."""

    @property
    def weight_bytes(self) -> float:
        """Bytes of parameters and buffers in the graph's formats."""
        weight = self.formats.weight
        plain = sum(number * storage_bytes(shape, replace(weight, format=self.own, scale_block=None, pruning="none",
                    density=1.0, entropy_ratio=1.0)) for shape, number in self.matrices.items())  # fmt: skip
        stored = sum(number * storage_bytes(shape, weight) for shape, number in self.matrices.items())
        rest = (self.own_bytes - plain) * BITS[self.formats.residual] / BITS[self.own]
        return stored + rest + self.parameter_bytes - self.own_bytes + self.buffer_bytes

    def with_formats(self, formats: Formats) -> "ModuleGraph":
        """The same pass with narrower weights, products' inputs and caches; see `retyped`."""
        graph = retyped(self.graph, formats, own=self.own)
        share = BITS[formats.residual] / BITS[self.own]
        return replace(
            self, graph=graph, formats=formats, activation_bytes=round(self.activation_bytes * share),
            cache_bytes=round(self.cache_bytes * BITS[formats.kv] / BITS[self.own]),
        )  # fmt: skip


def matrices_of(values: Sequence[Value], steps: Sequence[Step], own: Format) -> Counter[Shape]:
    """Shapes of the constant matrices of products, each once, without those that are gathered from."""

    def origin(place: int) -> int:
        base = values[place].base
        return place if base is None else origin(base)

    gathered = {origin(place) for step in steps if step.kind == "embedding" for place in step.inputs}
    seconds = {step.inputs[1] for step in steps if step.kind == "matmul"}
    seconds = {place for place in seconds if values[place].constant and values[place].format == own}
    found = {(origin(place), values[place].offset, prod(values[place].shape)): place for place in seconds}
    return Counter(values[place].shape for (whole, _, _), place in found.items() if whole not in gathered)
