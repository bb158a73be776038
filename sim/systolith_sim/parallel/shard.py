"""Shards: the model one device of a layout computes, and the messages between devices of one pass.

Heads, the MLP's width and the vocabulary are split over a tensor parallel group; what is left is again a model,
so its graph and costs come from the same code as a whole model's. Experts are dealt to an expert parallel group,
which may span several tensor parallel groups and then works on the tokens of all of them.
"""

from dataclasses import replace
from functools import cache
from math import ceil, comb

from systolith_model.architecture import Architecture, Experts
from systolith_model.graph import Graph, Tensor
from systolith_model.workload.mlp import active_experts
from systolith_sim.parallel.layout import Layout
from systolith_sim.parallel.links import Message

LAYER_SUMS = "layer sums"
"""Name of the messages behind the blocks of a layer."""
STAGES = "stage to stage"
"""Name of the messages between pipeline stages."""


def shard(model: Architecture, layout: Layout) -> Architecture:
    """The share of one device of a tensor parallel group, with all layers and all experts.

    Key-value heads that are fewer than the devices are held by several, as is a latent; widths that do not divide
    are rounded up. Of the experts' widths, what the expert parallel group does not share.

    Raises
    ------
    ValueError
        If the heads do not divide.
    """
    tp = layout.tp
    if tp == 1:
        return model
    if model.n_heads % tp:
        raise ValueError(f"tp must divide the {model.n_heads} heads, not be {tp}")
    heads = model.n_heads // tp
    wanted = ceil(model.n_kv_heads / tp)
    kv_heads = next(size for size in range(wanted, heads + 1) if heads % size == 0)
    return model.model_copy(
        update={
            "n_heads": heads,
            "n_kv_heads": kv_heads,
            "intermediate_size": ceil(model.intermediate_size / tp),
            "vocab_size": ceil(model.vocab_size / tp),
            "experts": _narrow(model.experts, max(1, tp // layout.ep), tp),
        }
    )


def _narrow(experts: Experts | None, ways: int, tp: int) -> Experts | None:
    """Experts whose matrices ``ways`` devices share; shared experts are split like a dense MLP."""
    if experts is None:
        return None
    return experts.model_copy(
        update={
            "intermediate_size": ceil(experts.intermediate_size / ways),
            "shared_size": ceil(experts.shared_size / tp),
        }
    )


def with_expert_share(graph: Graph, model: Architecture, layout: Layout, rows: int) -> Graph:
    """The graph with this device's experts alone, and the rows that come to them from its whole group.

    ``rows`` is how many tokens the graph computes; each goes to ``top_k`` experts.
    """
    experts = model.experts
    if layout.ep == 1 or experts is None:
        return graph
    pairs = ceil(rows * _groups(layout) * experts.top_k / layout.ep)
    active = int(busiest_experts(experts, layout, rows))
    before = rows * experts.top_k
    held = {"experts": ceil(experts.n_experts / layout.ep), "tokens": rows * _groups(layout)}
    tensors, operations = dict(graph.tensors), list(graph.operations)
    for place, operation in enumerate(graph):
        if operation.attributes.get("grouped"):
            for name in (*operation.inputs, *operation.outputs):
                tensors[name] = _share(graph.tensors[name], before, pairs, active)
            operations[place] = replace(operation, attributes={**operation.attributes, **held})
    return Graph(name=f"{graph.name}-ep{layout.ep}", tensors=tensors, operations=tuple(operations))


def _groups(layout: Layout) -> int:
    """Tensor parallel groups whose tokens an expert parallel group works on."""
    return max(1, layout.ep // layout.tp)


def busiest_experts(experts: Experts, layout: Layout, rows: int) -> float:
    """Experts that the busiest device of a group computes, expected where those in use are any of all; at least 1."""
    active = active_experts(experts, rows * _groups(layout))
    return _expected_most(active, ceil(experts.n_experts / layout.ep), layout.ep)


@cache
def _expected_most(active: int, held: int, devices: int) -> float:
    """Expected most of ``active`` things on one of some devices, each with room for ``held``."""
    ways = comb(held * devices, active)
    expected, below = 0.0, 0.0
    for most in range(1, held + 1):
        within = _ways(active, held, devices, most) / ways
        expected += most * (within - below)
        below = within
        if within >= 1:
            break
    return max(1.0, expected)


def _ways(active: int, held: int, devices: int, most: int) -> int:
    """Ways to choose ``active`` experts with at most ``most`` of the ``held`` on each of the devices."""
    each = [comb(held, count) for count in range(min(most, active) + 1)]
    total = [1]
    for _ in range(devices):
        product = [0] * min(len(total) + len(each) - 1, active + 1)
        for first, ours in enumerate(total):
            for second, theirs in enumerate(each[: len(product) - first]):
                product[first + second] += ours * theirs
        total = product
    return total[active] if active < len(total) else 0


def _share(tensor: Tensor, before: int, pairs: int, active: int) -> Tensor:
    if tensor.constant:
        return replace(tensor, shape=(min(active, tensor.shape[0]), *tensor.shape[1:]))
    if tensor.shape[0] != before:
        return tensor
    return replace(tensor, shape=(pairs, *tensor.shape[1:]))


def pass_messages(
    model: Architecture, layout: Layout, *, rows: int, sequences: int, element_bytes: float
) -> tuple[Message, ...]:
    """Messages of one forward pass of one device: ``rows`` new tokens of ``sequences`` sequences.

    A sum behind each block of a layer and behind the split embedding, the gathered logits; rows to and from the
    experts of other groups; the stream from stage to stage. ``model`` is the whole model.
    """
    width_bytes = rows * model.hidden_size * element_bytes
    layers = model.n_layers + model.n_encoder_layers
    messages = []
    if layout.tp > 1:
        sums = 1 if model.parallel else 2
        total = sums * layers + (model.n_layers if model.kind == "encoder_decoder" else 0)
        logits = sequences * model.vocab_size * element_bytes if model.head else 0.0
        # Sequence parallelism scatters each sum and gathers it again in front of the next block.
        kinds = ("reduce_scatter", "all_gather") if layout.sequence else ("all_reduce",)
        messages += [Message(kind, width_bytes, "tp", total, LAYER_SUMS) for kind in kinds]
        messages += [
            Message("all_reduce", width_bytes, "tp", 1, "embedding sum"),
            Message("all_gather", logits, "tp", 1, "logits"),
        ]
    if layout.ep > layout.tp and model.experts is not None:
        spread = expert_layers(model)
        share = width_bytes * model.experts.top_k / layout.tp
        messages.append(Message("all_to_all", share, "ep", 2 * spread, "to and from experts"))
    if layout.pp > 1:
        messages.append(Message("send", width_bytes, "pp", layout.pp - 1, STAGES))
    return tuple(messages)


def expert_layers(model: Architecture) -> int:
    """Layers that have experts."""
    experts = model.experts
    if experts is None:
        return 0
    return sum(
        1 for layer in range(model.n_layers) if layer >= experts.first_dense and (layer + 1) % experts.every == 0
    )
