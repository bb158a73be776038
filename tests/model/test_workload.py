"""Graphs of decoders: FLOPs against torch's own counter, parameters and caches against the config."""

from math import prod
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from systolith_model import zoo
from systolith_model.config import TransformerConfig, parameter_count
from systolith_model.graph import Graph, Operation, flops, matmul_shape
from systolith_model.reference.decoder import Decoder, KVCache
from systolith_model.workload import decoder_graph

CONFIG = TransformerConfig(
    vocab_size=61, hidden_size=24, n_layers=3, n_heads=6, n_kv_heads=2, head_dim=10, intermediate_size=29,
    max_positions=64,
)  # fmt: skip


def total(graph: Graph, *kinds: str) -> int:
    return sum(operation.count * flops(graph, operation) for operation in graph if operation.kind in kinds)


def unmasked(graph: Graph, operation: Operation) -> int:
    """FLOPs of attention when hidden scores are computed too, as the reference does."""
    q, k, _ = graph.inputs_of(operation)
    return operation.count * 2 * 2 * prod(q.shape) * k.shape[-2]


@pytest.mark.parametrize(("batch", "tokens", "context"), [(1, 17, 0), (3, 1, 40), (2, 5, 13), (1, 1, 0)])
def test_flops_equal_those_torch_counts(batch, tokens, context):
    model = Decoder(CONFIG).requires_grad_(False)
    cache = KVCache(CONFIG)
    if context:
        model(torch.zeros(batch, context, dtype=torch.int64), cache)
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(batch, tokens, dtype=torch.int64), cache)
    counted = {str(name): number for name, number in counter.get_flop_counts()["Global"].items()}
    graph = decoder_graph(CONFIG, batch=batch, tokens=tokens, context=context, all_logits=True)
    (attention,) = (operation for operation in graph if operation.kind == "attention")
    assert total(graph, "matmul") == counted["aten.mm"]
    assert unmasked(graph, attention) == counted["aten.bmm"]


@pytest.mark.parametrize(("tokens", "context"), [(1, 0), (9, 0), (1, 30), (4, 30)])
def test_causal_attention_counts_the_pairs_that_are_seen(tokens, context):
    graph = decoder_graph(CONFIG, tokens=tokens, context=context)
    pairs = sum(context + query + 1 for query in range(tokens))
    assert total(graph, "attention") == CONFIG.n_layers * 4 * CONFIG.n_heads * CONFIG.head_dim * pairs


@pytest.mark.parametrize("name", ["llama-2-7b", "llama-3-8b", "tinyllama-1.1b"])
def test_constant_tensors_are_the_parameters(name):
    config = zoo.config_of(name)
    graph = decoder_graph(config, tokens=1, context=100, format="bf16")
    per_layer = {name for operation in graph if operation.count > 1 for name in operation.inputs}
    elements = sum(
        tensor.elements * (config.n_layers if tensor.name in per_layer else 1)
        for tensor in graph.tensors.values()
        if tensor.constant
    )
    assert elements == parameter_count(config)


def test_every_input_is_made_before_or_comes_from_outside():
    graph = decoder_graph(CONFIG, tokens=4, context=8)
    made: set[str] = set()
    outside = {"tokens", "keys", "values"} | {
        name for name, tensor in graph.tensors.items() if tensor.constant
    }
    for operation in graph:
        assert set(operation.inputs) <= made | outside, operation.name
        made |= set(operation.outputs)
    written = {op.attributes["writes_into"] for op in graph if "writes_into" in op.attributes}
    assert written == {"keys", "values"}


def test_without_a_context_nothing_but_tokens_and_weights_comes_from_outside():
    graph = decoder_graph(CONFIG, tokens=4)
    made = {name for operation in graph for name in operation.outputs}
    outside = {name for operation in graph for name in operation.inputs} - made
    assert {name for name in outside if not graph.tensors[name].constant} == {"tokens"}


def test_head_computes_the_last_token_unless_told_otherwise():
    last, every = (decoder_graph(CONFIG, tokens=7, batch=2, all_logits=flag) for flag in (False, True))
    head = [matmul_shape(graph, graph.operations[-1]) for graph in (last, every)]
    assert [(shape.m, shape.k, shape.n) for shape in head] == [(2, 24, 61), (14, 24, 61)]


def test_formats_are_those_asked_for():
    graph = decoder_graph(CONFIG, tokens=2, format="bf16", weight_format="int4")
    weights = [tensor for tensor in graph.tensors.values() if tensor.constant and len(tensor.shape) == 2]
    assert {tensor.format for tensor in weights} == {"int4"}
    assert graph.tensors["queries"].format == "bf16"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": 0}, "tokens must be >= 1, not 0"),
        ({"batch": -2}, "batch must be >= 1, not -2"),
        ({"context": -1}, "context must be >= 0, not -1"),
        ({"context": 64}, r"tokens \+ context must be <= 64, not 65"),
        ({"format": "int9"}, "format must be one of fp32, .* not 'int9'"),
        ({"weight_format": "q4"}, "format must be one of fp32, .* not 'q4'"),
    ],
)
def test_refused_in_one_sentence(changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        decoder_graph(CONFIG, **{"tokens": 1, **changes})
