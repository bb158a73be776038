"""What training frameworks ran, or run, as kernels of their own: attention, the loss, adding up gradients.

The result is for costs alone, like the rest of a pass: an operation becomes the kernels that compute it.
"""

from dataclasses import replace

from systolith_model.formats import Format
from systolith_model.graph import Graph, Kind, MatmulShape, Operation, Tensor, matmul_shape

JOINED = ("q_proj", "k_proj", "v_proj")
"""Products of one input whose weights frameworks keep as one matrix."""


def unfused(graph: Graph, *, dropout: bool) -> Graph:
    """The graph with every attention, forward and backward, as separate kernels that keep the scores.

    Products, a softmax of scaled and masked scores, dropout. A causal softmax holds a row in registers, reads what
    is not masked and writes all (scaled_upper_triang_masked_softmax of arXiv 2104.04473, section 4.2).
    """
    build = _Kernels(dict(graph.tensors), dropout)
    for operation in graph:
        if operation.kind != "attention":
            build.operations.append(operation)
        elif operation.attributes.get("backward"):
            build.backward(operation)
        else:
            build.forward(operation)
    return Graph(name=f"{graph.name}-unfused", tensors=build.tensors, operations=tuple(build.operations))


def unfused_loss(graph: Graph) -> Graph:
    """The graph with cross entropy step by step in fp32, as Megatron-LM's mpu/cross_entropy.py has it."""
    build = _Kernels(dict(graph.tensors), dropout=False)
    for operation in graph:
        if operation.name == "loss":
            build.loss(operation)
        elif operation.name == "backward.loss":
            build.loss_backward(operation)
        else:
            build.operations.append(operation)
    return Graph(name=f"{graph.name}-loss", tensors=build.tensors, operations=tuple(build.operations))


def adding_gradients(graph: Graph, *, product: Format) -> Graph:
    """The graph with a kernel that adds each product's gradient of a weight, in ``product``, to those before it."""
    tensors, operations = dict(graph.tensors), []
    for operation in graph:
        if not operation.name.endswith(".dw"):
            operations.append(operation)
            continue
        (sum_name,) = operation.outputs
        made = replace(tensors[sum_name], name=f"{sum_name}.product", format=product)
        before = replace(tensors[sum_name], name=f"{sum_name}.before")
        tensors |= {made.name: made, before.name: before}
        operations.append(replace(operation, outputs=(made.name,)))
        operations.append(
            replace(
                operation, name=f"{operation.name}.add", kind="elementwise", inputs=(made.name, before.name),
                attributes={"flops_per_element": 1},
            )
        )  # fmt: skip
    return Graph(name=f"{graph.name}-adding", tensors=tensors, operations=tuple(operations))


def joined(graph: Graph) -> Graph:
    """The graph with one product for queries, keys and values, forward and backward, as frameworks store them."""
    groups: dict[str, list[Operation]] = {}
    for operation in graph:
        if name := _joined_name(operation):
            groups.setdefault(name, []).append(operation)
    build = _Kernels(dict(graph.tensors), dropout=False)
    for operation in graph:
        group = groups.get(_joined_name(operation), [operation])
        if len(group) == 1:
            build.operations.append(operation)
        elif operation is group[0]:
            build.join(_joined_name(operation), [matmul_shape(graph, one) for one in group], operation)
    return Graph(name=f"{graph.name}-joined", tensors=build.tensors, operations=tuple(build.operations))


def _joined_name(operation: Operation) -> str:
    """Name of the joint product, or nothing."""
    words = operation.name.split(".")
    places = [place for place, word in enumerate(words) if word in JOINED]
    if operation.kind != "matmul" or not places:
        return ""
    words[places[-1]] = "qkv_proj"
    return ".".join(words)


