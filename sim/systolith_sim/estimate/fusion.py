"""Fusion: the kernels an inference engine runs for a graph, fewer than its operations.

Engines merge the products that read the same input (query, key and value; gate and up), add the residual inside
the norm that follows, rotate queries and keys in one kernel, and write the cache in the attention's own kernels.
The result is for costs alone: tensors that only a fused kernel sees have no producer.
"""

from dataclasses import replace

from systolith_model.graph import Graph, Operation, Tensor


def fused(graph: Graph) -> Graph:
    """The graph with one operation a kernel; FLOPs stay, bytes that no longer leave a kernel go."""
    tensors = dict(graph.tensors)
    operations = _merge_products(tensors, graph.operations)
    operations = _merge_rotations(operations)
    operations = _merge_residuals(operations)
    return Graph(name=f"{graph.name}-fused", tensors=tensors, operations=tuple(operations))


def _merge_products(tensors: dict[str, Tensor], operations: tuple[Operation, ...]) -> list[Operation]:
    """Neighbouring products with one input and constant weights as one product, their widths added."""
    merged: list[Operation] = []
    for operation in operations:
        last = merged[-1] if merged else None
        if last is not None and _same_input(tensors, last, operation):
            merged[-1] = _wider(tensors, last, operation)
        else:
            merged.append(operation)
    return merged


def _same_input(tensors: dict[str, Tensor], first: Operation, second: Operation) -> bool:
    if not (first.kind == second.kind == "matmul") or first.inputs[0] != second.inputs[0]:
        return False
    weights = (tensors[first.inputs[1]], tensors[second.inputs[1]])
    same = first.count == second.count and first.attributes == second.attributes
    return same and all(weight.constant and len(weight.shape) == 2 for weight in weights)


def _wider(tensors: dict[str, Tensor], first: Operation, second: Operation) -> Operation:
    name = f"{first.name}+{second.name.rpartition('.')[2]}"
    k = tensors[first.inputs[1]].shape[0]
    width = sum(tensors[operation.inputs[1]].shape[1] for operation in (first, second))
    out = tensors[first.outputs[0]]
    tensors[f"{name}.weight"] = replace(tensors[first.inputs[1]], name=f"{name}.weight", shape=(k, width))
    tensors[f"{name}.out"] = replace(out, name=f"{name}.out", shape=(*out.shape[:-1], width))
    return replace(first, name=name, inputs=(first.inputs[0], f"{name}.weight"), outputs=(f"{name}.out",))


def _merge_rotations(operations: list[Operation]) -> list[Operation]:
    """Rotations of one layer as one; copies into the cache belong to the attention."""
    kept: list[Operation] = []
    for operation in operations:
        if operation.kind == "elementwise" and not operation.attributes.get("flops_per_element", 1):
            continue
        if operation.kind == "rope" and kept and kept[-1].kind == "rope":
            last = kept[-1]
            kept[-1] = replace(
                last, inputs=last.inputs + operation.inputs, outputs=last.outputs + operation.outputs
            )
        else:
            kept.append(operation)
    return kept


def _merge_residuals(operations: list[Operation]) -> list[Operation]:
    """A sum of two streams joins the norm that reads it; the last layer's joins the next layer's first norm."""
    sums = [_is_residual(operation) for operation in operations]
    norms = [index for index, operation in enumerate(operations) if operation.kind == "norm"]
    kept: list[Operation] = []
    for index, operation in enumerate(operations):
        if sums[index] and norms:
            continue
        if operation.kind == "norm" and operation.count > 1 and any(sums):
            stream = operation.inputs[0]
            operation = replace(
                operation, inputs=(*operation.inputs, stream), outputs=(*operation.outputs, stream)
            )
        kept.append(operation)
    return kept


def _is_residual(operation: Operation) -> bool:
    return operation.kind == "elementwise" and operation.name.rpartition(".")[2].startswith("add_")
