"""Attention without a fused kernel, as training frameworks ran it before FlashAttention: products, softmax, dropout.

The result is for costs alone, like the rest of a pass: an operation becomes the kernels that compute it.
"""

from dataclasses import replace

from systolith_model.formats import Format
from systolith_model.graph import Graph, Kind, Operation, Tensor


def unfused(graph: Graph, *, dropout: bool) -> Graph:
    """The graph with every attention, forward and backward, as separate kernels that keep the scores."""
    build = _Kernels(dict(graph.tensors), dropout)
    for operation in graph:
        if operation.kind != "attention":
            build.operations.append(operation)
        elif operation.attributes.get("backward"):
            build.backward(operation)
        else:
            build.forward(operation)
    return Graph(name=f"{graph.name}-unfused", tensors=build.tensors, operations=tuple(build.operations))


class _Kernels:
    """Operations so far; scores stand as (batch, heads, queries, keys)."""

    def __init__(self, tensors: dict[str, Tensor], dropout: bool) -> None:
        self.tensors, self.dropout = tensors, dropout
        self.operations: list[Operation] = []

    def forward(self, operation: Operation) -> None:
        """Scores, softmax with scale and mask in one kernel, dropout, mixed values."""
        q, scores, values = self._sizes(operation)
        self._add(operation, "scores", "matmul", [q, (*q[:2], q[3], scores[3])], scores)
        self._add(operation, "softmax", "norm", [scores], scores)
        if self.dropout:
            self._add(operation, "dropout", "elementwise", [scores], scores, mask=True)
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
        self._add(operation, "dsoftmax", "norm", [scores, scores], scores)
        keys = (*scores[:2], scores[3], q[3])
        self._add(operation, "dq", "matmul", [scores, keys], q)
        self._add(operation, "dk", "matmul", [turned, q], keys)

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
    ) -> None:
        full = f"{operation.name}.{name}"
        format = self.tensors[operation.inputs[0]].format
        read = [self._tensor(f"{full}.in{place}", shape, format) for place, shape in enumerate(inputs)]
        outputs = [self._tensor(f"{full}.out", output, format)]
        if mask:  # a byte an element, written forward and read backward
            read.append(self._tensor(f"{full}.mask", output, "int8"))
        attributes = {"norm": {"flops_per_element": 5}, "elementwise": {"flops_per_element": 2}}.get(kind, {})
        self.operations.append(
            replace(
                operation, name=full, kind=kind, inputs=tuple(read), outputs=tuple(outputs), attributes=attributes
            )
        )

    def _tensor(self, name: str, shape: tuple[int, ...], format: Format) -> str:
        self.tensors[name] = Tensor(name=name, shape=shape, format=format)
        return name
