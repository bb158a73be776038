"""Graphs of ONNX files: against closed forms, and against the graphs of the same modules of torch."""


import numpy as np
import onnx
import torch
from onnx import TensorProto
from onnx_files import File, by_word, floats, graph_of, products
from torch import Tensor, nn

from systolith_model.formats import Formats
from systolith_model.graph import totals
from systolith_model.workload.module import module_graph
from systolith_model.workload.onnx_file import OnnxFile, onnx_graph

BATCH, TOKENS, WIDTH, HEADS, KV_HEADS, SIZE, INNER, WORDS, LAYERS = 2, 12, 24, 6, 2, 10, 29, 61, 3


def mlp() -> onnx.ModelProto:
    file = File()
    hidden = file("Relu", file("Gemm", "x", file.store(64, WIDTH), file.store(64), transB=1))
    return file.model({"x": floats("batch", WIDTH)}, file("Gemm", hidden, file.store(8, 64), file.store(8), transB=1))


def test_an_mlp_is_that_of_torch():
    module = nn.Sequential(nn.Linear(WIDTH, 64), nn.ReLU(), nn.Linear(64, 8))
    found, expected = graph_of(mlp(), batch=5), module_graph(module, torch.zeros(5, WIDTH))
    assert products(found.graph) == 2 * 5 * 64 * (WIDTH + 8)
    assert found.parameter_bytes == 4 * (64 * WIDTH + 64 + 8 * 64 + 8)
    assert totals(found.graph) == totals(expected.graph)
    for name in ("own", "formats", "parameters", "parameter_bytes", "buffer_bytes", "activation_bytes", "matrices",
                 "tokens", "approximated", "weight_bytes"):  # fmt: skip
        assert getattr(found, name) == getattr(expected, name), name


def test_formats_of_the_graph_are_those_of_torch():
    module, formats = nn.Sequential(nn.Linear(WIDTH, 64), nn.ReLU(), nn.Linear(64, 8)), Formats.parse("int4/int8/bf16")
    found = graph_of(mlp(), batch=5, formats=formats)
    expected = module_graph(module, torch.zeros(5, WIDTH), formats=formats)
    assert totals(found.graph) == totals(expected.graph)
    assert (found.weight_bytes, found.activation_bytes) == (expected.weight_bytes, expected.activation_bytes)


def test_a_convolution_net_is_that_of_torch():
    file = File()
    x = file("Relu", file("Conv", "x", file.store(8, 3, 3, 3), file.store(8), strides=[2, 2], pads=[1, 1, 1, 1]))
    x = file("Conv", x, file.store(8, 1, 3, 3), file.store(8), group=8)
    x = file("Conv", x, file.store(6, 4, 1, 1), group=2)
    x = file("ConvTranspose", x, file.store(6, 4, 3, 3), strides=[2, 2])
    out = file("Gemm", file("Flatten", file("GlobalAveragePool", x)), file.store(10, 4), file.store(10), transB=1)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 6, 1, groups=2, bias=False),
        nn.ConvTranspose2d(6, 4, 3, 2, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10),
    )  # fmt: skip
    found = graph_of(file.model({"x": floats("batch", 3, 32, 32)}, out), batch=2)
    expected = module_graph(module, torch.zeros(2, 3, 32, 32))
    assert totals(found.graph) == totals(expected.graph)
    assert (found.parameter_bytes, found.approximated) == (expected.parameter_bytes, {})


