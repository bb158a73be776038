"""Passes: the cost of one forward pass on one device, kernel by kernel, and sums of passes over a growing context."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from systolith_model.graph import Graph, Operation
from systolith_sim.devices.device import Device
from systolith_sim.devices.kernel import KernelTime, kernel_time, weight_bytes

TOLERANCE = 3e-4
"""Share of a pass by which the middle of an affine stretch may differ from the line through its ends."""
FINEST = 64
"""Shortest stretch of contexts that is split further; a staircase of attention blocks is finer than that."""


@dataclass(frozen=True)
class Kernel:
    """Kernels of one kind in a pass: cost of one, and how many there are on this device."""

    operation: Operation
    time: KernelTime
    count: float
    """Instances; a fraction where a stage holds a share of the layers."""


@dataclass(frozen=True)
class Pass:
    """Kernels of one forward or backward pass on one device, in order."""

    kernels: tuple[Kernel, ...]

    @property
    def seconds(self) -> float:
        """One kernel after the other, without engine and links."""
        return sum(kernel.count * kernel.time.seconds for kernel in self.kernels)

    @property
    def launch_s(self) -> float:
        """Part of ``seconds`` that is start and end of kernels."""
        return sum(kernel.count * kernel.time.launch_seconds for kernel in self.kernels)

    @property
    def operations(self) -> float:
        """Kernels launched."""
        return sum(kernel.count for kernel in self.kernels)

    @property
    def flops(self) -> float:
        """Operations, two a multiply-accumulate."""
        return sum(kernel.count * kernel.time.flops for kernel in self.kernels)

    @property
    def executed_flops(self) -> float:
        """Operations with those on padding."""
        return self.flops + sum(kernel.count * kernel.time.padding_flops for kernel in self.kernels)

    @property
    def bytes(self) -> float:
        """Bytes that kernels read and write, each once."""
        return sum(kernel.count * kernel.time.bytes for kernel in self.kernels)

    def scaled(self, factor: float, chosen: Callable[[Operation], bool] = lambda _: True) -> "Pass":
        """The pass with ``factor`` times as many of the chosen kernels; those with none are left out."""
        kernels = (
            Kernel(kernel.operation, kernel.time, kernel.count * factor if chosen(kernel.operation) else kernel.count)
            for kernel in self.kernels
        )
        return Pass(tuple(kernel for kernel in kernels if kernel.count > 0))


@dataclass
class Kernels:
    """Kernel costs of one device, each signature computed once."""

    device: Device
    _known: dict[tuple[object, ...], KernelTime] = field(default_factory=dict)

    def cost(self, graph: Graph, *, reuse_bytes: float | None = None) -> Pass:
        """Every operation of a graph.

        ``reuse_bytes`` is what passes before the same weights are read again; all weights of the graph unless given.
        """
        reuse = float(weight_bytes(graph)) if reuse_bytes is None else reuse_bytes
        return Pass(
            tuple(Kernel(operation, self._time(graph, operation, reuse), operation.count) for operation in graph)
        )

    def _time(self, graph: Graph, operation: Operation, reuse: float) -> KernelTime:
        signature = _signature(graph, operation, reuse)
        if signature not in self._known:
            self._known[signature] = kernel_time(self.device, graph, operation, reuse_bytes=reuse)
        return self._known[signature]


def _signature(graph: Graph, operation: Operation, reuse: float) -> tuple[object, ...]:
    tensors = graph.tensors
    shapes = tuple(
        (tensors[name].shape, tensors[name].format, tensors[name].constant)
        for name in (*operation.inputs, *operation.outputs)
    )
    attributes = tuple(
        (key, value) for key, value in sorted(operation.attributes.items()) if key != "writes_into"
    )
    return operation.kind, len(operation.inputs), shapes, attributes, reuse


def sum_over(step: Callable[[int], NDArray[np.float64]], first: int, last: int) -> NDArray[np.float64]:
    """Sum of ``step(context)`` for every context from ``first`` to ``last``, few of them evaluated.

    Exact where the step is affine in the context; a stretch whose middle leaves the line by more than
    ``TOLERANCE`` of its first entry is halved, down to ``FINEST`` contexts, which are then summed as a line too.
    """
    known: dict[int, NDArray[np.float64]] = {}

    def at(context: int) -> NDArray[np.float64]:
        if context not in known:
            known[context] = step(context)
        return known[context]

    def stretch(low: int, high: int) -> NDArray[np.float64]:
        """Sum over low <= context < high."""
        middle = (low + high) // 2
        if high - low > FINEST:
            line = at(low) + (at(high) - at(low)) * ((middle - low) / (high - low))
            if abs(line[0] - at(middle)[0]) > TOLERANCE * abs(at(middle)[0]):
                return stretch(low, middle) + stretch(middle, high)
        count = high - low
        return count * at(low) + (at(high) - at(low)) * ((count - 1) / 2)

    if last < first:
        return 0.0 * step(first)
    return (stretch(first, last) if last > first else 0.0) + at(last)


def joined_passes(passes: Iterable[Pass]) -> Pass:
    """One pass after the other."""
    return Pass(tuple(kernel for one in passes for kernel in one.kernels))


def busiest(passes: Sequence[Pass]) -> Pass:
    """The pass that takes longest."""
    return max(passes, key=lambda one: one.seconds)
