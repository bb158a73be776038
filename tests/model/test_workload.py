"""Graphs: what stands in them, what they read, and what they refuse."""

from time import perf_counter
from typing import Any, Required, TypedDict

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from systolith_model import zoo
from systolith_model.architecture import Architecture, Experts
from systolith_model.config import TransformerConfig
from systolith_model.formats import Formats
from systolith_model.graph import Graph, busiest_rows, flops, matmul_shape, seen_pairs, totals
from systolith_model.parameters import kv_bytes, parameter_count, parameters, weight_bytes
from systolith_model.reference.decoder import Decoder, KVCache
from systolith_model.workload import decode_graph, forward_graph, prefill_graph, training_graph
from systolith_model.workload.mlp import active_experts

CONFIG = TransformerConfig(
    vocab_size=61, hidden_size=24, n_layers=3, n_heads=6, n_kv_heads=2, head_dim=10, intermediate_size=29,
    max_positions=64,
)  # fmt: skip
INT8 = Formats.plain("int8")


def total(graph: Graph, *kinds: str) -> int:
    return sum(operation.count * flops(graph, operation) for operation in graph if operation.kind in kinds)


def constants(graph: Graph) -> dict[str, int]:
    """How often each weight stands in the model."""
    return {name: operation.count for operation in graph for name in operation.inputs if graph.tensors[name].constant}


class Sizes(TypedDict, total=False):
    """Arguments of ``forward_graph``."""

    tokens: Required[int]
    source: int


def sizes_of(architecture: Architecture, tokens: int) -> Sizes:
    """Sizes of a pass over some tokens, whatever the kind of model."""
    if architecture.patches:
        return {"tokens": architecture.patches.count + 1}
    return {"tokens": tokens, "source": tokens if architecture.kind == "encoder_decoder" else 0}


@pytest.mark.parametrize(("batch", "tokens", "context"), [(1, 17, 0), (3, 1, 40), (2, 5, 13), (1, 1, 0)])
def test_flops_of_the_reference_equal_those_torch_counts(batch, tokens, context):
    model = Decoder(CONFIG).requires_grad_(False)
    cache = KVCache(CONFIG)
    if context:
        model(torch.zeros(batch, context, dtype=torch.int64), cache)
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(batch, tokens, dtype=torch.int64), cache)
    counted = {str(name): number for name, number in counter.get_flop_counts()["Global"].items()}
    graph = forward_graph(CONFIG, batch=batch, tokens=tokens, context=context, all_logits=True)
    assert total(graph, "matmul") == counted["aten.mm"]


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (9, 9), (1, 31), (4, 34), (7, 3)])
@pytest.mark.parametrize("window", [0, 1, 5, 100])
def test_pairs_are_those_that_a_mask_shows(queries, keys, window):
    position = np.arange(keys - queries, keys)[:, None]
    key = np.arange(keys)[None, :]
    seen = (key <= position) & (key > position - (window or keys + queries))
    assert seen_pairs(queries, keys, causal=True, window=window) == seen.sum()
    assert seen_pairs(queries, keys, causal=False) == queries * keys


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", zoo.names())
def test_constant_tensors_are_the_parameters(name, fused):
    architecture = zoo.architecture(name)
    graph = forward_graph(architecture, batch=1 << 16, fused=fused, **sizes_of(architecture, 64))
    elements = sum(count * graph.tensors[weight].elements for weight, count in constants(graph).items())
    assert elements == parameter_count(architecture)


@pytest.mark.parametrize("words", ["bf16", "int8", "int4-g32/bf16/fp8", "fp8_block", "int8+2:4/int8/int8"])
@pytest.mark.parametrize("name", ["llama-3.1-8b", "mixtral-8x7b", "gpt2", "flan-t5-base"])
def test_bytes_of_constants_are_those_of_the_weights(name, words):
    architecture, formats = zoo.architecture(name), Formats.parse(words)
    graph = forward_graph(architecture, batch=1 << 12, formats=formats, **sizes_of(architecture, 64))
    size = sum(count * graph.tensors[weight].bytes for weight, count in constants(graph).items())
    assert size == weight_bytes(architecture, formats)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("context", [0, 40])
@pytest.mark.parametrize("name", zoo.names())
def test_every_input_is_made_before_or_comes_from_outside(name, context, fused):
    architecture = zoo.architecture(name)
    if context and architecture.kind == "encoder":
        context = 0
    graph = forward_graph(architecture, context=context, fused=fused, **sizes_of(architecture, 4))
    outside = {"tokens", "buckets", "carried"}
    if context:
        outside |= {"keys", "values", "latent", "cross_keys", "cross_values"}
    made: set[str] = set()
    for operation in graph:
        for missing in set(operation.inputs) - made:
            last = missing.rpartition(".")[2].removeprefix("encoder_").removeprefix("decoder_")
            assert graph.tensors[missing].constant or last in outside, (operation.name, missing)
        made |= set(operation.outputs)
    written = {op.attributes["writes_into"] for op in graph if "writes_into" in op.attributes}
    assert bool(written) == bool(context)
    assert {part for names in written for part in str(names).split()} <= set(graph.tensors)


