"""Graphs of torch modules: against torch's own counter, the graphs of shapes, and the modules' parameters."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from systolith_model.config import TransformerConfig
from systolith_model.formats import Formats
from systolith_model.graph import Graph, Operation, flops, totals, traffic
from systolith_model.reference.decoder import Decoder, KVCache
from systolith_model.workload import forward_graph, prefill_graph, training_graph
from systolith_model.workload.module import ModuleGraph, module_graph

CONFIG = TransformerConfig(
    vocab_size=61, hidden_size=24, n_layers=3, n_heads=6, n_kv_heads=2, head_dim=10, intermediate_size=29,
    max_positions=64,
)  # fmt: skip
FP32 = Formats.plain("fp32")
IDS = torch.zeros(2, 17, dtype=torch.int64)
aten = torch.ops.aten


def of_kind(graph: Graph, *kinds: str) -> int:
    return sum(operation.count * flops(graph, operation) for operation in graph if operation.kind in kinds)


def products(found: ModuleGraph) -> int:
    return of_kind(found.graph, "matmul", "attention")


def counted(module: nn.Module, *args: Tensor, train: bool = False, **kwargs: Any) -> int:
    module.train(train)
    torch.backends.mha.set_fastpath_enabled(False)  # the counter does not know the one kernel of a whole layer
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.set_grad_enabled(train):
            out = module(*args, **kwargs)
            if train:
                (out[0] if isinstance(out, tuple) else out).sum().backward()
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    return counter.get_total_flops()


def bytes_of(module: nn.Module) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())


class Patches(nn.Module):
    """An image as a row of patches."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Conv2d(3, 24, 4, 4)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.project(pixels).flatten(2).transpose(1, 2)


