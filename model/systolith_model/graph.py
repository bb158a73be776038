"""Graph: operations with shapes and formats, the one thing that crosses from models to costs and compiler.

A graph says what is computed, never when or where. Tensors are named and carry shape and format; operations
name their inputs and outputs and stand in an order that can be executed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import ceil, prod
from typing import Literal

from systolith_model.formats import BITS, Format, Storage, storage_bytes

Kind = Literal["matmul", "attention", "norm", "rope", "elementwise", "embedding"]


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A named array: shape outermost first, format of one element.

    ``constant`` for weights, which may have a ``storage`` of the same format; ``cache`` for keys, values and
    latents that a later step reads.
    """

    name: str
    shape: tuple[int, ...]
    format: Format = "int8"
    constant: bool = False
    cache: bool = False
    storage: Storage | None = None

    def __post_init__(self) -> None:
        if not self.shape or min(self.shape) < 1:
            raise ValueError(f"shape of tensor {self.name!r} must be sizes >= 1, not {self.shape}")
        if self.format not in BITS:
            allowed = ", ".join(BITS)
            raise ValueError(f"format of tensor {self.name!r} must be one of {allowed}, not {self.format!r}")
        if self.storage is not None and self.storage.format != self.format:
            raise ValueError(
                f"storage of tensor {self.name!r} must be of format {self.format!r}, not {self.storage.format!r}"
            )

    @property
    def elements(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @cached_property
    def bytes(self) -> int:
        """Bytes in memory: as the storage says, else packed and without scales."""
        if self.storage is not None:
            return storage_bytes(self.shape, self.storage)
        return (self.elements * BITS[self.format] + 7) // 8


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation.

    matmul : inputs (a, w[, bias]) of shapes (..., M, K) and (K, N), or (..., K, N) for a batch of products.
        Attribute ``transposed`` = "w" reads w as (N, K), "a" contracts all but the last dimension of a (the
        gradient of a weight); ``heads`` has the output stand by heads, (B, heads, T, N / heads); ``grouped``
        splits the rows of a (P, K), which come from ``tokens`` tokens, over the matrices of w (E, K, N), the
        busiest getting ``imbalance`` times the mean of the ``experts`` the device holds, each ``width`` wide.
    attention : inputs (q, k, v[, ...]) of shapes (B, H, Tq, D), (B, Hkv, Tk, D), (B, Hkv, Tk, Dv); attributes
        ``causal``, ``window`` (keys that a query sees at most), ``value_size`` (v is that much of each key),
        ``backward`` (gradients of q, k and v; ``scores_kept`` unless the scores are computed again).
    norm, rope, elementwise : read each input once, write the outputs once; attribute ``flops_per_element`` of
        the outputs, or ``flops`` of the whole; ``draws`` where every element takes a random number.
    embedding : inputs (tokens, table[, ...]); gathers one row a token of each table, and adds them.

    ``writes_into`` names the caches, a space between, whose last rows an output fills. ``count`` is how often
    the identical operation stands in the model (identical layers are costed once).
    """

    name: str
    kind: Kind
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, int | float | bool | str] = field(default_factory=dict)
    count: int = 1


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Operations in an executable order, and the tensors they name."""

    name: str
    tensors: Mapping[str, Tensor]
    operations: tuple[Operation, ...]

    def __post_init__(self) -> None:
        for operation in self.operations:
            for name in (*operation.inputs, *operation.outputs):
                if name not in self.tensors:
                    raise ValueError(f"operation {operation.name!r} names unknown tensor {name!r}")
            if operation.kind == "matmul":
                matmul_shape(self, operation)

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.operations)

    def inputs_of(self, operation: Operation) -> tuple[Tensor, ...]:
        """Input tensors, in the operation's order."""
        return tuple(self.tensors[name] for name in operation.inputs)

    def outputs_of(self, operation: Operation) -> tuple[Tensor, ...]:
        """Output tensors, in the operation's order."""
        return tuple(self.tensors[name] for name in operation.outputs)


@dataclass(frozen=True)
class MatmulShape:
    """``batch`` products of (m, k) by (k, n)."""

    batch: int
    m: int
    k: int
    n: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.batch * self.m * self.k * self.n