def test_head_computes_the_last_token_unless_told_otherwise():
    last, every = (forward_graph(CONFIG, tokens=7, batch=2, all_logits=flag) for flag in (False, True))
    head = [matmul_shape(graph, graph.operations[-1]) for graph in (last, every)]
    assert [(shape.m, shape.k, shape.n) for shape in head] == [(2, 24, 61), (14, 24, 61)]


def test_formats_are_those_asked_for():
    graph = prefill_graph(CONFIG, prompt=2, formats=Formats.parse("int4/fp8/int8"))
    assert graph.tensors["layer.qkv_proj.weight"].format == "int4"
    assert graph.tensors["layer.input_norm.out"].format == "fp8"
    assert graph.tensors["layer.keys_new"].format == "int8"
    assert graph.tensors["layer.qkv_proj.out"].format == "bf16"
    assert graph.tensors["lm_head.weight"].format == "bf16"
    assert {tensor.format for tensor in forward_graph(CONFIG, tokens=2, formats=INT8).tensors.values()} == {
        "int8", "int32",
    }  # fmt: skip


def test_unfused_narrow_activations_are_quantized_once_for_each_reader():
    graph = forward_graph(CONFIG, tokens=2, formats=Formats.parse("int8"))
    names = [operation.name for operation in graph if "quantize" in operation.name]
    assert names == [
        "layer.quantize_input_norm", "layer.quantize_mixed", "layer.quantize_post_attention_norm",
        "layer.quantize_gated_activation",
    ]  # fmt: skip


def test_a_decode_step_reads_the_weights_once_and_the_cache():
    architecture = zoo.architecture("llama-3.1-8b")
    graph = decode_graph(architecture, context=999, batch=4)
    counted = totals(graph).traffic
    gathered = 4 * architecture.hidden_size
    assert counted.weights == 2 * (parameter_count(architecture) - parameters(architecture).embeddings + gathered)
    # attention reads a thousand tokens; one is written
    assert counted.kv == kv_bytes(architecture, tokens=1000, batch=4) + kv_bytes(architecture, tokens=1, batch=4)


def test_a_window_bounds_what_a_decode_step_reads():
    architecture = zoo.architecture("gemma-2-9b")  # 21 layers see 4096 tokens, 21 all
    graph = decode_graph(architecture, context=7999)
    local, every = (graph.tensors[f"layer_{kind}.keys"].shape[2] for kind in ("local", "global"))
    assert (local, every) == (4096, 8000)
    per_token = 2 * 2 * architecture.n_kv_heads * architecture.head_dim
    assert kv_bytes(architecture, tokens=8000) == 21 * per_token * (4096 + 8000)


def test_layer_patterns_give_groups_with_their_counts():
    graph = prefill_graph(zoo.architecture("deepseek-v3"), prompt=16)
    counts = {operation.name.split(".")[0]: operation.count for operation in graph if "." in operation.name}
    assert counts == {"layer_dense": 3, "layer_experts": 58}
    switch = prefill_graph(zoo.architecture("switch-base-128"), prompt=16)
    counts = {operation.name.split(".")[0]: operation.count for operation in switch if operation.count > 1}
    assert counts == {
        "encoder_layer_dense": 6, "encoder_layer_experts": 6, "decoder_layer_dense": 6, "decoder_layer_experts": 6,
    }  # fmt: skip


def test_cross_attention_encodes_once():
    architecture = zoo.architecture("t5-small")
    first = prefill_graph(architecture, prompt=50)
    later = decode_graph(architecture, context=9, source=50)
    assert {name.split(".")[0] for name in (op.name for op in first)} > {"encoder_layer", "decoder_layer"}
    assert not any("encoder_layer." in operation.name for operation in later if "decoder" not in operation.name)
    assert later.tensors["decoder_layer.cross_keys"].shape == (1, 8, 50, 64)
    assert "decoder_layer.cross_k_proj" not in {operation.name for operation in later}


@pytest.mark.parametrize("tokens", [1, 2, 10, 100])
def test_active_experts_are_those_of_even_routing(tokens):
    moe = Experts(n_experts=60, top_k=4, intermediate_size=8)
    rng = np.random.default_rng(tokens)
    draws = [len({expert for _ in range(tokens) for expert in rng.permutation(60)[:4]}) for _ in range(300)]
    assert abs(active_experts(moe, tokens) - np.mean(draws)) < 1
    assert active_experts(moe, 1) == 4


