"""Nodes of ONNX files: products and attention against closed forms, shapes, and what is refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx_files import FP32, File, floats, graph_of, products
from torch import Tensor, nn

from systolith_model.graph import flops, totals
from systolith_model.workload.module import module_graph

BATCH, TOKENS, WIDTH, HEADS, KV_HEADS, SIZE = 2, 12, 24, 6, 2, 10
WIDTHS = 3 * HEADS * SIZE
"""Of queries, keys and values side by side."""


@pytest.mark.parametrize("op", ["MatMulInteger", "QLinearMatMul"])
def test_integer_products(op):
    file = File()
    b = file.store(WIDTH, 8, kind=np.int8)
    scale, zero = file.store(), file.store(kind=np.int8)
    inputs = ["x", b, zero, zero] if op == "MatMulInteger" else ["x", scale, zero, b, scale, zero, scale, zero]
    model = file.model({"x": (TensorProto.INT8, [5, WIDTH])}, file(op, *inputs))
    found = graph_of(model).graph
    (one,) = found
    assert flops(found, one) == 2 * 5 * WIDTH * 8
    assert [tensor.format for tensor in (*found.inputs_of(one), *found.outputs_of(one))] == [
        "int8", "int8", "int32" if op == "MatMulInteger" else "int8",
    ]  # fmt: skip


def test_packed_weights():
    file = File()
    blocks = file.store(8, 2, 16, kind=np.uint8)
    out = file("MatMulNBits", "x", blocks, file.store(16), domain="com.microsoft", K=64, N=8, bits=4, block_size=32)
    found = graph_of(file.model({"x": floats(2, 3, 64)}, out)).graph
    (one,) = found
    assert flops(found, one) == 2 * 6 * 64 * 8
    assert totals(found).traffic.weights == 64 * 8 // 2 + 4 * 16


def attention_file(op: str, past: Any) -> onnx.ModelProto:
    """Attention over the past's keys and new ones, with those kept."""
    file, kinds = File(), {"q": floats("batch", "seq", HEADS * SIZE)}
    kinds |= {name: floats("batch", "seq", KV_HEADS * SIZE) for name in ("k", "v")}
    kinds |= {f"past.{name}": floats("batch", KV_HEADS, past, SIZE) for name in ("key", "value")}
    domain = "" if op == "Attention" else "com.microsoft"
    how = {"q_num_heads": HEADS} if op == "Attention" else {"num_heads": HEADS}
    inputs = ["q", "k", "v", *([""] if op == "Attention" else []), "past.key", "past.value"]
    if op == "GroupQueryAttention":
        kinds |= {"lengths": (TensorProto.INT32, ["batch"]), "total": (TensorProto.INT32, [1])}
        inputs += ["lengths", "total"]
    out, key, value = file(op, *inputs, outputs=3, domain=domain, kv_num_heads=KV_HEADS, **how)
    model = file.model(kinds, out, key, value, opset=23)
    for node in model.graph.node:
        node.output[1:] = ["present.key", "present.value"]
    for info, name in zip(model.graph.output[1:], ("present.key", "present.value"), strict=False):
        info.name = name
    return model


@pytest.mark.parametrize("op", ["Attention", "GroupQueryAttention"])
@pytest.mark.parametrize("past", [7, "past_sequence_length"])
def test_attention_over_a_past(op, past):
    found = graph_of(attention_file(op, past), batch=BATCH, prompt=3)
    before = 7 if past == 7 else 0
    pairs = 3 * (before + 3) if op == "Attention" else sum(before + query for query in (1, 2, 3))
    assert products(found.graph) == 2 * BATCH * HEADS * pairs * 2 * SIZE
    assert found.cache_bytes == 2 * 4 * BATCH * KV_HEADS * (before + 3) * SIZE
    assert totals(found.graph).traffic.kv > found.cache_bytes


@pytest.mark.parametrize(("queries", "keys"), [(9, 9), (9, 13), (9, 5)])
def test_a_causal_mask_without_a_past(queries, keys):
    file = File()
    kinds = {"q": floats(2, 6, queries, 10), "k": floats(2, 2, keys, 10), "v": floats(2, 2, keys, 8)}
    found = graph_of(file.model(kinds, file("Attention", "q", "k", "v", is_causal=1), opset=23))
    # query i sees the keys up to i; a graph hides nothing where there are fewer keys than queries
    pairs = int(torch.ones(queries, keys).tril().sum()) if queries <= keys else queries * keys
    assert products(found.graph) == 2 * 2 * 6 * pairs * (10 + 8)