def matmul_shape(graph: Graph, operation: Operation) -> MatmulShape:
    """Sizes of a matmul operation; leading dimensions fold into m where the weight has none.

    Of a grouped product, the matrices that are used, each with the rows of the mean one, rounded up.

    Raises
    ------
    ValueError
        If the shapes of the inputs and the output do not fit each other.
    """
    a, w = (graph.tensors[name].shape for name in operation.inputs[:2])
    out = graph.tensors[operation.outputs[0]].shape
    transposed = operation.attributes.get("transposed")
    shape, expected = _product(a, w, out, transposed, bool(operation.attributes.get("grouped")))
    if heads := operation.attributes.get("heads"):
        expected = (*expected[:-2], heads, expected[-2], expected[-1] // int(heads))
    if shape is None or out != expected or len(operation.outputs) != 1:
        how = f", {transposed} transposed," if transposed else ""
        raise ValueError(f"matmul {operation.name!r}: {a} by {w}{how} cannot give {out}")
    return shape


Shape = tuple[int, ...]


def _product(a: Shape, w: Shape, out: Shape, transposed: object, grouped: bool) -> tuple[MatmulShape | None, Shape]:
    """Sizes, None where a and w do not fit, and the shape of the output."""
    if len(a) < 2 or len(w) < 2:
        return None, ()
    if transposed == "a":
        if grouped:
            rows = -(-a[0] // out[0])
            fits = a[:1] == w[:1] and len(out) == 3
            return (MatmulShape(out[0], a[1], rows, w[1]) if fits else None), (out[0], a[1], w[1])
        lead = a[:-2] if len(out) > 2 else ()
        rows = prod(a[len(lead) : -1])
        fits = a[:-1] == w[:-1]
        return (MatmulShape(prod(lead), a[-1], rows, w[-1]) if fits else None), (*lead, a[-1], w[-1])
    k, n = (w[-1], w[-2]) if transposed else (w[-2], w[-1])
    expected = (*a[:-1], n)
    if a[-1] != k:
        return None, expected
    if grouped:
        return MatmulShape(w[0], -(-a[0] // w[0]), k, n) if len(w) == 3 and len(a) == 2 else None, expected
    if len(w) == 2:
        return MatmulShape(1, prod(a[:-1]), k, n), expected
    return MatmulShape(prod(a[:-2]), a[-2], k, n) if a[:-2] == w[:-2] else None, expected


def busiest_rows(graph: Graph, operation: Operation) -> int:
    """Rows of the busiest matrix of a grouped product, rounded up; of any other matmul its rows."""
    shape = matmul_shape(graph, operation)
    if not operation.attributes.get("grouped"):
        return shape.m
    pairs, experts = graph.tensors[operation.inputs[0]].shape[0], int(operation.attributes["experts"])
    return max(ceil(float(operation.attributes["imbalance"]) * pairs / experts), ceil(pairs / shape.batch))


def flops(graph: Graph, operation: Operation) -> int:
    """Floating or integer operations of one instance, two a multiply-accumulate."""
    attributes = operation.attributes
    if operation.kind == "matmul":
        if attributes.get("grouped"):  # exactly the routed rows, not whole rows of the mean matrix
            a, w = graph.inputs_of(operation)[:2]
            n = w.shape[-2 if attributes.get("transposed") == "w" else -1]
            return 2 * a.elements * n
        return 2 * matmul_shape(graph, operation).macs
    if operation.kind == "attention":
        return _attention_flops(graph, operation)
    outputs = sum(graph.tensors[name].elements for name in operation.outputs)
    if operation.kind == "embedding":  # tables after the first are added
        return (len(operation.inputs) - 2) * outputs
    if "flops" in attributes:
        return int(attributes["flops"])
    return int(attributes.get("flops_per_element", 1)) * outputs


def _attention_flops(graph: Graph, operation: Operation) -> int:
    q, k, v = graph.inputs_of(operation)[:3]
    attributes = operation.attributes
    batch, heads, queries, size = q.shape
    value_size = int(attributes.get("value_size", v.shape[-1]))
    pairs = seen_pairs(
        queries, k.shape[-2], causal=bool(attributes.get("causal")), window=int(attributes.get("window", 0))
    )
    products = size + value_size
    if attributes.get("backward"):  # dV and dP; dQ, dK, and the scores again
        products = 2 * value_size + (2 if attributes.get("scores_kept") else 3) * size
    return 2 * batch * heads * pairs * products


def seen_pairs(queries: int, keys: int, *, causal: bool, window: int = 0) -> int:
    """Pairs of query and key that count; under a causal mask the last query is at the last key.

    ``window`` is how many keys a query sees at most, itself included; 0 for all.
    """
    if not causal:
        return queries * keys

    def up_to(position: int) -> int:
        width = min(window or position, position)
        return width * (width + 1) // 2 + (position - width) * width

    return up_to(keys) - up_to(max(keys - queries, 0))


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Bytes that an operation reads and writes, each once."""

    weights: int = 0
    activations: int = 0
    kv: int = 0

    @property
    def total(self) -> int:
        """All bytes."""
        return self.weights + self.activations + self.kv


def traffic(graph: Graph, operation: Operation) -> Traffic:
    """Bytes read and written by one instance; an embedding reads only the rows it gathers."""
    weights = activations = kv = 0
    for name in dict.fromkeys((*operation.inputs, *operation.outputs)):
        tensor = graph.tensors[name]
        if tensor.constant:
            size = tensor.bytes
            if operation.kind == "embedding":
                size = graph.tensors[operation.inputs[0]].elements * (size // tensor.shape[0])
            weights += size
        elif tensor.cache:
            kv += tensor.bytes
        else:
            activations += tensor.bytes
    return Traffic(weights=weights, activations=activations, kv=kv)


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Sums over all instances of all operations of a graph."""

    flops: int
    traffic: Traffic


def totals(graph: Graph) -> Totals:
    """FLOPs and bytes of a whole graph."""
    each = [(operation.count, traffic(graph, operation)) for operation in graph]
    return Totals(
        flops=sum(operation.count * flops(graph, operation) for operation in graph),
        traffic=Traffic(
            weights=sum(count * part.weights for count, part in each),
            activations=sum(count * part.activations for count, part in each),
            kv=sum(count * part.kv for count, part in each),
        ),
    )
