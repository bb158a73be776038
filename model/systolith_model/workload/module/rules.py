"""Rules for everything that is no product: kernels that pass once over their operands."""

from typing import Any

import torch
from torch import Tensor

from systolith_model.workload.module.recorder import Recorder, Rule, described, tensors_in
from systolith_model.workload.traced.work import NORMS, PER_ELEMENT, REDUCTIONS
from systolith_model.workload.training import BACKWARD_FACTOR

FREE = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "detach_", "requires_grad_",
        "transpose_", "t_", "squeeze_", "unsqueeze_", "as_strided_", "resize_", "set_", "_local_scalar_dense",
        "lift_fresh", "alias"}  # fmt: skip
"""No kernel."""

FILLS = {"zeros", "ones", "full", "zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full", "arange",
         "linspace", "eye", "scalar_tensor", "fill_", "zero_", "_efficientzerotensor"}  # fmt: skip
"""Results written and nothing read."""

DRAWS = {"rand", "randn", "randint", "rand_like", "randn_like", "uniform_", "normal_", "bernoulli_", "exponential_",
         "random_"}  # fmt: skip
"""The same with random numbers."""

COPIES = {"clone", "_to_copy", "copy_", "cat", "stack", "constant_pad_nd", "repeat", "repeat_interleave", "flip",
          "roll", "tril", "triu", "tril_", "triu_", "pixel_shuffle", "pixel_unshuffle", "_copy_from", "copy",
          "unfold_copy", "slice_scatter", "select_scatter", "slice_backward", "select_backward",
          "split_with_sizes_copy", "as_strided_copy", "view_copy", "_reshape_copy", "im2col", "col2im"}  # fmt: skip
"""Bytes moved, nothing computed."""

GATHERS = {"embedding", "index", "_unsafe_index", "index_select", "gather", "take", "take_along_dim"}
"""Read as many elements as they write, at places that indices name."""

SCATTERS = {"index_put_", "index_put", "_unsafe_index_put", "_index_put_impl_", "index_copy_", "index_copy",
            "index_add_", "index_add", "scatter", "scatter_", "scatter_add", "scatter_add_"}  # fmt: skip
"""Write as many elements as their source has; those that are not in place copy the rest first."""

PASSES = {"embedding_dense_backward", "nll_loss_backward", "nll_loss2d_backward", "mse_loss_backward",
          "max_pool2d_with_indices_backward", "avg_pool2d_backward", "_adaptive_avg_pool2d_backward", "histc",
          "bincount", "searchsorted", "upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d",
          "upsample_nearest2d_backward", "upsample_bilinear2d_backward"}  # fmt: skip
"""Pass over operands and results once, an operation an element, without being pointwise."""

KNOWN = PASSES | PER_ELEMENT.keys()


