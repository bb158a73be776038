"""Products and convolutions: what a node's inputs mean as shapes of a Graph."""

from math import prod

import numpy as np
from onnx import NodeProto, TensorProto

from systolith_model.formats import BITS, Format
from systolith_model.workload.onnx_file.contrib import attributes_of, said
from systolith_model.workload.onnx_file.recorder import FORMATS, Recorder, Rule
from systolith_model.workload.traced.convolution import depthwise, unfolded
from systolith_model.workload.traced.steps import Shape

Part = tuple[str, Shape]
COMPUTED = ("fp32", "bf16", "fp16", "fp8", "int8", "int4", "fp4")
"""What products may be computed in."""


def product(
    rec: Recorder, node: NodeProto, a: Part, b: Part, out: Part, beside: tuple[str, ...] = (),
    *, numbers: Format | None = None,
) -> None:  # fmt: skip
    """(M, K) by (K, N), or a batch of such; ``beside`` are read too, such as a bias or scales.

    A constant stands second, for which the transposed product is noted where it came first. ``numbers`` is the
    format of b where the file packs it.

    Raises
    ------
    ValueError
        If the format is none that machines multiply in.
    """
    for name in (a[0], b[0]):
        found, parts = rec.described(name)
        if found not in COMPUTED or parts > 1:
            kind = TensorProto.DataType.Name(rec.tensors[name].type)
            raise ValueError(f"{said(node)} must multiply {', '.join(COMPUTED)}, not {kind}")
    if len(a[1]) == len(b[1]) == 2 and rec.is_constant(a[0]) and not rec.is_constant(b[0]):
        a, b, out = ((name, shape[::-1]) for name, shape in (b, a, out))
    numbers = numbers or rec.described(b[0])[0]
    others = [rec.read(name) for name in beside if name and not rec.is_small(name)]
    inputs = [rec.read(a[0], a[1], numbers=_read_in(rec, a[0], numbers)), rec.read(b[0], b[1], numbers=numbers)]
    rec.add(node, "matmul", [*inputs, *others], [out])


def _read_in(rec: Recorder, a: str, numbers: Format) -> Format:
    """Format in which a product reads its first operand: narrow beside a narrow second one alone."""
    own = rec.described(a)[0]
    wide = FORMATS[rec.tensors[a].type][0]
    return own if BITS[numbers] <= max(8, BITS[own]) else wide


def _factors(node: NodeProto) -> tuple[str, str, tuple[str, ...]]:
    """Both factors, and what is read beside them: a bias, scales and zero points, a sum that is added to."""
    if node.op_type.startswith("QLinear"):
        a, a_scale, a_zero, b, *rest = node.input
        return a, b, (a_scale, a_zero, *rest)
    a, b, *rest = node.input
    return a, b, tuple(rest)


def _matmul(rec: Recorder, node: NodeProto) -> None:
    """NumPy's product; one matrix for a whole batch is read once."""
    how, (a, b, beside) = attributes_of(node), _factors(node)
    first, second = rec.tensors[a].shape, rec.tensors[b].shape
    first = (1, *first) if len(first) == 1 else first
    second = (*second, 1) if len(second) == 1 else second
    first = _turned(first) if how.get("transA") else first
    second = _turned(second) if how.get("transB") else second
    lead = np.broadcast_shapes(first[:-2], second[:-2])
    m, k, n = first[-2], first[-1], second[-1]
    out = node.output[0]
    if prod(second[:-2]) == 1:
        rows = prod(lead) * m
        product(rec, node, (a, (rows, k)), (b, (k, n)), (out, (rows, n)), beside)
        return
    batch = prod(lead)
    product(rec, node, (a, (batch, m, k)), (b, (batch, k, n)), (out, (batch, m, n)), beside)


def _turned(shape: Shape) -> Shape:
    return (*shape[:-2], shape[-1], shape[-2])


def _matmul_nbits(rec: Recorder, node: NodeProto) -> None:
    """Weights packed in blocks along K, with scales and zero points beside."""
    how = attributes_of(node)
    k, n, bits = int(how["K"]), int(how["N"]), int(how.get("bits", 4))
    if bits not in (4, 8):
        raise ValueError(f"bits of {said(node)} must be 4 or 8, not {bits}")
    rows = prod(rec.tensors[node.input[0]].shape[:-1])
    sides = ((node.input[0], (rows, k)), (node.input[1], (k, n)), (node.output[0], (rows, n)))
    product(rec, node, *sides, tuple(node.input[2:]), numbers="int4" if bits == 4 else "int8")


def _conv(rec: Recorder, node: NodeProto) -> None:
    """Patches by filters; elementwise where each channel has its own."""
    groups, transposed = attributes_of(node).get("group", 1), node.op_type == "ConvTranspose"
    (x, w, beside), out = _factors(node), node.output[0]
    image, filters, made = (rec.tensors[name].shape for name in (x, w, out))
    rows, (patches, weight, result) = unfolded(image, filters, made, transposed, groups)
    if depthwise(image, filters, groups):
        others = [rec.read(name) for name in beside if name and not rec.is_small(name)]
        rec.add(node, "elementwise", [rec.read(x), rec.read(w), *others], [out], flops=2 * rows * prod(filters))
        return
    product(rec, node, (x, patches), (w, weight), (out, result), beside)


def _einsum(rec: Recorder, node: NodeProto) -> None:
    """Two operands whose letters are batch, rows, columns or summed; anything else passes over its bytes."""
    equation = attributes_of(node)["equation"].decode().replace(" ", "")
    operands, arrow, made = equation.partition("->")
    terms = operands.split(",")
    alone = set(terms[0]) ^ set(terms[-1])  # letters of one operand, which must stay
    plain = all(len(set(term)) == len(term) for term in terms) and "." not in equation
    if len(terms) != 2 or not arrow or not plain or alone - set(made):
        rec.approximated["Einsum"] += 1
        inputs = dict.fromkeys(map(rec.read, node.input))
        rec.add(node, "elementwise", inputs, [node.output[0]], flops_per_element=1)
        return
    sizes = {letter: size for term, name in zip(terms, node.input, strict=True)
             for letter, size in zip(term, rec.tensors[name].shape, strict=True)}  # fmt: skip
    first, second = (set(term) for term in terms)
    batch, rows, columns, summed = (
        prod(sizes[letter] for letter in letters)
        for letters in (first & second & set(made), (first - second) & set(made), (second - first) & set(made),
                        (first | second) - set(made))
    )  # fmt: skip
    lead = (batch,) if batch > 1 else ()
    a, b = node.input[:2]
    product(
        rec, node, (a, (*lead, rows, summed)), (b, (*lead, summed, columns)), (node.output[0], (*lead, rows, columns))
    )


MATMULS = ("MatMul", "FusedMatMul", "Gemm", "FusedGemm", "MatMulInteger", "MatMulIntegerToFloat",
           "DynamicQuantizeMatMul", "QLinearMatMul")  # fmt: skip
CONVOLUTIONS = ("Conv", "FusedConv", "ConvTranspose", "ConvInteger", "QLinearConv")
PRODUCT_RULES: dict[str, Rule] = {
    **dict.fromkeys(MATMULS, _matmul), **dict.fromkeys(CONVOLUTIONS, _conv),
    "MatMulNBits": _matmul_nbits, "Einsum": _einsum,
}  # fmt: skip
"""Rules by name of the operator."""