class _Kernels:
    """Operations so far; scores stand as (batch, heads, queries, keys)."""

    def __init__(self, tensors: dict[str, Tensor], dropout: bool) -> None:
        self.tensors, self.dropout = tensors, dropout
        self.operations: list[Operation] = []

    def forward(self, operation: Operation) -> None:
        """Scores, softmax with scale and mask in one kernel, dropout, mixed values."""
        q, scores, values = self._sizes(operation)
        self._add(operation, "scores", "matmul", [q, (*q[:2], q[3], scores[3])], scores)
        self._softmax(operation, "softmax", 1, scores)
        if self.dropout:
            self._add(operation, "dropout", "elementwise", [scores], scores, mask=True, draws=True)
        self._add(operation, "mixed", "matmul", [scores, values], (*scores[:3], values[3]))

    def backward(self, operation: Operation) -> None:
        """Gradients of values and scores, through dropout and softmax, of queries and keys."""
        q, scores, values = self._sizes(operation)
        mixed = (*scores[:3], values[3])
        turned = (*scores[:2], scores[3], scores[2])
        self._add(operation, "dv", "matmul", [turned, mixed], values)
        self._add(operation, "dp", "matmul", [mixed, (*values[:2], values[3], values[2])], scores)
        if self.dropout:
            self._add(operation, "ddropout", "elementwise", [scores], scores, mask=True)
        self._softmax(operation, "dsoftmax", 2, scores)
        keys = (*scores[:2], scores[3], q[3])
        self._add(operation, "dq", "matmul", [scores, keys], q)
        self._add(operation, "dk", "matmul", [turned, q], keys)

    def loss(self, operation: Operation) -> None:
        """To fp32, less the largest, exponentials and their sum, the softmax that the backward pass needs."""
        logits = self.tensors[operation.inputs[0]]
        rows, size, narrow = (*logits.shape[:-1], 1), logits.shape, logits.format
        self._elementwise(operation, "cast", [(size, narrow)], (size, "fp32"))
        self._elementwise(operation, "max", [(size, "fp32")], (rows, "fp32"))
        self._elementwise(operation, "subtract", [(size, "fp32"), (rows, "fp32")], (size, "fp32"))
        self._elementwise(operation, "exponential", [(size, "fp32")], (size, "fp32"))
        self._elementwise(operation, "sum", [(size, "fp32")], (rows, "fp32"))
        self._elementwise(operation, "divide", [(size, "fp32"), (rows, "fp32")], (size, "fp32"))

    def loss_backward(self, operation: Operation) -> None:
        """The softmax, less the labels, times the gradient; and back to the logits' format."""
        logits = self.tensors[operation.inputs[0]]
        size = logits.shape
        self._elementwise(operation, "scale", [(size, "fp32")], (size, "fp32"))
        self._elementwise(operation, "cast", [(size, "fp32")], (size, logits.format))

    def _softmax(self, operation: Operation, name: str, reads: int, scores: tuple[int, ...]) -> None:
        """Softmax or its backward pass, which reads as many score tensors."""
        if not operation.attributes.get("causal"):
            self._add(operation, name, "norm", [scores] * reads, scores)
            return
        format = self.tensors[operation.inputs[0]].format
        seen = (*scores[:3], (scores[3] + 1) // 2)
        self._elementwise(operation, name, [(seen, format)] * reads, (scores, format))

    def _elementwise(
        self,
        operation: Operation,
        name: str,
        inputs: list[tuple[tuple[int, ...], Format]],
        output: tuple[tuple[int, ...], Format],
    ) -> None:
        """A kernel that passes over its operands once."""
        full = f"{operation.name}.{name}"
        read = [self._tensor(f"{full}.in{place}", shape, format) for place, (shape, format) in enumerate(inputs)]
        written = self._tensor(f"{full}.out", *output)
        self.operations.append(
            replace(
                operation, name=full, kind="elementwise", inputs=tuple(read), outputs=(written,),
                attributes={"flops_per_element": 2},
            )
        )  # fmt: skip

    def join(self, name: str, shapes: list[MatmulShape], like: Operation) -> None:
        """One product for several: of the gradient of their common input deeper, else wider."""
        m, k, n = shapes[0].m, shapes[0].k, shapes[0].n
        back = name.endswith(".dx")
        k, n = (sum(shape.k for shape in shapes), n) if back else (k, sum(shape.n for shape in shapes))
        a, w, out = (self.tensors[tensor] for tensor in (*like.inputs[:2], *like.outputs))
        sizes = {"a": (a, (m, k)), "w": (w, (k, n)), "out": (out, (m, n))}
        for part, (tensor, shape) in sizes.items():
            self.tensors[f"{name}.{part}"] = replace(tensor, name=f"{name}.{part}", shape=shape)
        self.operations.append(
            replace(like, name=name, inputs=(f"{name}.a", f"{name}.w"), outputs=(f"{name}.out",), attributes={})
        )

    def _sizes(self, operation: Operation) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Shapes of queries, scores and values, a head of each query."""
        q, k, v = (self.tensors[name].shape for name in operation.inputs[:3])
        return q, (*q[:3], k[2]), (*q[:2], k[2], v[3])

    def _add(
        self,
        operation: Operation,
        name: str,
        kind: Kind,
        inputs: list[tuple[int, ...]],
        output: tuple[int, ...],
        *,
        mask: bool = False,
        draws: bool = False,
    ) -> None:
        full = f"{operation.name}.{name}"
        format = self.tensors[operation.inputs[0]].format
        read = [self._tensor(f"{full}.in{place}", shape, format) for place, shape in enumerate(inputs)]
        outputs = [self._tensor(f"{full}.out", output, format)]
        if mask:  # a byte an element, written forward and read backward
            read.append(self._tensor(f"{full}.mask", output, "int8"))
        attributes = {"norm": {"flops_per_element": 5}, "elementwise": {"flops_per_element": 2}}.get(kind, {})
        if draws:
            attributes = {**attributes, "draws": True}
        self.operations.append(
            replace(
                operation, name=full, kind=kind, inputs=tuple(read), outputs=tuple(outputs), attributes=attributes
            )
        )

    def _tensor(self, name: str, shape: tuple[int, ...], format: Format) -> str:
        self.tensors[name] = Tensor(name=name, shape=shape, format=format)
        return name