def fallback(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """An operation without a rule of its own: pointwise ones are known, any other streams over its bytes."""
    name = _name(func)
    base = name.removesuffix("_").removesuffix("_backward")
    if func.namespace == "aten" and base in NORMS and name != base:
        _norm(rec, func, args, kwargs, out)
        return
    known = func.namespace == "aten" and (torch.Tag.pointwise in func.tags or {name, base} & KNOWN)
    if not known:
        rec.approximated[str(func._schema.name)] += 1
    _stream(rec, name, (args, kwargs), out, flops_per_element=_per_element(name, kwargs))


def _per_element(name: str, kwargs: dict[str, Any]) -> int:
    base = name.removesuffix("_")
    factor = 1
    if base.endswith("_backward"):
        base, factor = base.removesuffix("_backward"), BACKWARD_FACTOR
    base = {"threshold": "relu"}.get(base, base)
    if base == "gelu" and kwargs.get("approximate") == "tanh":
        base = "gelu_tanh"
    return factor * PER_ELEMENT.get(base, 1)


def _stream(rec: Recorder, name: str, given: tuple[Any, dict[str, Any]], out: Any, *, flops_per_element: int) -> None:
    """Each operand read once, each result written once."""
    inputs = [rec.read(tensor) for tensor in _operands(*given)]
    outputs = _results(out) or _operands(*given)[:1]
    if not inputs:
        inputs = [_number_of(rec, outputs)]
    rec.add(name.strip("_"), "elementwise", dict.fromkeys(inputs), outputs, flops_per_element=flops_per_element)


def _number_of(rec: Recorder, outputs: list[Tensor]) -> int:
    """What a fill reads: one number."""
    return rec.scalar(described(outputs[0])[1])


def _operands(args: Any, kwargs: dict[str, Any]) -> list[Tensor]:
    return [tensor for tensor in tensors_in((*args, *kwargs.values())) if tensor.numel()]


def _results(out: Any) -> list[Tensor]:
    return [tensor for tensor in tensors_in(out) if tensor.numel()]


def _free(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    for tensor in _results(out):
        rec.make(tensor)


def _fill(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    outputs = _results(out)
    if outputs:
        inputs = [_number_of(rec, outputs)]
        drawn = {"draws": True} if _name(func) in DRAWS else {}
        rec.add(_name(func).strip("_"), "elementwise", inputs, outputs, flops_per_element=0, **drawn)


def _copy(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Copies: what they read is at most what they write; a cache that something is joined to is one still."""
    given = args[1:] if _name(func).startswith("copy") else args
    operands = _operands(given, kwargs)
    cache = _name(func) == "cat" and any(rec.is_cache(tensor) for tensor in operands)
    inputs = dict.fromkeys(rec.read(tensor) for tensor in operands)
    if operands and _results(out):
        rec.add(_name(func).strip("_"), "elementwise", inputs, _results(out), cache=cache, flops_per_element=0)


def _gather(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> None:
    table, *rest = args
    indices = [tensor for tensor in tensors_in((*rest, *kwargs.values())) if tensor.numel()]
    rows = _name(func) in ("embedding", "index_select", "index") and len(indices) == 1
    if rows and table.dim() >= 2 and rec.is_constant(table) and out.numel() == indices[0].numel() * table[0].numel():
        where = rec.read(indices[0], tuple(indices[0].shape) or (1,), whole_elements=True)
        rec.add(_name(func), "embedding", [where, rec.read(table, tuple(table.shape))], [out])
        return
    inputs = [rec.read(table, tuple(out.shape) or (1,)), *(rec.read(tensor) for tensor in indices)]
    rec.add(_name(func), "elementwise", inputs, [out], flops_per_element=0)


def _scatter(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> None:
    name = _name(func)
    operands = _operands(args[1:], kwargs)
    if not operands:
        return
    source = operands[-1]
    adds = "add" in name or bool(kwargs.get("accumulate")) or (name.startswith("index_put") and True in args[3:])
    inputs = [rec.read(tensor) for tensor in operands]
    if not name.endswith("_"):
        inputs.insert(0, rec.read(args[0]))
        written: Tensor | tuple[Tensor, tuple[int, ...]] = out
    else:
        written = (out, tuple(source.shape) or (1,))
        if adds:
            inputs.insert(0, rec.read(args[0], tuple(source.shape) or (1,)))
    rec.add(name.strip("_"), "elementwise", inputs, [written], flops=source.numel() if adds else 0)


def _reduction(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    operands = _operands(args, kwargs)
    if operands and _results(out):
        work = REDUCTIONS[_name(func)] * max(tensor.numel() for tensor in operands)
        rec.add(_name(func).strip("_"), "elementwise", [rec.read(part) for part in operands], _results(out), flops=work)


def _norm(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    name, outputs = _name(func), _results(out)
    per_element = NORMS.get(name) or BACKWARD_FACTOR * NORMS[name.removesuffix("_backward")]
    if not outputs:
        return
    inputs = dict.fromkeys(rec.read(tensor) for tensor in _operands(args, kwargs))
    rec.add(name.strip("_"), "norm", inputs, outputs, flops=per_element * outputs[0].numel())


def _name(func: Any) -> str:
    return func._schema.name.partition("::")[2]


RULES: dict[str, Rule] = {
    **dict.fromkeys(FREE, _free),
    **dict.fromkeys(FILLS | DRAWS, _fill),
    **dict.fromkeys(COPIES, _copy),
    **dict.fromkeys(GATHERS, _gather),
    **dict.fromkeys(SCATTERS, _scatter),
    **dict.fromkeys(REDUCTIONS, _reduction),
    **dict.fromkeys(NORMS, _norm),
}
"""Rules by name of the operation."""
