"""Chains of layers: activations stay on chip where they fit; graphs of matmuls."""

from itertools import pairwise

import numpy as np
import pytest
from compiler.cases import CORES, activations, expected, layer
from compiler.interpreter import Interpreter
from hypothesis import given, settings
from hypothesis import strategies as st

from systolith_hw.isa import Load, Memory, Store
from systolith_model.graph import Graph, Operation, Tensor
from systolith_sim.compiler import Shape, chain, compile_graph, plan_layers
from systolith_sim.compiler.layers import linear_of, program_of
from systolith_sim.cycle import simulate


def network(rng, m, sizes):
    layers = [layer(rng, k, n) for k, n in pairwise(sizes)]
    return activations(rng, m, sizes[0]), layers


def compiled(core, m, layers):
    shapes = [Shape(m=m, k=data.w.shape[0], n=data.w.shape[1]) for data in layers]
    linears = [linear_of(data, f"layer {i}", f"x{i}", f"x{i + 1}", shape)
               for i, (data, shape) in enumerate(zip(layers, shapes, strict=True))]
    return plan_layers(core, linears, play=False)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.sampled_from(sorted(CORES)), st.integers(1, 24),
       st.lists(st.integers(1, 30), min_size=3, max_size=5), st.integers(0, 1 << 30))
def test_chains_give_the_bits_of_their_layers(name, m, sizes, seed):
    core = CORES[name]
    a, layers = network(np.random.default_rng(seed), m, sizes)
    program = program_of(compiled(core, m, layers), {"x0": a}, layers)
    result = Interpreter(core, program, seed).run().output(f"x{len(layers)}")
    np.testing.assert_array_equal(result, expected(a, layers))
    assert simulate(core, program.instructions).cycles > 0


@pytest.mark.parametrize("name", ["base", "full", "long"])
def test_activations_stay_on_chip(name):
    core = CORES[name]
    a, layers = network(np.random.default_rng(1), 32, [48, 96, 50, 7])
    program = chain(core, a, layers)
    loads = [i for i in program.instructions if isinstance(i, Load) and i.memory == Memory.DATA]
    stores = [i for i in program.instructions if isinstance(i, Store)]
    assert sum(i.rows * i.row_bytes for i in loads) <= 32 * 64
    assert sum(i.rows * i.row_bytes for i in stores) <= 32 * 16
    np.testing.assert_array_equal(Interpreter(core, program).run().output("y"), expected(a, layers))


def test_what_does_not_fit_goes_through_dram():
    core = CORES["base"]
    a, layers = network(np.random.default_rng(2), 200, [8, 100, 8])
    program = chain(core, a, layers)
    assert sum(i.rows * i.row_bytes for i in program.instructions if isinstance(i, Store)) > 200 * 100
    np.testing.assert_array_equal(Interpreter(core, program).run().output("y"), expected(a, layers))


def test_a_layer_that_does_not_follow_is_refused():
    a, layers = network(np.random.default_rng(3), 4, [5, 6, 7])
    message = r"^w of layer 1 must be \(6, N\), as its activations are \(4, 6\), not"
    with pytest.raises(ValueError, match=message):
        chain(CORES["base"], a, [layers[0], layer(np.random.default_rng(4), 5, 7)])


TENSORS = {tensor.name: tensor for tensor in (
    Tensor(name="x", shape=(2, 3, 10)), Tensor(name="q", shape=(2, 3, 12)), Tensor(name="k", shape=(2, 3, 6)),
    Tensor(name="o", shape=(2, 3, 9)), Tensor(name="wq", shape=(10, 12), constant=True),
    Tensor(name="wk", shape=(10, 6), constant=True), Tensor(name="wo", shape=(12, 9), constant=True),
    Tensor(name="wrong", shape=(10, 12), constant=True, format="bf16"), Tensor(name="loose", shape=(10, 12)))}


def matmul(name, a, w, y, count=1):
    return Operation(name=name, kind="matmul", inputs=(a, w), outputs=(y,), count=count)


def test_a_graph_with_two_ends():
    graph = Graph(name="net", tensors=TENSORS, operations=(
        matmul("query", "x", "wq", "q"), matmul("key", "x", "wk", "k"), matmul("out", "q", "wo", "o")))
    rng = np.random.default_rng(6)
    layers = {"query": layer(rng, 10, 12), "key": layer(rng, 10, 6), "out": layer(rng, 12, 9)}
    x = activations(rng, 6, 10)
    core = CORES["base"]
    program = compile_graph(core, graph, inputs={"x": x.reshape(2, 3, 10)}, layers=layers)
    run = Interpreter(core, program).run()
    assert [region.name for region in program.outputs] == ["k", "o"]
    np.testing.assert_array_equal(run.output("k"), expected(x, [layers["key"]]))
    np.testing.assert_array_equal(run.output("o"), expected(x, [layers["query"], layers["out"]]))


@pytest.mark.parametrize(("operation", "message"), [
    (Operation(name="norm", kind="norm", inputs=("x",), outputs=("x",)),
     r"^operation 'norm' must be a matmul, not norm: nothing else is compiled yet$"),
    (matmul("many", "x", "wq", "q", count=12), r"^count of operation 'many' must be 1, not 12"),
    (matmul("attend", "x", "loose", "q"), r"^weights 'loose' of operation 'attend' must be one const"),
    (matmul("half", "x", "wrong", "q"), r"^format of tensor 'wrong' of operation 'half' must be int8, no")])
def test_other_operations_are_named(operation, message):
    graph = Graph(name="net", tensors=TENSORS, operations=(operation,))
    data = layer(np.random.default_rng(7), 10, 12)
    with pytest.raises(ValueError, match=message):
        compile_graph(CORES["base"], graph, inputs={}, layers={operation.name: data})


@pytest.mark.parametrize("operations", [
    (matmul("out", "q", "wo", "o"), matmul("query", "x", "wq", "q")),
    (matmul("query", "x", "wq", "q"), matmul("again", "x", "wq", "q")),
])
def test_what_is_read_is_written_once_and_before(operations):
    graph = Graph(name="net", tensors=TENSORS, operations=operations)
    data = {"out": layer(np.random.default_rng(9), 12, 9)}
    layers = {operation.name: data.get(operation.name) or layer(np.random.default_rng(9), 10, 12)
              for operation in operations}
    inputs = {"x": np.zeros((6, 10), np.int8), "q": np.zeros((6, 12), np.int8)}
    with pytest.raises(ValueError, match=r"^results of \w+ must be activations that no layer up to it .* not q$"):
        compile_graph(CORES["base"], graph, inputs=inputs, layers=layers)


def test_missing_data_is_named():
    graph = Graph(name="net", tensors=TENSORS, operations=(matmul("query", "x", "wq", "q"),))
    data = layer(np.random.default_rng(8), 10, 12)
    with pytest.raises(ValueError, match=r"^layers must hold operation 'query', not only other$"):
        compile_graph(CORES["base"], graph, inputs={}, layers={"other": data})
    with pytest.raises(ValueError, match=r"^inputs must hold x, not only nothing$"):
        compile_graph(CORES["base"], graph, inputs={}, layers={"query": data})