class SelfAttention(nn.Module):
    """torch's attention over one input."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(24, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x, x, x, need_weights=False)[0]


STATES = torch.zeros(2, 17, 24)
MODULES: dict[str, tuple[nn.Module, Tensor]] = {
    "mlp": (nn.Sequential(nn.Linear(24, 64), nn.GELU(), nn.Linear(64, 8, bias=False)), STATES),
    "patches": (Patches(), torch.zeros(2, 3, 16, 16)),
    "grouped convolution": (nn.Conv2d(8, 6, 3, stride=2, groups=2), torch.zeros(2, 8, 16, 16)),
    "transposed convolution": (nn.ConvTranspose2d(8, 6, 3, stride=2), torch.zeros(2, 8, 9, 9)),
    "attention": (SelfAttention(), STATES),
    "encoder": (
        nn.TransformerEncoder(
            nn.TransformerEncoderLayer(24, 4, 48, dropout=0.0, batch_first=True), 5, enable_nested_tensor=False
        ),
        STATES,
    ),
    "reference": (Decoder(CONFIG), IDS),
}  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_flops_are_those_that_torch_counts(name):
    module, x = MODULES[name]
    found = module_graph(module, x)
    assert products(found) == counted(module, x)
    assert (found.parameter_bytes, found.approximated) == (bytes_of(module), {})


@pytest.mark.parametrize("name", [name for name in MODULES if name not in ("attention", "encoder")])
def test_flops_of_a_training_step_are_those_that_torch_counts(name):
    module, x = MODULES[name]
    expected = counted(module, x, train=True)
    if name == "grouped convolution":  # torch's counter leaves groups out of the backward pass
        expected = 2 * counted(module, x)
    found = module_graph(module, x, train=True)
    assert (products(found), found.approximated) == (expected, {})


class Attend(nn.Module):
    """Fused attention of torch."""

    def __init__(self, **how: Any) -> None:
        super().__init__()
        self.how = how

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True, **self.how)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kv_heads", [2, 6])
@pytest.mark.parametrize(("queries", "keys"), [(9, 9), (9, 13), (9, 5)])
def test_fused_attention_is_one_operation(causal, kv_heads, queries, keys):
    q, k, v = (
        torch.zeros(2, heads, tokens, size, requires_grad=True)
        for heads, tokens, size in ((6, queries, 10), (kv_heads, keys, 10), (kv_heads, keys, 8))
    )
    (forward,) = module_graph(Attend(is_causal=causal), q, k, v).graph
    dense = flop_registry[aten._scaled_dot_product_flash_attention](q, k, v)
    # torch's mask shows query i the keys up to i
    seen = int(torch.ones(queries, keys).tril().sum()) if causal and queries <= keys else queries * keys
    found = module_graph(Attend(is_causal=causal), q, k, v)
    assert of_kind(found.graph, "attention") * queries * keys == dense * seen
    assert found.graph.tensors[forward.outputs[0]].shape == (2, 6, queries, 8)
    step = module_graph(Attend(is_causal=causal), q, k, v, train=True).graph
    backward = next(operation for operation in step if operation.name == "backward.attention")
    made = q.new_empty(2, 6, queries, 8)
    dense = flop_registry[aten._scaled_dot_product_flash_attention_backward](made, q, k, v)
    assert flops(step, backward) * queries * keys == dense * seen
    assert [step.tensors[name].shape for name in backward.outputs] == [tuple(part.shape) for part in (q, k, v)]


@pytest.mark.parametrize(
    "name", ["_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_efficient_attention"]
)
def test_attention_of_aten_is_the_same_operation(name):
    class Direct(nn.Module):
        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            more = (None, True) if "efficient" in name else (0.0, True)
            how = {"is_causal": True} if "efficient" in name else {}
            return getattr(aten, name)(q, k, v, *more, **how)[0]

    q = torch.zeros(2, 6, 9, 10)
    (operation,) = module_graph(Direct(), q, q, q).graph
    assert (operation.kind, dict(operation.attributes)) == ("attention", {"causal": True})


def test_fused_attention_reads_the_bias_and_gives_its_gradient():
    class Biased(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(6, 9, 9))

        def forward(self, q: Tensor) -> Tensor:
            return nn.functional.scaled_dot_product_attention(q, q, q, attn_mask=self.bias)

    q = torch.zeros(2, 6, 9, 10)
    step = module_graph(Biased(), q, train=True).graph
    forward, backward = (operation for operation in step if operation.kind == "attention")
    assert step.tensors[forward.inputs[3]].constant
    assert step.tensors[backward.outputs[3]].shape == (6, 9, 9)


def unmasked(graph: Graph, operation: Operation) -> int:
    """FLOPs of products when hidden scores are computed too, as the reference does."""
    if operation.kind == "matmul":
        return flops(graph, operation)
    q, k, v = graph.inputs_of(operation)[:3]
    parts = 4 if operation.attributes.get("backward") else 2
    return parts * q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2] * (q.shape[3] + v.shape[3])


def unmasked_total(graph: Graph) -> int:
    kinds = ("matmul", "attention")
    return sum(operation.count * unmasked(graph, operation) for operation in graph if operation.kind in kinds)


def test_the_reference_has_the_graph_of_its_shape():
    found = module_graph(Decoder(CONFIG), IDS)
    of_shape = forward_graph(CONFIG, tokens=17, batch=2, formats=FP32, all_logits=True)
    assert products(found) == unmasked_total(of_shape)
    assert totals(found.graph).traffic.weights == totals(of_shape).traffic.weights


def test_a_prefill_of_the_reference_has_the_graph_of_its_shape():
    class LastToken(nn.Module):
        """Logits of the last token, as a prefill computes them."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = Decoder(CONFIG)
            self.inner.model.norm.register_forward_pre_hook(lambda _, given: (given[0][:, -1:],))

        def forward(self, ids: Tensor) -> Tensor:
            return self.inner(ids)

    found = module_graph(LastToken(), IDS)
    of_shape = prefill_graph(CONFIG, prompt=17, batch=2, formats=FP32, fused=False)
    assert products(found) == unmasked_total(of_shape)
    assert totals(found.graph).traffic.weights == totals(of_shape).traffic.weights


