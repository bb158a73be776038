"""Attention in one node: ONNX's own, and those that ONNX Runtime adds."""

from dataclasses import dataclass
from math import prod

from onnx import NodeProto

from systolith_model.workload.onnx_file.contrib import attributes_of, given, said
from systolith_model.workload.onnx_file.products import product
from systolith_model.workload.onnx_file.recorder import Recorder, Rule
from systolith_model.workload.traced.steps import Shape


@dataclass(frozen=True)
class Heads:
    """A tensor, or a part of one, read by heads."""

    name: str
    shape: Shape
    """(B, heads, tokens, size)."""
    offset: int = 0

    def value(self, rec: Recorder) -> int:
        """What a node reads."""
        return rec.read(self.name, self.shape, offset=self.offset)


def _by_heads(rec: Recorder, name: str, heads: int) -> Heads:
    """A tensor (B, T, heads x size), or (B, heads, T, size)."""
    shape = rec.tensors[name].shape
    if len(shape) == 3:
        shape = (shape[0], heads, shape[1], shape[2] // heads)
    return Heads(name, shape)


def _with_past(rec: Recorder, node: NodeProto, new: Heads, past: str, present: str) -> Heads:
    """Keys or values behind those of the past, copied where a node gives them together."""
    before = rec.tensors[past].shape[2] if past and rec.tensors[past].elements else 0
    if not before and not present:
        return new
    shape = (*new.shape[:2], before + new.shape[2], new.shape[3])
    present = present or rec.make(f"present.{new.name}", shape, new.name)
    inputs = [*([rec.read(past)] if before else []), new.value(rec)]
    rec.add(node, "elementwise", inputs, [(present, shape)], word="append", flops_per_element=0)
    return Heads(present, shape)


def _attend(
    rec: Recorder, node: NodeProto, q: Heads, k: Heads, v: Heads, beside: tuple[str, ...] = (), *, causal: bool,
    window: int = 0,
) -> None:  # fmt: skip
    """One kernel; a bias or mask is read whole, and hides nothing."""
    others = [rec.read(name) for name in beside if name and not rec.is_small(name)]
    out: Shape = (*q.shape[:3], v.shape[3])
    inputs = [part.value(rec) for part in (q, k, v)]
    rec.add(node, "attention", [*inputs, *others], [(node.output[0], out)], causal=causal, window=max(0, window))


def _attention(rec: Recorder, node: NodeProto) -> None:
    """ONNX's own, version 23: its causal mask lets query i see keys up to i, or up to the past's and i."""
    how = attributes_of(node)
    q = _by_heads(rec, node.input[0], how.get("q_num_heads", 1))
    k, v = (_by_heads(rec, name, how.get("kv_num_heads", 1)) for name in node.input[1:3])
    fresh = k
    k = _with_past(rec, node, k, given(node, 4), given_out(node, 1))
    v = _with_past(rec, node, v, given(node, 5), given_out(node, 2))
    causal, queries, keys = bool(how.get("is_causal")), q.shape[2], k.shape[2]
    if causal and keys == fresh.shape[2] != queries:  # no past
        seen = min(keys, queries)
        k, v = (Heads(part.name, (*part.shape[:2], seen, part.shape[3]), part.offset) for part in (k, v))
        causal = seen == queries
    _attend(rec, node, q, k, v, (given(node, 3),), causal=causal)


def given_out(node: NodeProto, place: int) -> str:
    """Name of a result, empty where nobody asks for it."""
    return node.output[place] if place < len(node.output) else ""


def _projected_attention(rec: Recorder, node: NodeProto) -> None:
    """ONNX Runtime's ``Attention``: one product for queries, keys and values, then attention."""
    past = given(node, 4)
    if past and rec.tensors[past].elements:
        raise ValueError(f"past of {said(node)} must be empty, not {rec.tensors[past].shape}")
    how = attributes_of(node)
    (batch, tokens, width), weight = rec.tensors[node.input[0]].shape, rec.tensors[node.input[1]].shape
    heads, sizes = int(how["num_heads"]), how.get("qkv_hidden_sizes") or [weight[1] // 3] * 3
    joined = rec.make(f"{node.output[0]}.qkv", (batch, tokens, weight[1]), node.input[0])
    rows = batch * tokens
    sides = ((node.input[0], (rows, width)), (node.input[1], weight), (joined, (rows, weight[1])))
    product(rec, node, *sides, (given(node, 2),))
    q, k, v = (
        Heads(joined, (batch, heads, tokens, size // heads), rows * sum(sizes[:place]))
        for place, size in enumerate(sizes)
    )
    _attend(rec, node, q, k, v, (given(node, 3), given(node, 5)), causal=bool(how.get("unidirectional")))
    present = given_out(node, 1)
    if present:
        rec.add(node, "elementwise", [k.value(rec), v.value(rec)], [present], word="append", flops_per_element=0)


def _packed(rec: Recorder, name: str, shape: Shape, part: int) -> Heads:
    return Heads(name, shape, part * prod(shape))


def _multi_head(rec: Recorder, node: NodeProto) -> None:
    how = attributes_of(node)
    heads, first = int(how["num_heads"]), rec.tensors[node.input[0]].shape
    beside = (given(node, 3), given(node, 4), given(node, 5))
    causal = bool(how.get("unidirectional"))
    if len(first) == 5:
        shape = (first[0], heads, first[1], first[4])
        q, k, v = (_packed(rec, node.input[0], shape, part) for part in range(3))
    else:
        q, second = _by_heads(rec, node.input[0], heads), rec.tensors[node.input[1]].shape
        if len(second) == 5:
            shape = (second[0], heads, second[1], second[4])
            k, v = (_packed(rec, node.input[1], shape, part) for part in range(2))
        else:
            k, v = (_by_heads(rec, name, heads) for name in node.input[1:3])
        k = _with_past(rec, node, k, given(node, 6), given_out(node, 1))
        v = _with_past(rec, node, v, given(node, 7), given_out(node, 2))
    _attend(rec, node, q, k, v, beside, causal=causal)


def _grouped_query(rec: Recorder, node: NodeProto) -> None:
    """Causal, over the past's keys too; turned inside where ``do_rotary`` says so, at no cost of its own."""
    how = attributes_of(node)
    heads, kv_heads = int(how["num_heads"]), int(how["kv_num_heads"])
    if given(node, 1):
        q = _by_heads(rec, node.input[0], heads)
        k, v = (_by_heads(rec, name, kv_heads) for name in node.input[1:3])
    else:
        batch, tokens, width = rec.tensors[node.input[0]].shape
        size = width // (heads + 2 * kv_heads)
        shape = (batch, kv_heads, tokens, size)
        q = Heads(node.input[0], (batch, heads, tokens, size))
        k, v = (Heads(node.input[0], shape, prod(q.shape) + part * prod(shape)) for part in range(2))
    k = _with_past(rec, node, k, given(node, 3), given_out(node, 1))
    v = _with_past(rec, node, v, given(node, 4), given_out(node, 2))
    _attend(rec, node, q, k, v, causal=True, window=int(how.get("local_window_size", -1)))


ATTENTION_RULES: dict[str, Rule] = {
    "Attention": _attention, "com.microsoft::Attention": _projected_attention, "MultiHeadAttention": _multi_head,
    "GroupQueryAttention": _grouped_query,
}  # fmt: skip
"""Rules by name of the operator, behind its domain where ONNX has another of that name."""