@pytest.mark.parametrize("packed", [True, False])
def test_attention_of_many_heads(packed):
    file, sizes = File(), ["batch", "seq"]
    q, kv = (floats(*sizes, HEADS, parts, SIZE) if packed else floats(*sizes, HEADS * SIZE) for parts in (3, 2))
    names = ["q"] if packed else ["q", "k", "v"]
    out = file("MultiHeadAttention", *names, domain="com.microsoft", num_heads=HEADS, unidirectional=1)
    found = graph_of(file.model(dict(zip(names, (q, kv, kv), strict=False)), out), batch=BATCH, prompt=TOKENS)
    assert products(found.graph) == 4 * BATCH * HEADS * SIZE * TOKENS * (TOKENS + 1) // 2
    assert totals(found.graph).traffic.total == 4 * 4 * BATCH * TOKENS * HEADS * SIZE


class Two(nn.Module):
    """Gives its first result back at the end."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.relu(x), torch.neg(torch.neg(torch.neg(x)))


def test_results_stay_to_the_end():
    file = File()
    first = file("Relu", "x")
    model = file.model({"x": floats(5, 7)}, first, file("Neg", file("Neg", file("Neg", "x"))))
    assert graph_of(model).activation_bytes == module_graph(Two(), torch.zeros(5, 7)).activation_bytes


def test_attention_with_its_projection():
    file = File()
    out = file("Attention", "x", file.store(WIDTH, WIDTHS), file.store(WIDTHS), domain="com.microsoft", num_heads=HEADS)
    found = graph_of(file.model({"x": floats("batch", "seq", WIDTH)}, out), batch=BATCH, prompt=TOKENS)
    pairs = BATCH * HEADS * TOKENS**2
    assert products(found.graph) == 2 * BATCH * TOKENS * WIDTH * WIDTHS + 4 * pairs * SIZE


F = nn.functional
SAME: dict[str, tuple[dict[str, Any], Callable[[Tensor], Any]]] = {
    "Softmax": ({}, lambda x: x.softmax(-1)), "LogSoftmax": ({}, lambda x: x.log_softmax(-1)),
    "Gelu": ({}, F.gelu), "Sigmoid": ({}, torch.sigmoid), "Tanh": ({}, torch.tanh), "HardSwish": ({}, F.hardswish),
    "Elu": ({}, F.elu), "LeakyRelu": ({}, F.leaky_relu), "Softplus": ({}, F.softplus), "Mish": ({}, F.mish),
    "Exp": ({}, torch.exp), "Erf": ({}, torch.erf), "ReduceMean": ({"keepdims": 0}, lambda x: x.mean()),
    "ReduceSum": ({"keepdims": 0}, lambda x: x.sum()), "ReduceMax": ({"keepdims": 0}, lambda x: x.amax()),
    "Transpose": ({"perm": [0, 2, 1]}, lambda x: x.transpose(1, 2).contiguous()),
    "Cast": ({"to": TensorProto.FLOAT16}, lambda x: x.half()), "Reshape": ({}, lambda x: x.view(-1)),
}  # fmt: skip
"""Nodes, and what torch does for them."""


class Calls(nn.Module):
    """A function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *x: Tensor) -> Any:
        return self.function(*x)


@pytest.mark.parametrize("op", SAME)
def test_nodes_cost_what_torch_does(op):
    how, function = SAME[op]
    file = File()
    inputs = ["x", file.ints(-1)] if op == "Reshape" else ["x"]
    found = graph_of(file.model({"x": floats(3, 8, 6)}, file(op, *inputs, **how)))
    assert totals(found.graph) == totals(module_graph(Calls(function), torch.zeros(3, 8, 6)).graph)
    assert not found.approximated


