"""Graph: operations with shapes and formats, the one thing that crosses from models to costs and compiler.

A graph says what is computed, never when or where. Tensors are named and carry shape and format; operations
name their inputs and outputs and stand in an order that can be executed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from types import MappingProxyType
from typing import Literal

Format = Literal["fp32", "bf16", "fp16", "fp8", "int8", "int4", "int32"]
Kind = Literal["matmul", "attention", "norm", "rope", "elementwise", "embedding"]

BITS: Mapping[str, int] = MappingProxyType(
    {"fp32": 32, "bf16": 16, "fp16": 16, "fp8": 8, "int8": 8, "int4": 4, "int32": 32}
)


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A named array: shape outermost first, format of one element; ``constant`` for weights."""

    name: str
    shape: tuple[int, ...]
    format: Format = "int8"
    constant: bool = False

    def __post_init__(self) -> None:
        if not self.shape or any(size < 1 for size in self.shape):
            raise ValueError(f"shape of tensor {self.name!r} must be sizes >= 1, not {self.shape}")
        if self.format not in BITS:
            allowed = ", ".join(BITS)
            raise ValueError(f"format of tensor {self.name!r} must be one of {allowed}, not {self.format!r}")

    @property
    def elements(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        """Bytes of storage, packed, without scales."""
        return (self.elements * BITS[self.format] + 7) // 8


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation.

    matmul : inputs (a, w) of shapes (..., M, K) and (K, N), or (..., K, N) where both are activations.
    attention : inputs (q, k, v) of shapes (B, H, Tq, D), (B, Hkv, Tk, D), (B, Hkv, Tk, D);
        attribute ``causal``.
    norm, rope, elementwise : read each input once, write the output once; attribute ``flops_per_element``.
    embedding : inputs (tokens, table); gathers one row a token.

    ``count`` is how often the identical operation stands in the model (identical layers are costed once).
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

    Raises
    ------
    ValueError
        If the shapes of the inputs and the output do not fit each other.
    """
    a, w = graph.inputs_of(operation)[:2]
    (out,) = graph.outputs_of(operation)
    k, n = w.shape[-2:] if len(w.shape) >= 2 else (0, 0)
    if len(a.shape) < 2 or a.shape[-1] != k or out.shape != (*a.shape[:-1], n):
        raise ValueError(f"matmul {operation.name!r}: {a.shape} by {w.shape} cannot give {out.shape}")
    if len(w.shape) == 2:
        return MatmulShape(1, prod(a.shape[:-1]), k, n)
    if a.shape[:-2] != w.shape[:-2]:
        raise ValueError(f"matmul {operation.name!r}: batch sizes of {a.shape} and {w.shape} differ")
    return MatmulShape(prod(a.shape[:-2]), a.shape[-2], k, n)


def flops(graph: Graph, operation: Operation) -> int:
    """Floating or integer operations of one instance, two a multiply-accumulate."""
    if operation.kind == "matmul":
        return 2 * matmul_shape(graph, operation).macs
    if operation.kind == "attention":
        q, k, _ = graph.inputs_of(operation)
        batch, heads, queries, size = q.shape
        keys = k.shape[-2]
        pairs = queries * keys
        if operation.attributes.get("causal"):  # the last query sees every key
            pairs -= min(queries, keys) * (min(queries, keys) - 1) // 2
        return 4 * batch * heads * pairs * size
    if operation.kind == "embedding":
        return 0
    per_element = int(operation.attributes.get("flops_per_element", 1))
    return per_element * sum(tensor.elements for tensor in graph.outputs_of(operation))
