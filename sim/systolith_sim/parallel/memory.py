"""Memory of one device of a layout: weights, key-value cache, activations; and what would make it fit."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import ceil

from systolith_model.architecture import Architecture
from systolith_model.formats import BITS, Formats
from systolith_model.graph import Graph
from systolith_model.parameters import kv_bytes, outer_parameters, weight_bytes
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


def own_experts(shard: Architecture, layout: Layout) -> Architecture:
    """A tensor parallel shard with this device's experts alone, for what is held rather than computed."""
    experts = shard.experts
    if experts is None or layout.ep == 1:
        return shard
    # Fewer than two experts are one expert of a dense layer's size; the count keeps what they weigh.
    held = max(2, experts.n_experts // layout.ep)
    width = ceil(experts.intermediate_size * experts.n_experts / layout.ep / held)
    own = experts.model_copy(update={"n_experts": held, "top_k": min(experts.top_k, held), "intermediate_size": width})
    return shard.model_copy(update={"experts": own})


def held_weights_bytes(shard: Architecture, layout: Layout, formats: Formats) -> float:
    """Weights on the fullest stage: its share of the layers, and the larger end of the model (both without stages)."""
    own = own_experts(shard, layout)
    outer = outer_parameters(own)
    size = BITS[formats.residual] / 8
    total = weight_bytes(own, formats)
    if layout.pp == 1:
        return total
    layers = own.n_layers + own.n_encoder_layers
    head = outer.embeddings if own.tied_embeddings else outer.head
    inner = total - outer.total * size
    return inner * ceil(layers / layout.pp) / layers + (max(outer.embeddings, head) + outer.vectors) * size


def held_cache_bytes(
    shard: Architecture, layout: Layout, *, batch: int, prompt: int, generate: int, formats: Formats
) -> float:
    """Keys and values of ``batch`` sequences at their end, on the fullest stage."""
    if shard.kind == "encoder":
        return 0.0
    both = shard.kind == "encoder_decoder"
    tokens, source = (generate, prompt) if both else (prompt + generate, 0)
    every = kv_bytes(shard, tokens=tokens, batch=batch, source=source, format=formats.kv)
    return every * ceil(shard.n_layers / layout.pp) / shard.n_layers


def activation_bytes(graph: Graph) -> float:
    """Largest operation's inputs and outputs beside weights and caches, and a residual stream beside them."""
    most = stream = 0.0
    for operation in graph:
        names = {*operation.inputs, *operation.outputs}
        tensors = [graph.tensors[name] for name in names]
        most = max(most, sum(tensor.bytes for tensor in tensors if not (tensor.constant or tensor.cache)))
        if operation.kind == "norm":
            stream = max(stream, graph.tensors[operation.inputs[0]].bytes)
    return most + stream


@dataclass(frozen=True)
class Change:
    """One change of a request or layout: how it reads, and the memory after it; None where it is impossible."""

    words: str
    memory: Callable[[], Memory | None]


def advice(
    memory: Memory, changes: Iterable[Change], *, tried: str = "batch, format or tensor parallel width"
) -> str:
    """One sentence that says what is missing and the first change, smallest first, that would fit.

    ``tried`` names what the changes were of, for where none would fit.
    """
    short = f"needs {memory.total / GB:.1f} GB a device, of which {memory.usable / GB:.1f} GB can be used"
    for change in changes:
        after = change.memory()
        if after is not None and after.fits:
            return f"{short}: {change.words} would fit, with {after.total / GB:.1f} GB."
    return f"{short}: no single change of {tried} would fit."


def wider_layouts(layout: Layout, most: int) -> list[Layout]:
    """The same layout with twice the tensor parallel width, four times, and so on up to ``most`` wide."""
    widths, tp = [], 2 * layout.tp
    while tp <= most:
        widths.append(tp)
        tp *= 2
    return [Layout(tp=width, pp=layout.pp, dp=layout.dp, ep=layout.ep) for width in widths]
