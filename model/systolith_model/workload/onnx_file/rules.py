"""Rules for nodes that are no product: kernels that pass once over their operands, and those that are none."""

from onnx import NodeProto, TensorProto

from systolith_model.workload.builder import QUANTIZE_FLOPS, ROPE_FLOPS
from systolith_model.workload.onnx_file.attention import ATTENTION_RULES
from systolith_model.workload.onnx_file.contrib import attributes_of
from systolith_model.workload.onnx_file.infer import RANDOM, STANDARD
from systolith_model.workload.onnx_file.products import PRODUCT_RULES
from systolith_model.workload.onnx_file.recorder import Recorder, Rule, operands, results
from systolith_model.workload.traced.work import NORMS, PER_ELEMENT, REDUCTIONS

VIEWS = {"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Dropout", "Shape", "Size", "Constant"}
"""No kernel."""

MOVES = {"Transpose", "Cast", "CastLike", "Pad", "Expand", "Tile", "Trilu", "DepthToSpace", "SpaceToDepth", "Upsample",
         "ReverseSequence", "CenterCropPad", "Col2Im", "EyeLike"}  # fmt: skip
"""Read the first input and write the result, nothing computed."""

PARTS = {"Slice", "Split", "GatherElements", "GatherND", "Compress"}
"""Read as many elements of the first input as they write."""

POINTWISE: dict[str, str] = {
    "Relu": "relu", "Gelu": "gelu", "FastGelu": "gelu_tanh", "Sigmoid": "sigmoid", "Tanh": "tanh", "Swish": "silu",
    "QuickGelu": "silu", "HardSwish": "hardswish", "HardSigmoid": "hardsigmoid", "Elu": "elu", "Selu": "elu",
    "Celu": "elu", "LeakyRelu": "leaky_relu", "PRelu": "leaky_relu", "Softplus": "softplus", "Mish": "mish",
    "Where": "where", "BiasGelu": "gelu",
}  # fmt: skip
"""torch's names of elementwise nodes that cost more or less than an operation an element."""

PLAIN = {"Add", "Sub", "Mul", "Div", "Pow", "Mod", "Sqrt", "Exp", "Log", "Neg", "Abs", "Sign", "Erf", "Reciprocal",
         "Floor", "Ceil", "Round", "Clip", "Min", "Max", "Sum", "Mean", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan",
         "Sinh", "Cosh", "Asinh", "Acosh", "Atanh", "Not", "And", "Or", "Xor", "Equal", "Less", "LessOrEqual",
         "Greater", "GreaterOrEqual", "IsNaN", "IsInf", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseNot",
         "BitwiseXor", "Softsign", "ThresholdedRelu", "Shrink", "QLinearAdd", "QLinearMul", "QLinearSigmoid",
         "QLinearLeakyRelu", "Resize", "OneHot", "LRN", "BiasAdd"}  # fmt: skip
"""An operation an element of the result."""

REDUCED: dict[str, str] = {
    "ReduceSum": "sum", "ReduceMean": "mean", "ReduceProd": "prod", "ReduceMax": "amax", "ReduceMin": "amin",
    "ReduceL1": "norm", "ReduceL2": "norm", "ReduceSumSquare": "norm", "ReduceLogSumExp": "logsumexp",
    "ReduceLogSum": "norm", "ArgMax": "argmax", "ArgMin": "argmin", "CumSum": "cumsum", "CumProd": "cumprod",
    "TopK": "topk", "MaxPool": "max_pool2d_with_indices", "AveragePool": "avg_pool2d", "LpPool": "norm",
    "GlobalAveragePool": "_adaptive_avg_pool2d", "GlobalMaxPool": "_adaptive_avg_pool2d",
    "QLinearGlobalAveragePool": "_adaptive_avg_pool2d", "QLinearAveragePool": "avg_pool2d",
}  # fmt: skip
"""torch's names of reductions, which read each element once."""

NORMED: dict[str, str] = {
    "Softmax": "_softmax", "LogSoftmax": "_log_softmax", "LayerNormalization": "native_layer_norm",
    "GroupNormalization": "native_group_norm", "InstanceNormalization": "native_group_norm",
    "BatchNormalization": "_native_batch_norm_legit_no_training", "RMSNormalization": "_fused_rms_norm",
    "SimplifiedLayerNormalization": "_fused_rms_norm", "SkipLayerNormalization": "native_layer_norm",
    "SkipSimplifiedLayerNormalization": "_fused_rms_norm", "QLinearSoftmax": "_softmax",
}  # fmt: skip
"""torch's names of norms."""

AHEAD = {"Transpose", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "DequantizeLinear"}
"""Of a constant: done before the pass, and the constant is read as it lies in the file."""


def note(rec: Recorder, node: NodeProto) -> None:
    """One node: constants are worked out before the pass, and cost nothing."""
    made = [name for name in node.output if name and name in rec.tensors]
    if all(rec.is_constant(name) for name in made):
        if node.op_type in AHEAD and not (node.op_type == "Cast" and rec.narrows(node.input[0], made[0])):
            rec.ahead[made[0]] = node.input[0]
        return
    if not results(rec, node):
        return
    key = node.op_type if node.domain in STANDARD else f"{node.domain}::{node.op_type}"
    rule = RULES.get(key) or (RULES.get(node.op_type) if node.domain == "com.microsoft" else None)
    if rule is None:
        rec.approximated[key] += 1
        rule = _stream
    rule(rec, node)


def _view(rec: Recorder, node: NodeProto) -> None:
    rec.alias(node.output[0], node.input[0])


def _dequantize(rec: Recorder, node: NodeProto) -> None:
    """No kernel of its own: what comes behind reads narrow numbers and scales them."""
    rec.alias(node.output[0], node.input[0], narrow=True)


