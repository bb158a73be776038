"""Memory of one device of a layout, inference: weights, key-value cache, activations; what would make it fit."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import ceil

from systolith_model.graph import BITS, Format, Graph
from systolith_sim.parallel.layout import Layout
from systolith_sim.units import GB


@dataclass(frozen=True)
class Memory:
    """Bytes on the fullest device, and what it may use."""

    weights: float
    """Parameters; in training with gradients and optimizer states."""
    kv: float
    """Keys and values of all sequences at their end."""
    activations: float
    """Largest set of tensors alive at once beside those."""
    usable: float
    """Bytes of the device that the engine may fill."""

    @property
    def total(self) -> float:
        """All of it."""
        return self.weights + self.kv + self.activations

    @property
    def fits(self) -> bool:
        """Whether it fits."""
        return self.total <= self.usable


def weights_bytes(graph: Graph, *, pp: int, tied: bool) -> float:
    """Constants of a pass's graph on the fullest stage of ``pp``: its share of layers and one end of the model.

    ``tied`` says that the embedding's table and the head's matrix are one where both stand on one device.
    """
    counts = {name: operation.count for operation in graph for name in operation.inputs}
    layers = ends = 0.0
    tables = []
    for name, count in counts.items():
        tensor = graph.tensors[name]
        if not tensor.constant:
            continue
        if count > 1 or name.startswith("layer."):
            layers += tensor.bytes * ceil(count / pp)
        elif len(tensor.shape) == 2:
            tables.append(tensor.bytes)
        else:
            ends += tensor.bytes
    if pp > 1 or tied:
        return layers + ends + max(tables, default=0.0)
    return layers + ends + sum(tables)


def cache_bytes(shard_kv_heads: int, head_dim: int, layers: int, tokens: int, format: Format) -> float:
    """Keys and values of ``tokens`` tokens in ``layers`` layers on one device."""
    return 2 * layers * tokens * shard_kv_heads * head_dim * BITS[format] / 8


def activation_bytes(graph: Graph) -> float:
    """Largest operation's inputs and outputs beside weights and caches, and the residual stream."""
    cached = {name for operation in graph if operation.kind == "attention" for name in operation.inputs[1:3]}
    most = 0.0
    for operation in graph:
        names = {*operation.inputs, *operation.outputs} - cached
        most = max(most, sum(graph.tensors[name].bytes for name in names if not graph.tensors[name].constant))
    stream = graph.tensors.get("residual")
    return most + (stream.bytes if stream is not None else 0.0)


@dataclass(frozen=True)
class Change:
    """One change of a request or layout: how it reads, and the memory after it."""

    words: str
    memory: Callable[[], Memory | None]


def advice(memory: Memory, changes: Iterable[Change]) -> str:
    """One sentence that says what is missing and the first change, smallest first, that would fit."""
    short = f"needs {memory.total / GB:.1f} GB a device, of which {memory.usable / GB:.1f} GB can be used"
    for change in changes:
        after = change.memory()
        if after is not None and after.fits:
            return f"{short}: {change.words} would fit, with {after.total / GB:.1f} GB."
    return f"{short}: no single change of batch, format or tensor parallel width would fit."


def wider_layouts(layout: Layout, most: int) -> list[Layout]:
    """The same layout with twice the tensor parallel width, four times, and so on up to ``most`` devices of it."""
    widths, tp = [], 2 * layout.tp
    while tp <= most:
        widths.append(tp)
        tp *= 2
    return [Layout(tp=width, pp=layout.pp, dp=layout.dp, ep=layout.ep) for width in widths]