@pytest.mark.parametrize(
    ("op", "domain", "function"),
    [
        ("LayerNormalization", "", lambda x, y, w: F.layer_norm(x, (6,), w)),
        ("RMSNormalization", "", lambda x, y, w: F.rms_norm(x, (6,), w)),
        ("SimplifiedLayerNormalization", "", lambda x, y, w: F.rms_norm(x, (6,), w)),
        ("SkipLayerNormalization", "com.microsoft", lambda x, y, w: F.layer_norm(x + y, (6,), w)),
        ("SkipSimplifiedLayerNormalization", "com.microsoft", lambda x, y, w: F.rms_norm(x + y, (6,), w)),
    ],
)
def test_norms_compute_what_those_of_torch_do(op, domain, function):
    file, skips = File(), op.startswith("Skip")
    made = file(op, "x", *(["y"] if skips else []), file.store(6), domain=domain)
    found = graph_of(file.model({"x": floats(3, 8, 6), "y": floats(3, 8, 6)}, made, opset=23)).graph
    tensors = [torch.zeros(3, 8, 6), torch.zeros(3, 8, 6), torch.zeros(6)]
    assert totals(found).flops == totals(module_graph(Calls(function), *tensors).graph).flops
    assert totals(found).traffic.total == 4 * ((3 if skips else 2) * 3 * 8 * 6 + 6)  # one kernel


def test_einsum_is_a_product():
    file = File()
    out = file("Einsum", "q", "k", equation="bqhd,bkhd->bhqk")
    model = file.model({"q": floats(2, 9, 6, 10), "k": floats(2, 9, 6, 10)}, out)
    assert products(graph_of(model).graph) == 2 * 2 * 6 * 9 * 9 * 10


def test_random_numbers_are_drawn():
    file = File()
    drawn = file("RandomNormal", shape=[4, 6])
    found = graph_of(file.model({"x": floats(4, 6)}, file("Add", "x", drawn))).graph
    assert [(one.attributes.get("draws"), flops(found, one)) for one in found] == [(True, 0), (None, 24)]


def test_what_no_rule_knows_is_named():
    file = File()
    found = graph_of(file.model({"x": floats(4, 6, 6)}, file("Det", "x")))
    assert (found.approximated, totals(found.graph).traffic.total) == ({"Det": 1}, 4 * (4 * 36 + 4))


def sized(size: Any) -> onnx.ModelProto:
    file = File()
    return file.model({"x": floats(size, 4)}, file("Neg", "x"))


def branches() -> onnx.ModelProto:
    file = File()
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    one = numpy_helper.from_array(np.zeros(1, FP32))
    branch = helper.make_graph([helper.make_node("Constant", [], ["y"], value=one)], "branch", [], [out])
    made = file("If", "x", then_branch=branch, else_branch=branch)
    return file.model({"x": (TensorProto.BOOL, [1])}, made)


def found_only_at_run_time() -> onnx.ModelProto:
    file = File()
    return file.model({"x": floats(4)}, file("NonZero", "x"))


def foreign() -> onnx.ModelProto:
    file = File()
    return file.model({"x": floats(4)}, file("Mystery", "x", domain="my.own"))


def doubles() -> onnx.ModelProto:
    file = File()
    return file.model({"x": (TensorProto.DOUBLE, [4, 4])}, file("MatMul", "x", "x"))


def unfitting() -> onnx.ModelProto:
    file = File()
    return file.model({"x": floats(4, 4)}, file("MatMul", "x", file.store(5, 5)))


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (sized("height"), "dimension 'height' of input 'x' must be a size in the file, or have a name with 'batch'"),
        (sized("batch*height"), r"dimension 'batch\*height' of input 'x' must be a size"),
        (sized(None), "unnamed dimension 0 of input 'x' must be a size in the file"),
        (branches(), "If '/If_0' must not be in the file: how often and whether it runs depends on values"),
        (found_only_at_run_time(), "dimension 1 of tensor 't0', which NonZero '/NonZero_0' makes, must follow from sh"),
        (foreign(), "shape of tensor 't0', which Mystery '/Mystery_0' makes, must follow .* value_info sets it"),
        (doubles(), "MatMul '/MatMul_0' must multiply fp32, .*, not DOUBLE"),
        (unfitting(), "MatMul '/MatMul_0' must fit its inputs: .*"),
    ],
)
def test_refused_in_one_sentence(model, sentence):
    with pytest.raises(ValueError, match=sentence) as raised:
        graph_of(model)
    assert "\n" not in str(raised.value)


def test_a_shape_that_the_file_states():
    model = foreign()
    model.graph.value_info.append(helper.make_tensor_value_info("t0", TensorProto.FLOAT, ["batch", 4]))
    found = graph_of(model, batch=3)
    assert found.approximated == {"my.own::Mystery": 1}
    assert totals(found.graph).traffic.total == 4 * (4 + 12)