class Layer(nn.Module):
    """A decoder's layer in products, multiplications and a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ParameterList([nn.Parameter(torch.ones(WIDTH)) for _ in range(2)])
        self.q, self.k, self.v, self.o, self.gate, self.up, self.down = (
            nn.Linear(*sizes, bias=False) for sizes in MATRICES
        )

    def norm(self, x: Tensor, place: int) -> Tensor:
        return self.norms[place] * (x * torch.reciprocal(torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-5)))

    def heads(self, x: Tensor, heads: int) -> Tensor:
        return x.view(*x.shape[:2], heads, SIZE).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x, 0)
        q, k, v = self.heads(self.q(y), HEADS), self.heads(self.k(y), KV_HEADS), self.heads(self.v(y), KV_HEADS)
        k, v = (part.repeat_interleave(HEADS // KV_HEADS, 1) for part in (k, v))
        seen = ((q @ k.transpose(2, 3)) * SIZE**-0.5).softmax(-1) @ v
        x = x + self.o(seen.transpose(1, 2).flatten(2))
        y = self.norm(x, 1)
        gate = self.gate(y)
        return x + self.down(gate * torch.sigmoid(gate) * self.up(y))


Q, KV = HEADS * SIZE, KV_HEADS * SIZE
MATRICES = [(WIDTH, Q), (WIDTH, KV), (WIDTH, KV), (Q, WIDTH), (WIDTH, INNER), (WIDTH, INNER), (INNER, WIDTH)]


class Decoder(nn.Module):
    """A stack of layers between an embedding and its logits."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, WIDTH)
        self.layers = nn.ModuleList([Layer() for _ in range(LAYERS)])
        self.head = nn.Linear(WIDTH, WORDS, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def decoder() -> onnx.ModelProto:
    """The same as a file, sizes of reshapes worked out from those of the input, as exporters write them."""
    file = File()
    x = file("Gather", file.store(WORDS, WIDTH), "ids")
    for number in range(LAYERS):
        file.place = f"/layers.{number}"
        x = layer_of(file, x)
    file.place = ""
    return file.model(
        {"ids": (TensorProto.INT64, ["batch_size", "sequence_length"])}, file("MatMul", x, file.store(WIDTH, WORDS))
    )


def norm_of(file: File, x: str) -> str:
    mean = file("ReduceMean", file("Mul", x, x), file.ints(-1))
    root = file("Reciprocal", file("Sqrt", file("Add", mean, file.number(1e-5))))
    return file("Mul", file.store(WIDTH), file("Mul", x, root))


def heads_of(file: File, x: str, heads: int, sizes: str) -> str:
    split = file("Reshape", x, file("Concat", sizes, file.ints(heads), file.ints(SIZE), axis=0))
    return file("Transpose", split, perm=[0, 2, 1, 3])


def layer_of(file: File, x: str) -> str:
    matrices = [file.store(*sizes) for sizes in MATRICES]
    y, sizes = norm_of(file, x), file("Slice", file("Shape", x), file.ints(0), file.ints(2))
    q, k, v = (
        heads_of(file, file("MatMul", y, matrix), heads, sizes)
        for matrix, heads in zip(matrices, (HEADS, KV_HEADS, KV_HEADS), strict=False)
    )
    shape = file("Concat", file("Gather", sizes, file.ints(0)), file.ints(HEADS), file("Gather", sizes, file.ints(1)),
                 file.ints(SIZE), axis=0)  # fmt: skip
    wide = [file("Unsqueeze", part, file.ints(2)) for part in (k, v)]
    times = file.ints(1, 1, HEADS // KV_HEADS, 1, 1)
    k, v = (file("Reshape", file("Tile", part, times), shape) for part in wide)
    scores = file("Mul", file("MatMul", q, file("Transpose", k, perm=[0, 1, 3, 2])), file.number(SIZE**-0.5))
    seen = file("Transpose", file("MatMul", file("Softmax", scores), v), perm=[0, 2, 1, 3])
    joined = file("Reshape", seen, file("Concat", sizes, file.ints(-1), axis=0))
    x = file("Add", x, file("MatMul", joined, matrices[3]))
    y = norm_of(file, x)
    gate = file("MatMul", y, matrices[4])
    inner = file("Mul", file("Mul", gate, file("Sigmoid", gate)), file("MatMul", y, matrices[5]))
    return file("Add", x, file("MatMul", inner, matrices[6]))


def test_a_decoder_is_that_of_torch():
    found = graph_of(decoder(), batch=BATCH, prompt=TOKENS)
    expected = module_graph(Decoder(), torch.zeros(BATCH, TOKENS, dtype=torch.int64))
    rows, pairs = BATCH * TOKENS, BATCH * HEADS * TOKENS**2
    linear = 2 * rows * (WIDTH * WORDS + LAYERS * sum(k * n for k, n in MATRICES))
    assert products(found.graph) == linear + LAYERS * 4 * pairs * SIZE == products(expected.graph)
    assert totals(found.graph).flops == totals(expected.graph).flops
    assert totals(found.graph).traffic.weights == totals(expected.graph).traffic.weights
    for name in ("own", "parameters", "parameter_bytes", "matrices", "tokens", "approximated", "weight_bytes"):
        assert getattr(found, name) == getattr(expected, name), name


def test_equal_layers_stand_once():
    graph = graph_of(decoder(), batch=BATCH, prompt=TOKENS).graph
    layers = [one for one in graph if one.name.startswith("layers.*")]
    assert {one.count for one in layers} == {LAYERS}
    assert len([one for one in layers if one.kind == "matmul"]) == len(MATRICES) + 2
    assert [one.name for one in graph if one.count == 1] == ["Gather", "MatMul"]


def test_shapes_cost_nothing():
    graph = graph_of(decoder(), batch=BATCH, prompt=TOKENS).graph
    free = {"Shape", "Reshape", "Concat", "Slice", "Unsqueeze", "Constant"}
    assert not [one.name for one in graph for word in free if word in one.name]
    assert len(by_word(graph, "Gather")) == 1


def test_torch_says_where_a_node_comes_from():
    model = mlp()
    for number, node in enumerate(model.graph.node):
        node.name = f"node_{number}"
        node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=f"['', 'net', 'net.{number}', 'x']")
    assert [one.name for one in graph_of(model).graph] == ["net.0.Gemm", "net.1.Relu", "net.2.Gemm"]


def quantized() -> onnx.ModelProto:
    """An MLP in int8: weights a scale a column, activations one scale."""
    file, x = File(), "x"
    scale, zero = file.store(), file.store(kind=np.int8)
    for k, n in ((WIDTH, 64), (64, 8)):
        narrow = file("DequantizeLinear", file("QuantizeLinear", x, scale, zero), scale, zero)
        weight = file("DequantizeLinear", file.store(k, n, kind=np.int8), file.store(n), axis=1)
        x = file("Relu", file("Add", file("MatMul", narrow, weight), file.store(n)))
    return file.model({"x": floats("batch", WIDTH)}, x)


def test_quantized_weights_stay_narrow():
    found = graph_of(quantized(), batch=5)
    matrices = WIDTH * 64 + 64 * 8
    assert products(found.graph) == 2 * 5 * matrices
    assert found.parameter_bytes == matrices + 2 * 4 * (64 + 8)  # a scale and a bias in fp32 each column
    assert (found.weight_bytes, found.own) == (found.parameter_bytes, "fp32")
    for one in by_word(found.graph, "MatMul"):
        assert [tensor.format for tensor in found.graph.inputs_of(one)] == ["int8", "int8"]
    assert not by_word(found.graph, "DequantizeLinear")
    assert totals(found.graph).traffic.weights == matrices + 4 * (64 + 8)


def test_formats_leave_quantized_weights():
    found = graph_of(quantized(), batch=5, formats=Formats.parse("bf16"))
    assert found.weight_bytes == WIDTH * 64 + 64 * 8 + 2 * 2 * (64 + 8)
    assert totals(found.graph).traffic.weights == WIDTH * 64 + 64 * 8 + 2 * (64 + 8)  # and biases


def test_names_of_dimensions():
    file = File()
    kinds = {"x": floats("Batch", "past_sequence_length + sequence_length", "2*num_tokens", 1)}
    found = graph_of(file.model(kinds, file("Neg", "x")), batch=3, prompt=5)
    (one,) = found.graph
    assert found.graph.tensors[one.outputs[0]].shape == (3, 5, 10, 1)


def test_weights_beside_the_file_are_not_read(tmp_path):
    path = tmp_path / "large.onnx"
    onnx.save(mlp(), path, save_as_external_data=True, location="weights", size_threshold=0)
    (tmp_path / "weights").unlink()
    file = OnnxFile.read(path)
    assert onnx_graph(file, batch=5).parameter_bytes == graph_of(mlp(), batch=5).parameter_bytes