def test_a_decode_step_of_the_reference_reads_its_cache():
    cache = KVCache(CONFIG)
    model = Decoder(CONFIG)
    with torch.no_grad():
        model(IDS, cache)
    found = module_graph(model, IDS[:, :1], cache=cache)
    of_shape = forward_graph(CONFIG, tokens=1, context=17, batch=2, formats=FP32, all_logits=True)
    assert products(found) == unmasked_total(of_shape)
    assert found.cache_bytes == 3 * 2 * 2 * 2 * 18 * 10 * 4  # layers, keys and values, batch, heads, tokens, size
    assert cache.length == 17
    # the old one read and the new one written by a copy, and read again: K and V of each layer
    token = 3 * 2 * 2 * 2 * 10 * 4
    assert totals(found.graph).traffic.kv == (17 + 18 + 18) * token


def test_a_training_step_of_the_reference_has_the_products_and_the_optimizer_of_its_shape():
    found = module_graph(Decoder(CONFIG), IDS, train=True)
    of_shape = training_graph(
        CONFIG, tokens=17, batch=2, formats=FP32, flash=False, gradient_format="fp32", master_weights=False
    )
    assert products(found) == unmasked_total(of_shape)
    last = [traffic(graph, graph.operations[-1]).total for graph in (found.graph, of_shape)]
    assert last[0] == last[1]
    size = sum(parameter.numel() for parameter in Decoder(CONFIG).parameters())
    assert (found.trained, found.state_bytes) == (size, 2 * 4 * size)


def test_gradients_come_as_activations_go():
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1000))

        def forward(self, x: Tensor) -> Tensor:
            return (x * self.weight).sum()

    x = torch.zeros(7, 1000)
    kept, made = 4 * 7000, 4 * 1000
    # forward holds x and the product; backward holds x and its gradient, of which the weight's is the sum of rows
    found = module_graph(Wide(), x, train=True)
    assert 2 * kept <= found.activation_bytes <= 2 * kept + made + 2 * 4
    # with one row the weight's gradient is as large as what it comes of, and stays
    assert module_graph(Wide(), x[:1], train=True).activation_bytes >= 2 * made


def test_dropout_draws_in_training_alone():
    module = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.1))
    drawing = {train: [operation.name for operation in module_graph(module, torch.zeros(4, 8), train=train).graph
                       if operation.attributes.get("draws")] for train in (False, True)}  # fmt: skip
    assert drawing == {False: [], True: ["1.bernoulli"]}


def test_equal_layers_stand_once():
    for layers in (1, 2, 7):
        found = module_graph(Decoder(CONFIG.model_copy(update={"n_layers": layers})), IDS)
        counts = {operation.count for operation in found.graph if "layers" in operation.name}
        assert counts == {layers}
    names = [operation.name for operation in found.graph if operation.kind == "matmul"]
    assert names[:2] == ["model.layers.*.self_attn.q_proj.mm", "model.layers.*.self_attn.k_proj.mm"]
    assert len(found.graph.operations) < 80


def test_layers_that_differ_stay_apart_and_lose_nothing():
    class Mixed(nn.Module):
        """Wide and narrow layers in turn, a layer called twice, and a sum over all outputs."""

        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(
                nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 8)) for width in (16, 32) * 3
            )
            self.shared = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            outputs = []
            for layer in self.layers:
                x = layer(x)
                outputs.append(x)
            return torch.cat([*outputs, self.shared(self.shared(x))])

    module, x = Mixed(), torch.zeros(5, 8)
    found = module_graph(module, x)
    assert products(found) == counted(module, x)
    assert {operation.count for operation in found.graph if "layers" in operation.name} == {3}
    shared = [operation.count for operation in found.graph if operation.name.startswith("shared")]
    assert shared == [2]
    copy = found.graph.operations[-1]
    assert traffic(found.graph, copy).total == 2 * 7 * 5 * 8 * 4
    assert found.parameter_bytes == bytes_of(module)


