"""A Graph of matmuls as linear layers."""

from collections.abc import Mapping

from numpy.typing import ArrayLike

from systolith_hw.config import CoreConfig
from systolith_hw.program import Program
from systolith_model.graph import Graph, Operation, matmul_shape
from systolith_sim.compiler.layers import LinearData, linear_of, program_of
from systolith_sim.compiler.plan import Linear, plan_layers
from systolith_sim.compiler.tiling import Shape


def compile_graph(core: CoreConfig, graph: Graph, *, inputs: Mapping[str, ArrayLike],
                  layers: Mapping[str, LinearData]) -> Program:
    """Compile a graph whose operations are all matmuls of int8 activations by constant int8 weights.

    Parameters
    ----------
    inputs : mapping
        Activations that no operation makes, by the name of the tensor.
    layers : mapping
        Weights and parameters, by the name of the operation.

    Returns
    -------
    Program
        Its outputs are the tensors that no operation reads, by name, leading sizes folded into the rows.

    Raises
    ------
    ValueError
        If an operation cannot be compiled; the sentence names it. Or if data is missing or out of range.
    """
    linears, data = [], []
    for operation in graph:
        if operation.name not in layers:
            raise ValueError(f"layers must hold operation {operation.name!r}, not only {', '.join(layers)}")
        data.append(layers[operation.name])
        linears.append(_linear(graph, operation, data[-1]))
    return program_of(plan_layers(core, linears), inputs, data)


def _linear(graph: Graph, operation: Operation, data: LinearData) -> Linear:
    name = operation.name
    if operation.kind != "matmul":
        raise ValueError(f"operation {name!r} must be a matmul, not {operation.kind}: "
                         "nothing else is compiled yet")
    if operation.count != 1:
        raise ValueError(f"count of operation {name!r} must be 1, not {operation.count}: "
                         "a program holds each layer")
    shape = matmul_shape(graph, operation)
    a, w = graph.inputs_of(operation)[:2]
    if not w.constant or shape.batch != 1:
        raise ValueError(f"weights {w.name!r} of operation {name!r} must be one constant matrix, "
                         "not activations")
    for tensor in (a, w, *graph.outputs_of(operation)):
        if tensor.format != "int8":
            raise ValueError(f"format of tensor {tensor.name!r} of operation {name!r} must be int8, "
                             f"not {tensor.format}")
    return linear_of(data, name, a.name, operation.outputs[0], Shape(m=shape.m, k=shape.k, n=shape.n))
