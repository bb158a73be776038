"""Products, convolutions and attention: what their arguments mean as shapes of a Graph."""

from math import prod
from typing import Any

import torch
from torch import Tensor

from systolith_model.workload.module.recorder import Recorder, Rule
from systolith_model.workload.traced.convolution import depthwise, unfolded

COMPUTED = (
    torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2, torch.int8, torch.uint8,
)  # fmt: skip
"""What products may be computed in."""


def product(rec: Recorder, word: str, a: Tensor, b: Tensor, out: Tensor, *others: Tensor) -> None:
    """(M, K) by (K, N), or a batch of such; ``others`` are read beside, such as a bias.

    A constant stands second, for which the transposed product is noted where it came first; one matrix for a whole
    batch stands once.

    Raises
    ------
    ValueError
        If the format is none that machines multiply in.
    """
    if a.dtype not in COMPUTED:
        allowed = ", ".join(str(kind).removeprefix("torch.") for kind in COMPUTED)
        raise ValueError(f"products must be in {allowed}, not {str(a.dtype).removeprefix('torch.')}")
    beside = [rec.read(other) for other in others]
    first, second, made = tuple(a.shape), tuple(b.shape), tuple(out.shape)
    if b.dim() == 3 and b.shape[0] > 1 and b.stride(0) == 0:
        second = second[1:]
    if a.dim() == 2 and rec.is_constant(a) and not rec.is_constant(b):
        a, b, first, second, made = b, a, second[::-1], first[::-1], made[::-1]
    rec.add(word, "matmul", [rec.read(a, first), rec.read(b, second), *beside], [(out, made)])


