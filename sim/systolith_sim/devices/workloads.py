"""What calibration times: torch products at all levels of memory, and the pieces of the reference layers.

Every function returns an action for ``measure.repeat``. Data are constants: no time here depends on values.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from systolith_model.config import TransformerConfig
from systolith_model.formats import Format
from systolith_sim.devices.measure import Action, in_turn

if TYPE_CHECKING:
    import torch

GROUP = 4
"""Query heads that share keys and values."""
WIDTH = 1024
"""Longest row of a norm or an activation."""
HEAD = 64
"""Head size of rotations, caches and decode attention."""
TINY = TransformerConfig(vocab_size=32, hidden_size=32, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=16,
                         intermediate_size=64)  # fmt: skip
"""Shape of ``tiny_layer``: one token behind 16."""
TINY_CONTEXT = 16


def filled(numbers: Format, *shape: int, on: str = "cpu") -> "torch.Tensor":
    """A tensor of one value in a format that calibration knows."""
    import torch

    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.int8}
    return torch.full(shape, 1 if numbers == "int8" else 0.01, dtype=kinds[numbers], device=on)


def product(numbers: Format, m: int, weights: "Sequence[torch.Tensor]") -> Action | None:
    """(m, k) by constant weights stored (n, k), as in ``torch.nn.Linear``, over several weights in turn.

    None where this build of torch has no such kernel, or not for so few rows.
    """
    import torch

    x = filled(numbers, m, weights[0].shape[1], on=str(weights[0].device))

    def one(weight: "torch.Tensor") -> Action:
        if numbers == "int8":
            int_mm = getattr(torch, "_int_mm")  # noqa: B009 - public only through a compiler
            return lambda: int_mm(x, weight.t())
        return lambda: torch.nn.functional.linear(x, weight)

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


def tiny_layer() -> Action:
    """A whole reference layer so small that it is all starts."""
    import torch

    from systolith_model.reference.attention import LayerCache
    from systolith_model.reference.decoder import DecoderLayer
    from systolith_model.reference.rope import rotary_angles

    layer = DecoderLayer(TINY)
    x, old = torch.randn(1, 1, TINY.hidden_size), torch.randn(1, 1, TINY_CONTEXT, TINY.head_dim)
    position = torch.arange(TINY_CONTEXT, TINY_CONTEXT + 1)
    cos, sin = rotary_angles(position, head_dim=TINY.head_dim, theta=10000.0)

    def act() -> object:
        cache = LayerCache()
        cache.keys = cache.values = old
        return layer(x, cos, sin, cache)

    return act