def test_experts_share_the_routed_rows_and_the_busiest_gets_more():
    moe = Experts(n_experts=8, top_k=2, intermediate_size=16, imbalance=1.5)
    architecture = Architecture.model_validate(
        {**CONFIG.model_dump(include=set(Architecture.model_fields)), "experts": moe}
    )
    graph = prefill_graph(architecture, prompt=50, batch=2)
    (up,) = (operation for operation in graph if operation.name == "layer.experts_gate_up")
    shape = matmul_shape(graph, up)
    assert (shape.batch, shape.m, shape.k, shape.n) == (8, 25, 24, 32)
    assert busiest_rows(graph, up) == 38  # 1.5 x 200 / 8, rounded up
    assert flops(graph, up) == 2 * 200 * 24 * 32
    assert (up.attributes["tokens"], up.attributes["width"]) == (100, 16)


def test_training_products_follow_the_published_count():
    # Narayanan et al. 2021 (arXiv 2104.04473), section 3: 96 B s l h^2 + 6 B s h V with full recomputation
    architecture = zoo.architecture("gpt3-175b")
    graph = training_graph(architecture, tokens=2048, batch=3, recompute="full")
    b, s, n, h, v = 3, 2048, 96, 12288, 50257
    assert total(graph, "matmul") == 96 * b * s * n * h**2 + 6 * b * s * h * v


def test_training_sums_gradients_of_biases_over_rows():
    """GPT-3 has a bias at each of q, k, v, output, up and down: one operation an element of what they put out."""
    b, s, n, h = 3, 2048, 96, 12288
    graph = training_graph(zoo.architecture("gpt3-175b"), tokens=s, batch=b)
    sums = [operation for operation in graph if operation.name.endswith(".db")]
    assert sum(operation.count * flops(graph, operation) for operation in sums) == b * s * n * (3 + 1 + 4 + 1) * h
    without = training_graph(zoo.architecture("llama-2-7b"), tokens=8)
    assert not [operation for operation in without if operation.name.endswith(".db")]


def test_training_attention_with_and_without_kept_scores():
    work = {
        (flash, recompute): total(training_graph(CONFIG, tokens=32, flash=flash, recompute=recompute), "attention")
        for flash in (False, True)
        for recompute in ("none", "selective", "full")
    }
    forward = total(forward_graph(CONFIG, tokens=32), "attention")
    # in halves of a forward pass, one for each of its two products
    expected = {(False, "none"): 6, (False, "selective"): 8, (False, "full"): 8}
    expected |= {(True, "none"): 7, (True, "selective"): 9, (True, "full"): 9}
    assert {key: 2 * value / forward for key, value in work.items()} == expected


@pytest.mark.parametrize(
    ("optimizer", "bytes_per_parameter"),
    # gradient read, weight written, then master and states read and written, fp32
    [("adam", 4 + 2 + 3 * 8), ("momentum", 4 + 2 + 2 * 8), ("sgd", 4 + 2 + 8)],
)
def test_optimizers_move_their_states(optimizer, bytes_per_parameter):
    graph = training_graph(CONFIG, tokens=8, optimizer=optimizer)
    alone = Graph(name="last", tensors=graph.tensors, operations=graph.operations[-1:])
    assert totals(alone).traffic.total == bytes_per_parameter * parameter_count(CONFIG)


def test_graphs_are_fast():
    architecture = zoo.architecture("llama-3-70b")
    best = {}
    for name, build in (
        ("prefill", lambda: prefill_graph(architecture, prompt=2048)),
        ("decode", lambda: decode_graph(architecture, context=2048)),
        ("training", lambda: training_graph(architecture, tokens=2048)),
    ):
        times = []
        for _ in range(20):
            start = perf_counter()
            build()
            times.append(perf_counter() - start)
        best[name] = min(times)
    assert max(best.values()) < 5e-3, best


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": 0}, "tokens must be >= 1, not 0"),
        ({"batch": -2}, "batch must be >= 1, not -2"),
        ({"context": -1}, "context must be >= 0, not -1"),
        ({"context": 64}, r"tokens \+ context must be <= 64, not 65"),
        ({"source": 3}, "source must be 0 where kind is 'decoder', not 3"),
    ],
)
def test_refused_in_one_sentence(changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        forward_graph(CONFIG, **{"tokens": 1, **changes})


def test_what_a_model_cannot_do_is_refused():
    bert, t5 = zoo.architecture("bert-base-uncased"), zoo.architecture("t5-small")
    with pytest.raises(ValueError, match="kind must be decoder or encoder_decoder for a decode step, not 'encoder'"):
        decode_graph(bert, context=3)
    with pytest.raises(ValueError, match="context must be 0 where kind is 'encoder', not 3"):
        forward_graph(bert, tokens=1, context=3)
    with pytest.raises(ValueError, match="source must be >= 1 where kind is 'encoder_decoder', not 0"):
        decode_graph(t5, context=3)
    with pytest.raises(ValueError, match="optimizer must be one of adam, sgd, momentum, not 'lion'"):
        training_graph(CONFIG, tokens=3, optimizer="lion")  # pyright: ignore[reportArgumentType]