def _mm(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> None:
    product(rec, _word(func), args[0], args[1], out)


def _addmm(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> None:
    others = [] if kwargs.get("beta", 1) == 0 else [args[0]]
    product(rec, _word(func), args[1], args[2], out, *others)


def _scaled_mm(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    others = [part for part in (*args[2:], *kwargs.values()) if isinstance(part, Tensor)]
    product(rec, _word(func), args[0], args[1], out[0] if isinstance(out, tuple) else out, *others)


def _mv(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> None:
    matrix, vector = args[-2:]
    others = [rec.read(args[0])] if len(args) == 3 else []
    rows, k = matrix.shape
    inputs = [rec.read(vector, (1, k)), rec.read(matrix, (k, rows)), *others]
    rec.add(_word(func), "matmul", inputs, [(out, (1, rows))])


def _grouped_mm(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> None:
    """Rows dealt to matrices by offsets: each row counts once, all matrices are read, evenly used."""
    a, b = args[:2]
    if a.dim() == 2 and b.dim() == 3:
        experts = b.shape[0]
        inputs, transposed = [rec.read(a, tuple(a.shape)), rec.read(b, tuple(b.shape))], ""
    elif a.dim() == 2 and b.dim() == 2:  # gradient of the matrices: a is (K, P)
        experts = out.shape[0]
        inputs = [rec.read(a, tuple(a.shape)[::-1]), rec.read(b, tuple(b.shape))]
        transposed = "a"
    else:
        product(rec, _word(func), a, b, out)
        return
    rec.add(
        _word(func), "matmul", inputs, [(out, tuple(out.shape))], grouped=True, experts=experts, imbalance=1.0,
        transposed=transposed,
    )  # fmt: skip


def _grouped_result(a: Tensor, b: Tensor, offsets: Tensor | None = None, *_: object, **__: object) -> Tensor:
    """What torch's own stand-in gives in bf16 alone."""
    lead: tuple[int, ...] = ()
    if a.dim() == b.dim():  # one matrix each, or one for each group of the rows that are summed
        lead = a.shape[:1] if a.dim() == 3 or offsets is None else (offsets.numel(),)
    return a.new_empty(*lead, a.shape[-2], b.shape[-1])


def attention(
    rec: Recorder, q: Tensor, k: Tensor, v: Tensor, out: Tensor, *, bias: Tensor | None = None, causal: bool = False
) -> None:
    """Fused attention; a bias is read whole, and hides nothing.

    torch's causal mask lets query i see keys up to i; behind as many keys as queries that is the Graph's.
    """
    k, causal = _seen(q, k, causal)
    v = v[:, :, : k.shape[2]]
    inputs = [rec.read(part, tuple(part.shape)) for part in (q, k, v)]
    if bias is not None:
        inputs.append(rec.read(bias))
    rec.add("attention", "attention", inputs, [out], causal=causal)


def attention_backward(
    rec: Recorder, grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, made: list[Tensor], *,
    bias: Tensor | None = None, causal: bool = False,
) -> None:  # fmt: skip
    """Gradients of fused attention, with the scores computed again."""
    k, causal = _seen(q, k, causal)
    v = v[:, :, : k.shape[2]]
    inputs = [rec.read(part, tuple(part.shape)) for part in (q, k, v)]
    inputs += [rec.read(part) for part in (out, grad, *([] if bias is None else [bias]))]
    rec.add("attention", "attention", inputs, made, causal=causal, backward=True)


def _seen(q: Tensor, k: Tensor, causal: bool) -> tuple[Tensor, bool]:
    """The keys that a causal mask shows at all, and whether it is the Graph's."""
    if causal and k.shape[2] > q.shape[2]:
        k = k[:, :, : q.shape[2]]
    return k, causal and k.shape[2] == q.shape[2]


def _attention(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    q, k, v = args[:3]
    named = _arguments(func, args, kwargs)
    bias = named.get("attn_bias", named.get("attn_mask"))
    attention(rec, q, k, v, out[0], bias=bias, causal=bool(named.get("is_causal")))


def _attention_backward(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    named = _arguments(func, args, kwargs)
    attention_backward(
        rec, args[0], named["query"], named["key"], named["value"], named["out"],
        [part for part in out if isinstance(part, Tensor)],
        bias=named.get("attn_bias", named.get("attn_mask")), causal=bool(named.get("is_causal")),
    )  # fmt: skip


def _arguments(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments by name."""
    return {**{part.name: value for part, value in zip(func._schema.arguments, args, strict=False)}, **kwargs}


def _convolution(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> None:
    x, weight, bias, _, _, _, transposed, _, groups = args[:9]
    others = [] if bias is None else [rec.read(bias)]
    rows, (a, w, made) = unfolded(x.shape, weight.shape, out.shape, transposed, groups)
    if depthwise(x.shape, weight.shape, groups):
        inputs = [rec.read(x), rec.read(weight), *others]
        rec.add("convolution", "elementwise", inputs, [out], flops=2 * rows * prod(weight.shape))
        return
    rec.add("convolution", "matmul", [rec.read(x, a), rec.read(weight, w), *others], [(out, made)])


def _convolution_backward(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    grad, x, weight, _, _, _, _, transposed, _, groups, mask = args[:11]
    rows, (a, w, made) = unfolded(x.shape, weight.shape, grad.shape, transposed, groups)
    turned = (*w[:-2], w[-1], w[-2])
    for wanted, part in zip(mask[:2], out[:2], strict=True):
        if not wanted:
            continue
        if depthwise(x.shape, weight.shape, groups):
            other = weight if part is out[0] else x
            work = 2 * rows * prod(weight.shape)
            rec.add("convolution", "elementwise", [rec.read(grad), rec.read(other)], [part], flops=work)
        elif part is out[0]:
            rec.add("convolution", "matmul", [rec.read(grad, made), rec.read(weight, turned)], [(part, a)])
        else:
            pair = [rec.read(x, (*a[:-2], a[-1], a[-2])), rec.read(grad, made)]
            rec.add("convolution", "matmul", pair, [(part, w)])
    if mask[2]:
        rec.add("sum", "elementwise", [rec.read(grad)], [out[2]], flops=grad.numel())


def _word(func: Any) -> str:
    return func._schema.name.partition("::")[2].strip("_")


ATTENTION = (
    "_scaled_dot_product_flash_attention", "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention", "_scaled_dot_product_fused_attention_overrideable",
    "_scaled_dot_product_flash_attention_for_cpu",
)  # fmt: skip

PRODUCT_RULES: dict[str, Rule] = {
    "mm": _mm, "bmm": _mm, "_int_mm": _mm, "addmm": _addmm, "baddbmm": _addmm, "_scaled_mm": _scaled_mm,
    "mv": _mv, "addmv": _mv, "_grouped_mm": _grouped_mm,
    "convolution": _convolution, "_convolution": _convolution, "convolution_backward": _convolution_backward,
    **{name: _attention for name in ATTENTION},
    **{f"{name}_backward": _attention_backward for name in ATTENTION},
}  # fmt: skip
"""Rules by name of the operation."""

RESULTS = {"_grouped_mm": _grouped_result}
"""Results of operations on stand-ins where torch gives none."""
