"""What calibration times: torch products at all levels of memory, and the pieces of the reference layers.

Every function returns an action for ``measure.repeat``. Data are constants: no time here depends on values.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from systolith_model.architecture import Architecture
from systolith_model.config import TransformerConfig
from systolith_model.formats import BITS, Format, Formats
from systolith_model.graph import Graph
from systolith_model.workload import forward_graph
from systolith_sim.devices.measure import Action, Clock, in_turn

if TYPE_CHECKING:
    import torch

    from systolith_model.reference.decoder import DecoderLayer

GROUP = 4
"""Query heads that share keys and values."""
WIDTH = 1024
"""Longest row of a norm or an activation."""
HEAD = 64
"""Head size of rotations, caches and decode attention."""
SMALL = TransformerConfig(vocab_size=32, hidden_size=96, n_layers=1, n_heads=3, n_kv_heads=1, head_dim=32,
                          intermediate_size=192)  # fmt: skip
"""Shape of ``small_layer``: one token behind ``SMALL_CONTEXT``."""
SMALL_CONTEXT = 64
SMALL_COPIES = 4
"""Layers that take turns, as in a model: the next one finds little of itself in the nearest cache."""
OUTSIDE = ("embedding", "norm", "lm_head")
"""Operations of a decoder's graph that are not a layer's."""


def filled(numbers: Format, *shape: int, on: str = "cpu") -> "torch.Tensor":
    """A tensor of one value in a format that calibration knows."""
    import torch

    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.int8}
    return torch.full(shape, 1 if numbers == "int8" else 0.01, dtype=kinds[numbers], device=on)


def product(
    numbers: Format, m: int, weights: "Sequence[torch.Tensor]", *, x: "torch.Tensor | None" = None
) -> Action | None:
    """(m, k) by constant weights stored (n, k), as in ``torch.nn.Linear``, over several weights in turn.

    ``x`` is a constant unless given. None where this build of torch has no such kernel, or not for so few rows.
    """
    import torch

    rows = filled(numbers, m, weights[0].shape[1], on=str(weights[0].device)) if x is None else x

    def one(weight: "torch.Tensor") -> Action:
        if numbers == "int8":
            return lambda: torch.ops.aten._int_mm(rows, weight.t())  # public only through a compiler
        return lambda: torch.nn.functional.linear(rows, weight)

    try:
        actions = [one(weight) for weight in weights]
        actions[0]()
    except (RuntimeError, AttributeError):
        return None
    return in_turn(actions) if len(actions) > 1 else actions[0]


def stream(kind: str, numbers: Format, elements: int, *, on: str = "cpu") -> Action:
    """A norm, rotation, gated activation, addition or append to a cache that writes ``elements``."""
    import torch

    from systolith_model.reference.norm import RMSNorm

    width = min(elements, WIDTH)
    x = filled(numbers, 1, elements // width, width, on=on)
    if kind == "norm":
        norm = RMSNorm(width, 1e-5).to(device=x.device, dtype=x.dtype)
        return lambda: norm(x)
    if kind == "rope":
        return _rotation(x)
    if kind == "gate":
        return lambda: torch.nn.functional.silu(x) * x
    if kind == "add":
        return lambda: x + x
    assert kind == "append"
    cached = x.reshape(1, min(8, elements // HEAD), -1, HEAD)
    new, old = cached[:, :, :1].clone(), cached[:, :, 1:].clone()
    return lambda: torch.cat((old, new), dim=2)


def _rotation(x: "torch.Tensor") -> Action:
    import torch

    from systolith_model.reference.rope import rotary_angles, rotate

    heads = min(WIDTH, x.numel()) // HEAD
    flat = x.reshape(1, -1, heads * HEAD)
    positions = torch.arange(flat.shape[1], device=x.device)
    cos, sin = rotary_angles(positions, head_dim=HEAD, theta=10000.0)
    return lambda: rotate(flat.unflatten(-1, (heads, HEAD)).transpose(1, 2), cos, sin)


def decode_attention(numbers: Format, elements: int, *, on: str = "cpu") -> Action:
    """Attention of one query of 16 heads, to heads x keys x head size = ``elements``."""
    return _attention(numbers, heads=16, queries=1, keys=max(1, elements // (16 * HEAD)), size=HEAD, on=on)


def prefill_attention(numbers: Format, scores: int, size: int, *, on: str = "cpu") -> Action:
    """Attention of 4 heads of ``size`` over queries and as many keys, to ``scores`` in all."""
    tokens = round((scores / 4) ** 0.5)
    return _attention(numbers, heads=4, queries=tokens, keys=tokens, size=size, on=on)


def _attention(numbers: Format, *, heads: int, queries: int, keys: int, size: int, on: str) -> Action:
    from systolith_model.reference.attention import causal_attention

    q = filled(numbers, 1, heads, queries, size, on=on)
    k, v = (filled(numbers, 1, heads // GROUP, keys, size, on=on) for _ in range(2))
    return lambda: causal_attention(q, k, v).transpose(1, 2).flatten(2)


def layer_graph(shape: Architecture, *, tokens: int, context: int, numbers: Format) -> Graph:
    """Operations of one layer of a decoder, as the reference module runs them, and no others."""
    one = shape.model_copy(update={"n_layers": 1})
    graph = forward_graph(one, tokens=tokens, context=context, formats=Formats.plain(numbers))
    return replace(graph, operations=tuple(operation for operation in graph if operation.name not in OUTSIDE))


def layer(config: TransformerConfig, numbers: Format, *, tokens: int, context: int) -> Action:
    """A reference layer over ``tokens`` behind ``context`` cached ones."""
    return _run(_module(config, numbers), config, numbers, tokens=tokens, context=context)


def _module(config: TransformerConfig, numbers: Format) -> "DecoderLayer":
    import torch

    from systolith_model.reference.decoder import DecoderLayer

    with torch.device("meta"):
        module = DecoderLayer(config)
    module = module.to(filled(numbers, 1).dtype).to_empty(device="cpu")
    for parameter in module.parameters():
        parameter.data.fill_(0.01)
    return module


def _run(
    module: "DecoderLayer", config: TransformerConfig, numbers: Format, *, tokens: int, context: int
) -> Action:
    import torch

    from systolith_model.reference.attention import LayerCache
    from systolith_model.reference.rope import rotary_angles

    x = filled(numbers, 1, tokens, config.hidden_size)
    positions = torch.arange(context, context + tokens)
    cos, sin = rotary_angles(positions, head_dim=config.head_dim, theta=config.rope_theta)
    old = filled(numbers, 1, config.n_kv_heads, context, config.head_dim) if context else None

    def act() -> object:
        cache = LayerCache()
        cache.keys = cache.values = old
        return module(x, cos, sin, cache)

    return act


def small_layer(numbers: Format) -> Action:
    """Layers of ``SMALL`` in turn: nearly all starts."""
    return in_turn([layer(SMALL, numbers, tokens=1, context=SMALL_CONTEXT) for _ in range(SMALL_COPIES)])


def large_config(numbers: Format, weight_bytes: float) -> TransformerConfig:
    """A layer of heads of ``HEAD``, ``GROUP`` of which share keys, with weights of about so many bytes."""
    step = GROUP * HEAD
    # Queries and outputs h x h, keys and values h x h / GROUP, three of h x 2.75 h.
    hidden = (weight_bytes * 8 / BITS[numbers] / (2 + 2 / GROUP + 3 * 2.75)) ** 0.5
    groups = max(1, round(hidden / step))
    return TransformerConfig(vocab_size=32, hidden_size=groups * step, n_layers=1, n_heads=GROUP * groups,
                             n_kv_heads=groups, head_dim=HEAD, intermediate_size=groups * step * 11 // 4)  # fmt: skip


def without_products(config: TransformerConfig, numbers: Format, clock: Clock) -> tuple[Action, Clock]:
    """A decode step of a layer, and the clock that does not count its products with weights."""
    from torch import nn

    module, spent = _module(config, numbers), [0.0]

    def timed(product: nn.Linear) -> None:
        forward = product.forward

        def act(input: "torch.Tensor") -> "torch.Tensor":
            out: list[torch.Tensor] = []
            spent[0] += clock(lambda: out.append(forward(input)), 1)
            return out[0]

        product.forward = act

    for product in module.modules():
        if isinstance(product, nn.Linear):
            timed(product)

    def outside(action: Action, calls: int) -> float:
        spent[0] = 0.0
        return clock(action, calls) - spent[0] / calls

    return _run(module, config, numbers, tokens=1, context=SMALL_CONTEXT), outside
