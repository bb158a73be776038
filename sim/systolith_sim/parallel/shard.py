"""Shards: the model one device of a layout computes, and the messages between devices of one pass.

Heads, the MLP's width and the vocabulary are split over a tensor parallel group; what is left is again a model,
so its graph and costs come from the same code as a whole model's.
"""

from math import ceil

from systolith_model.config import TransformerConfig
from systolith_sim.parallel.layout import Layout
from systolith_sim.parallel.links import Message


def shard(model: TransformerConfig, layout: Layout) -> TransformerConfig:
    """The share of one device of a tensor parallel group, with all layers.

    Key-value heads that are fewer than the devices are held by several; widths that do not divide are rounded up.

    Raises
    ------
    ValueError
        If the layout cannot split the model (``Layout.check``).
    """
    layout.check(model)
    tp = layout.tp
    heads = model.n_heads // tp
    wanted = ceil(model.n_kv_heads / tp)
    kv_heads = next(size for size in range(wanted, heads + 1) if heads % size == 0)
    return model.model_copy(
        update={
            "n_heads": heads,
            "n_kv_heads": kv_heads,
            "intermediate_size": ceil(model.intermediate_size / tp),
            "vocab_size": ceil(model.vocab_size / tp),
        }
    )


def pass_messages(
    model: TransformerConfig, layout: Layout, *, rows: int, sequences: int, element_bytes: float
) -> tuple[Message, ...]:
    """Messages of one forward pass of one device: ``rows`` new tokens of ``sequences`` sequences.

    Two sums a layer (behind attention and MLP), one behind the split embedding, and the gathered logits.
    """
    width_bytes = rows * model.hidden_size * element_bytes
    messages = []
    if layout.tp > 1:
        logits = sequences * model.vocab_size * element_bytes
        messages += [
            Message("all_reduce", width_bytes, "tp", 2 * model.n_layers, "layer sums"),
            Message("all_reduce", width_bytes, "tp", 1, "embedding sum"),
            Message("all_gather", logits, "tp", 1, "logits"),
        ]
    if layout.pp > 1:
        messages.append(Message("send", width_bytes, "pp", layout.pp - 1, "stage to stage"))
    return tuple(messages)