def test_views_are_free_and_copies_are_not():
    class Moves(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            turned = x.transpose(0, 1)
            return torch.cat([turned[:3], turned[3:].contiguous()]).view(-1)

    (contiguous, cat) = module_graph(Moves(), torch.zeros(6, 5)).graph
    assert (contiguous.name, cat.name) == ("clone", "cat")
    graph = module_graph(Moves(), torch.zeros(6, 5)).graph
    assert [traffic(graph, operation).total for operation in graph] == [2 * 2 * 6 * 4, 2 * 5 * 6 * 4]


def test_weights_are_known_through_views_and_shared_ones_count_once():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(61, 24)
            self.head = nn.Linear(24, 61, bias=False)
            self.head.weight = self.table.weight
            self.register_buffer("shift", torch.zeros(61))

        def forward(self, ids: Tensor) -> Tensor:
            halves = self.table(ids) @ self.table.weight[:30].t(), self.head(self.table(ids))
            return halves[1] + self.shift + halves[0].sum()

    found = module_graph(Tied(), IDS)
    assert (found.parameters, found.buffer_bytes) == (61 * 24, 61 * 4)
    read = [found.graph.tensors[name] for operation in found.graph for name in operation.inputs[1:2]]
    assert [tensor.shape for tensor in read if tensor.constant] == [(61, 24), (24, 30), (61, 24), (24, 61), (61,)]
    gathered = 2 * 2 * 17 * 24 * 4
    assert totals(found.graph).traffic.weights == gathered + (30 * 24 + 61 * 24 + 61) * 4


def test_inputs_and_module_stay_as_they_are():
    class Keeps(nn.Module):
        """Writes into itself and its input."""

        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)
            self.seen: list[Tensor] = []

        def forward(self, x: Tensor) -> Tensor:
            x += 1
            self.seen.append(x)
            return self.linear(x)

    module, x = Keeps(), torch.zeros(3, 4)
    weight = module.linear.weight
    module_graph(module, x, train=True)
    assert (module.seen, x.sum(), module.training) == ([], 0, True)
    assert module.linear.weight is weight
    assert weight.grad is None


def test_what_no_rule_knows_is_counted_and_listed():
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.linalg.qr(x)[0] + torch.fft.fft(x).real

    found = module_graph(Odd(), torch.zeros(6, 6))
    assert set(found.approximated) == {"aten::linalg_qr", "aten::_fft_r2c"}
    qr = next(operation for operation in found.graph if operation.name == "linalg_qr")
    assert traffic(found.graph, qr).total == 3 * 36 * 4


def test_formats_of_the_module_and_others():
    module = Decoder(CONFIG).to(torch.bfloat16)
    own = module_graph(module, IDS)
    assert (own.own, own.weight_bytes) == ("bf16", own.parameter_bytes)
    wide = module_graph(module, IDS, formats=FP32)
    assert wide.weight_bytes == 2 * own.weight_bytes
    assert totals(wide.graph).traffic.weights == 2 * totals(own.graph).traffic.weights
    narrow = module_graph(module, IDS, formats=Formats.parse("int4/fp8"))
    graph = narrow.graph
    up = next(operation for operation in graph if operation.name == "model.layers.*.mlp.up_proj.mm")
    assert [tensor.format for tensor in (*graph.inputs_of(up), *graph.outputs_of(up))] == ["fp8", "int4", "bf16"]
    quantized = [operation.name for operation in graph if operation.name.endswith(".quantize")]
    assert len(quantized) == 5  # for q, k and v; o; gate and up; down; head
    matrices = sum(parameter.numel() for name, parameter in module.named_parameters() if "proj" in name)
    matrices += module.lm_head.weight.numel()
    assert narrow.weight_bytes < 2 * (own.parameters - matrices) + 0.8 * matrices  # K of 24 has a scale of its own


def test_memory_is_what_lives_at_once():
    class Chain(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.exp().exp().exp()

    size = 4 * 100
    assert module_graph(Chain(), torch.zeros(100)).activation_bytes == 2 * size
    x = torch.zeros(100, requires_grad=True)
    # backward keeps all three exponentials, beside them x and the gradient given
    assert 4 * size <= module_graph(Chain(), x, train=True).activation_bytes <= 5 * size