def _stream(rec: Recorder, node: NodeProto) -> None:
    """Each operand read once, each result written once."""
    per_element = PER_ELEMENT.get(POINTWISE.get(node.op_type, ""), 1)
    if node.op_type == "Gelu" and attributes_of(node).get("approximate") == b"tanh":
        per_element = PER_ELEMENT["gelu_tanh"]
    inputs = dict.fromkeys(rec.read(name) for name in operands(rec, node))
    rec.add(node, "elementwise", inputs or [_number(rec, node)], results(rec, node), flops_per_element=per_element)


def _number(rec: Recorder, node: NodeProto) -> int:
    """What a fill reads: one number."""
    return rec.scalar(rec.described(results(rec, node)[0])[0])


def _move(rec: Recorder, node: NodeProto) -> None:
    rec.add(node, "elementwise", [rec.read(node.input[0])], results(rec, node)[:1], flops_per_element=0)


def _concat(rec: Recorder, node: NodeProto) -> None:
    names = [name for name in node.input if rec.tensors[name].elements]
    rec.add(node, "elementwise", dict.fromkeys(map(rec.read, names)), results(rec, node), flops_per_element=0)


def _fill(rec: Recorder, node: NodeProto) -> None:
    rec.add(node, "elementwise", [_number(rec, node)], results(rec, node), flops_per_element=0)


def _draw(rec: Recorder, node: NodeProto) -> None:
    rec.add(node, "elementwise", [_number(rec, node)], results(rec, node), flops_per_element=0, draws=True)


def _part(rec: Recorder, node: NodeProto) -> None:
    made = results(rec, node)
    shape = (sum(rec.tensors[name].elements for name in made),)
    others = [rec.read_indices(name) for name in operands(rec, node)[1:]] if node.op_type.startswith("Gather") else []
    rec.add(node, "elementwise", [_read_some(rec, node.input[0], shape), *others], made, flops_per_element=0)


def _read_some(rec: Recorder, name: str, shape: tuple[int, ...]) -> int:
    """So many elements of a tensor, or all where it has no more."""
    _, parts = rec.described(name)
    if shape[0] >= rec.tensors[name].elements:
        return rec.read(name)
    return rec.read(name, (*shape, parts) if parts > 1 else shape)


def _gather(rec: Recorder, node: NodeProto) -> None:
    """Rows of a constant table, or elements of another tensor at places that indices name."""
    table, where = node.input[:2]
    shape, out = rec.tensors[table].shape, results(rec, node)[0]
    indices = [] if rec.is_small(where) or not rec.tensors[where].elements else [rec.read_indices(where)]
    if attributes_of(node).get("axis", 0) == 0 and len(shape) >= 2 and rec.is_constant(table) and indices:
        rec.add(node, "embedding", [*indices, rec.read(table)], [out])
        return
    rec.add(
        node, "elementwise", [_read_some(rec, table, (rec.tensors[out].elements,)), *indices], [out],
        flops_per_element=0,
    )  # fmt: skip


def _scatter(rec: Recorder, node: NodeProto) -> None:
    """Copies the whole, then writes what is new."""
    data, where, new = node.input[:3]
    inputs = dict.fromkeys([rec.read(data), rec.read_indices(where), rec.read(new)])
    adds = attributes_of(node).get("reduction", b"none") != b"none"
    rec.add(node, "elementwise", inputs, results(rec, node), flops=rec.tensors[new].elements if adds else 0)


def _reduction(rec: Recorder, node: NodeProto) -> None:
    names = operands(rec, node)
    work = REDUCTIONS[REDUCED[node.op_type]] * rec.tensors[node.input[0]].elements
    rec.add(node, "elementwise", dict.fromkeys(map(rec.read, names)), results(rec, node), flops=work)


def _norm(rec: Recorder, node: NodeProto) -> None:
    made = results(rec, node)
    work = NORMS[NORMED[node.op_type]] + node.op_type.startswith("Skip")  # the sum with what is skipped
    inputs = dict.fromkeys(map(rec.read, operands(rec, node)))
    rec.add(node, "norm", inputs, made, flops=work * rec.tensors[made[0]].elements)


def _rope(rec: Recorder, node: NodeProto) -> None:
    names = [name for name in operands(rec, node) if rec.tensors[name].type != TensorProto.INT64]
    rec.add(node, "rope", dict.fromkeys(map(rec.read, names)), results(rec, node), flops_per_element=ROPE_FLOPS)


def _quantize(rec: Recorder, node: NodeProto) -> None:
    inputs = [rec.read(name) for name in operands(rec, node)]
    rec.add(node, "elementwise", inputs, results(rec, node), flops_per_element=QUANTIZE_FLOPS)


RULES: dict[str, Rule] = {
    **dict.fromkeys(VIEWS, _view),
    **dict.fromkeys(MOVES, _move),
    **dict.fromkeys(PARTS, _part),
    **dict.fromkeys(POINTWISE, _stream),
    **dict.fromkeys(PLAIN, _stream),
    **dict.fromkeys(REDUCED, _reduction),
    **dict.fromkeys(RANDOM, _draw),
    **dict.fromkeys(NORMED, _norm),
    "Concat": _concat, "QLinearConcat": _concat, "Range": _fill, "ConstantOfShape": _fill, "Gather": _gather,
    "ScatterND": _scatter, "ScatterElements": _scatter, "RotaryEmbedding": _rope, "QuantizeLinear": _quantize,
    "DynamicQuantizeLinear": _quantize, "DequantizeLinear": _dequantize,
    **PRODUCT_RULES, **ATTENTION_RULES,
}  # fmt: skip
"""Rules by name of the operator, behind its domain where that is not ONNX's own."""
