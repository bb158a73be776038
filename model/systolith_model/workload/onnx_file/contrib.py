"""Results of operators that ONNX Runtime adds (``com.microsoft``, and two under ONNX's own name)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from onnx import NodeProto, TensorProto, helper

from systolith_model.workload.traced.steps import Shape


class Typed(Protocol):
    """A tensor's shape and element type."""

    @property
    def shape(self) -> Shape: ...
    @property
    def type(self) -> int: ...


Shapes = dict[str, tuple[Shape, int]]
SAME = {
    "FastGelu", "QuickGelu", "BiasGelu", "Gelu", "SimplifiedLayerNormalization", "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization", "RotaryEmbedding", "LayerNormalization", "BiasSplitGelu",
}  # fmt: skip
"""Results like the first input."""


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """Attributes by name."""
    return {one.name: helper.get_attribute_value(one) for one in node.attribute}


def given(node: NodeProto, place: int) -> str:
    """Name of an input, empty where it is left out."""
    return node.input[place] if place < len(node.input) else ""


def said(node: NodeProto) -> str:
    """A node in words."""
    return f"{node.op_type} {node.name!r}" if node.name else f"{node.op_type} that makes {node.output[0]!r}"


@contextmanager
def complete(node: NodeProto) -> Iterator[None]:
    """While a rule reads what its operator must have.

    Raises
    ------
    ValueError
        If it is not there.
    """
    try:
        yield
    except (KeyError, IndexError) as error:
        words = f"{said(node)} must have all inputs and attributes of its operator, but"
        raise ValueError(f"{words} {error} is missing") from None


def contrib_shapes(node: NodeProto, tensors: Mapping[str, Typed]) -> Shapes | None:
    """Shapes and element types of a node's results; None for an operator that is not known."""
    if not node.input:
        return None
    x = tensors[node.input[0]]
    if node.op_type in SAME:
        return {name: (x.shape, x.type) for name in node.output if name}
    rule = RULES.get(node.op_type)
    with complete(node):
        return None if rule is None else rule(node, tensors)


def _fused_matmul(node: NodeProto, tensors: Mapping[str, Typed]) -> Shapes:
    (a, b), how = (tensors[name] for name in node.input[:2]), attributes_of(node)
    rows = a.shape[-1] if how.get("transA") else a.shape[-2]
    columns = b.shape[-2] if how.get("transB") else b.shape[-1]
    lead = a.shape[:-2] if len(a.shape) >= len(b.shape) else b.shape[:-2]
    return {node.output[0]: ((*lead, rows, columns), a.type)}


def _matmul_nbits(node: NodeProto, tensors: Mapping[str, Typed]) -> Shapes:
    a = tensors[node.input[0]]
    return {node.output[0]: ((*a.shape[:-1], int(attributes_of(node)["N"])), a.type)}


def _attention(node: NodeProto, tensors: Mapping[str, Typed]) -> Shapes:
    """``Attention``: input (B, T, C), weights (C, q + k + v)."""
    x, weights = (tensors[name] for name in node.input[:2])
    how = attributes_of(node)
    width = how["qkv_hidden_sizes"][2] if "qkv_hidden_sizes" in how else weights.shape[1] // 3
    found: Shapes = {node.output[0]: ((*x.shape[:2], width), x.type)}
    if len(node.output) > 1 and node.output[1]:
        heads = int(how["num_heads"])
        found[node.output[1]] = ((2, x.shape[0], heads, x.shape[1], width // heads), x.type)
    return found


def _multi_head(node: NodeProto, tensors: Mapping[str, Typed]) -> Shapes:
    """``MultiHeadAttention``: query (B, T, C), or packed (B, T, heads, 3, size)."""
    q, heads = tensors[node.input[0]], int(attributes_of(node)["num_heads"])
    if len(q.shape) == 5:
        batch, tokens, _, _, size = q.shape
        return {node.output[0]: ((batch, tokens, heads * size), q.type)}
    k = tensors[given(node, 1)].shape
    v = tensors[given(node, 2)].shape if given(node, 2) else k
    keys = k[2] if len(k) == 4 else k[1]
    size = v[3] if len(v) == 4 else v[-1] // heads
    return _with_presents(node, tensors, 6, (*q.shape[:2], heads * size), (q.shape[0], heads, keys, size))


def _grouped_query(node: NodeProto, tensors: Mapping[str, Typed]) -> Shapes:
    """``GroupQueryAttention``: query (B, T, heads x size), or packed with keys and values behind."""
    q, how = tensors[node.input[0]], attributes_of(node)
    heads, kv_heads = int(how["num_heads"]), int(how["kv_num_heads"])
    packed = not given(node, 1)
    size = q.shape[-1] // (heads + 2 * kv_heads if packed else heads)
    shape = (q.shape[0], kv_heads, q.shape[1], size)
    return _with_presents(node, tensors, 3, (*q.shape[:2], heads * size), shape)


def _with_presents(node: NodeProto, tensors: Mapping[str, Typed], past: int, out: Shape, new: Shape) -> Shapes:
    """The result, and keys and values with those of the past, inputs ``past`` and the next."""
    kind = tensors[node.input[0]].type
    found: Shapes = {node.output[0]: (out, kind)}
    for place, name in enumerate(node.output[1:3]):
        before = given(node, past + place)
        length = new[2] + (tensors[before].shape[2] if before else 0)
        if name:
            found[name] = ((*new[:2], length, new[3]), kind)
    return found


def _integers(node: NodeProto, tensors: Mapping[str, Typed]) -> Shapes:
    (a, b) = (tensors[name] for name in node.input[:2])
    return {node.output[0]: ((*a.shape[:-1], b.shape[-1]), TensorProto.FLOAT)}


RULES = {
    "FusedMatMul": _fused_matmul, "MatMulNBits": _matmul_nbits, "Attention": _attention,
    "MultiHeadAttention": _multi_head, "GroupQueryAttention": _grouped_query, "MatMulIntegerToFloat": _integers,
    "DynamicQuantizeMatMul": _integers,
}  # fmt: skip
