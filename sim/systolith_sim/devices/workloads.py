"""What calibration times: torch products at all levels of memory, and the pieces of the reference layers.

Every function returns an action for ``measure.repeat``, or None where this build of torch has no such kernel.
"""

from typing import TYPE_CHECKING

from systolith_model.config import TransformerConfig
from systolith_model.graph import Format
from systolith_sim.devices.measure import Action, in_turn

if TYPE_CHECKING:
    import torch

GROUP = 4
"""Query heads that share keys and values."""
WIDTH = 1024
"""Longest row of a norm, and elements of an activation's."""

TINY = TransformerConfig(vocab_size=32, hidden_size=32, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=16,
                         intermediate_size=64)
"""Shape of ``tiny_layer``."""


def dtype(numbers: Format) -> "torch.dtype":
    """The torch type of a format that calibration knows."""
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.int8}[numbers]


def product(numbers: Format, m: int, k: int, n: int, *, copies: int = 1, on: str = "cpu") -> Action | None:
    """(m, k) by constant weights stored (n, k), as in ``torch.nn.Linear``, over ``copies`` of the weights in turn."""
    import torch

    def one() -> Action:
        if numbers == "int8":
            a, w = (torch.randint(-127, 128, shape, dtype=torch.int8, device=on) for shape in ((m, k), (n, k)))
            int_mm = torch._int_mm  # public only through a compiler
            return lambda: int_mm(a, w.t())
        x, weight = (torch.randn(shape, device=on).to(dtype(numbers)) for shape in ((m, k), (n, k)))
        return lambda: torch.nn.functional.linear(x, weight)

    actions = [one() for _ in range(copies)]
    try:
        actions[0]()
    except (RuntimeError, AttributeError):
        return None  # this build of torch has no such kernel, or not at this size
    return in_turn(actions) if copies > 1 else actions[0]


def stream(kind: str, numbers: Format, elements: int, *, on: str = "cpu") -> Action:
    """A norm, rotation, gated activation, addition or append to a cache that writes ``elements``."""
    import torch

    from systolith_model.reference.norm import RMSNorm
    from systolith_model.reference.rope import rotary_angles, rotate

    kindof, width = dtype(numbers), min(elements, WIDTH)
    x = torch.randn(1, elements // width, width, device=on).to(kindof)
    if kind == "norm":
        norm = RMSNorm(width, 1e-5).to(on, kindof)
        return lambda: norm(x)
    if kind == "rope":
        size = min(elements, 64)
        heads = min(16, elements // size)
        flat = x.reshape(1, -1, heads * size)
        cos, sin = rotary_angles(torch.arange(flat.shape[1], device=on), head_dim=size, theta=10000.0)
        return lambda: rotate(flat.unflatten(-1, (heads, size)).transpose(1, 2), cos, sin)
    if kind == "gate":
        return lambda: torch.nn.functional.silu(x) * x
    if kind == "add":
        return lambda: x + x
    cached = x.reshape(1, min(8, elements // 64), -1, min(elements, 64))
    new = cached[:, :, :1].clone()
    old = cached[:, :, 1:].clone()
    return lambda: torch.cat((old, new), dim=2)


def decode_attention(numbers: Format, elements: int, *, on: str = "cpu") -> Action:
    """Attention of one query of 16 heads of 64 to heads x keys x head size = ``elements``."""
    return _attention(numbers, heads=16, queries=1, keys=max(1, elements // 1024), size=64, on=on)


def prefill_attention(numbers: Format, tokens: int, size: int, *, on: str = "cpu") -> Action:
    """Attention of 4 heads of ``size`` over ``tokens`` queries and as many keys."""
    return _attention(numbers, heads=4, queries=tokens, keys=tokens, size=size, on=on)


def _attention(numbers: Format, *, heads: int, queries: int, keys: int, size: int, on: str) -> Action:
    import torch

    from systolith_model.reference.attention import causal_attention

    q = torch.randn(1, heads, queries, size, device=on).to(dtype(numbers))
    k, v = (torch.randn(1, heads // GROUP, keys, size, device=on).to(dtype(numbers)) for _ in range(2))
    return lambda: causal_attention(q, k, v).transpose(1, 2).flatten(2)


def tiny_layer(*, on: str = "cpu") -> Action:
    """A whole reference layer, one token behind 16, so small that it is all starts."""
    import torch

    from systolith_model.reference.attention import LayerCache
    from systolith_model.reference.decoder import DecoderLayer
    from systolith_model.reference.rope import rotary_angles

    layer = DecoderLayer(TINY).to(on)
    x, old = torch.randn(1, 1, 32, device=on), torch.randn(1, 1, 16, 16, device=on)
    cos, sin = rotary_angles(torch.arange(16, 17, device=on), head_dim=16, theta=10000.0)

    def act() -> object:
        cache = LayerCache()
        cache.keys = cache.values = old
        return layer(x, cos, sin, cache)

    return act
