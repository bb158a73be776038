"""Other number formats for the graph of a module: weights in storages, products' inputs and caches narrower."""

from collections.abc import Mapping
from dataclasses import replace

from systolith_model.formats import BITS, Format, Formats
from systolith_model.graph import Graph, Operation, Tensor
from systolith_model.workload.builder import QUANTIZE_FLOPS


def product_weights(graph: Graph) -> frozenset[str]:
    """Constant matrices of products that nothing else reads."""
    second = {operation.inputs[1] for operation in graph if operation.kind == "matmul"}
    gathered = {_whole(name) for operation in graph if operation.kind == "embedding" for name in operation.inputs}
    return frozenset(name for name in second if graph.tensors[name].constant and _whole(name) not in gathered)


def _whole(name: str) -> str:
    """What a view looks at."""
    return name.partition("[")[0]


def retyped(graph: Graph, formats: Formats, *, own: Format) -> Graph:
    """The graph in ``formats``, of which ``own`` is the format that the module computes in.

    Tensors in ``own`` become those of the stream, constant matrices of products the weights', caches the cache's.
    Where inputs of products are narrower than the stream, those of products with weights are quantized, once each.
    A stream below 16 bits is that of a machine that has nothing wider: all but indices is in it.
    """
    weights, kept = product_weights(graph), frozenset[str]()
    if BITS[formats.residual] < 16:
        kept = frozenset(operation.inputs[0] for operation in graph if operation.kind == "embedding")
    tensors = {
        name: tensor if name in kept else _retyped(tensor, formats, own, name in weights)
        for name, tensor in graph.tensors.items()
    }
    if BITS[formats.activation] >= BITS[formats.residual]:
        return replace(graph, tensors=tensors)
    operations: list[Operation] = []
    for operation in graph:
        x = operation.inputs[0] if operation.kind == "matmul" and operation.inputs[1] in weights else ""
        if x and tensors[x].format == formats.residual:
            narrow = f"{x}.quantized"
            if narrow not in tensors:
                tensors[narrow] = replace(tensors[x], name=narrow, format=formats.activation)
                operations.append(_quantize(operation, x, narrow))
            operation = replace(operation, inputs=(narrow, *operation.inputs[1:]))
        operations.append(operation)
    return replace(graph, tensors=tensors, operations=tuple(operations))


def _retyped(tensor: Tensor, formats: Formats, own: Format, weight: bool) -> Tensor:
    if tensor.format != own and (BITS[formats.residual] >= 16 or BITS[tensor.format] < 16):
        return tensor
    if weight:
        return replace(tensor, format=formats.weight.format, storage=formats.weight)
    return replace(tensor, format=formats.kv if tensor.cache else formats.residual)


def _quantize(operation: Operation, x: str, narrow: str) -> Operation:
    attributes: Mapping[str, int] = {"flops_per_element": QUANTIZE_FLOPS}
    return Operation(
        name=f"{operation.name}.quantize", kind="elementwise", inputs=(x,), outputs=(narrow,), attributes=attributes,
        count=operation.count,
    )
