"""Functions that torch's GPU build runs as one kernel and its CPU build, where stand-ins pretend to be, as several."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from systolith_model.workload.builder import NORM_FLOPS
from systolith_model.workload.module.products import attention, attention_backward
from systolith_model.workload.module.recorder import Recorder
from systolith_model.workload.training import BACKWARD_FACTOR


class _Attention(torch.autograd.Function):
    """Scaled dot product attention over (B, H, Tq, D), (B, Hkv, Tk, D), (B, Hkv, Tk, Dv).

    Takes recorder, whether it is causal, queries, keys, values and a bias or None.
    """

    @staticmethod
    def forward(ctx: Any, *given: Any, **_: Any) -> Tensor:
        rec, causal, q, k, v, bias = given
        out = q.new_empty(*q.shape[:-1], v.shape[-1])
        attention(rec, q, k, v, out, bias=bias, causal=causal)
        ctx.rec, ctx.causal = rec, causal
        ctx.save_for_backward(q, k, v, out, *([] if bias is None else [bias]))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = grads
        q, k, v, out, *bias = ctx.saved_tensors
        made = [torch.empty_like(part) for part in (q, k, v, *bias[: ctx.needs_input_grad[5]])]
        attention_backward(
            ctx.rec, grad, q, k, v, out, made, bias=bias[0] if bias else None, causal=ctx.causal
        )  # fmt: skip
        return (None, None, *made[:3], made[3] if len(made) > 3 else None)


class _RMSNorm(torch.autograd.Function):
    """Root mean square norm over the last dimensions; takes recorder, input and a weight or None."""

    @staticmethod
    def forward(ctx: Any, *given: Any, **_: Any) -> Tensor:
        rec, x, weight = given
        out = torch.empty_like(x)
        inputs = [rec.read(part) for part in (x, weight) if part is not None]
        rec.add("rms_norm", "norm", inputs, [out], flops=NORM_FLOPS["rmsnorm"] * x.numel())
        ctx.rec = rec
        ctx.save_for_backward(x, *([] if weight is None else [weight]))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = grads
        x, *weight = ctx.saved_tensors
        made = [torch.empty_like(part) for part in (x, *weight)]
        inputs = [ctx.rec.read(part) for part in (grad, x, *weight)]
        ctx.rec.add("rms_norm", "norm", inputs, made, flops=BACKWARD_FACTOR * NORM_FLOPS["rmsnorm"] * x.numel())
        return (None, made[0], made[1] if weight else None)


@contextmanager
def fused_functions(rec: Recorder) -> Iterator[None]:
    """While it lasts, attention and RMS norm of torch.nn.functional are noted as one operation each."""

    def scaled_dot_product_attention(
        query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
        is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
    ) -> Tensor:  # fmt: skip
        q, k, v = (_by_heads(part) for part in (query, key, value))
        batch = max(part.shape[0] for part in (q, k, v))
        q, k, v = (part if part.shape[0] == batch else part.expand(batch, -1, -1, -1) for part in (q, k, v))
        out = _Attention.apply(rec, is_causal, q, k, v, attn_mask)
        assert isinstance(out, Tensor)  # of one result
        return out.view(*query.shape[:-1], value.shape[-1])

    def rms_norm(
        input: Tensor, normalized_shape: list[int], weight: Tensor | None = None, eps: float | None = None
    ) -> Tensor:
        out = _RMSNorm.apply(rec, input, weight)
        assert isinstance(out, Tensor)  # of one result
        return out

    replaced: dict[str, Callable[..., Tensor]] = {
        "scaled_dot_product_attention": scaled_dot_product_attention, "rms_norm": rms_norm,
    }  # fmt: skip
    functions = nn.functional
    kept = {name: getattr(functions, name) for name in replaced if hasattr(functions, name)}
    for name in kept:
        setattr(functions, name, replaced[name])
    try:
        yield
    finally:
        for name, function in kept.items():
            setattr(functions, name, function)


def _by_heads(x: Tensor) -> Tensor:
    """(..., T, D) as (B, H, T, D)."""
    while x.dim() < 4:
        x = x.unsqueeze(0)
    return x.flatten(0, -4) if x.dim() > 4 else x
