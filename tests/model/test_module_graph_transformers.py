"""Graphs of modules that transformers builds: FLOPs, parameters, caches, experts."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForSeq2SeqLM,
)

from systolith_model.graph import flops, totals
from systolith_model.workload.module import ModuleGraph, module_graph

SIZES = {
    "vocab_size": 97, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 6, "intermediate_size": 80,
    "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GROUPED = {**SIZES, "num_key_value_heads": 2, "head_dim": 10}
IDS = torch.randint(97, (2, 17), generator=torch.Generator().manual_seed(5))

MODELS: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "gpt2": (
        AutoModelForCausalLM,
        {"vocab_size": 97, "n_embd": 48, "n_layer": 3, "n_head": 6, "n_positions": 64, "bos_token_id": 1,
         "eos_token_id": 2},
        {"input_ids": IDS},
    ),
    "llama": (AutoModelForCausalLM, GROUPED, {"input_ids": IDS}),
    "gemma2": (AutoModelForCausalLM, GROUPED, {"input_ids": IDS}),
    "bert": (AutoModel, SIZES, {"input_ids": IDS}),
    "t5": (
        AutoModelForSeq2SeqLM,
        {"vocab_size": 97, "d_model": 48, "d_kv": 10, "d_ff": 80, "num_layers": 2, "num_decoder_layers": 3,
         "num_heads": 6},
        {"input_ids": IDS, "decoder_input_ids": IDS[:, :5]},
    ),
    "vit": (
        AutoModelForImageClassification,
        {**SIZES, "image_size": 32, "patch_size": 8},
        {"pixel_values": torch.zeros(2, 3, 32, 32)},
    ),
}  # fmt: skip
MIXTRAL = {**GROUPED, "num_local_experts": 4}


def built(model_type: str, auto: Any, fields: dict[str, Any], **how: str) -> Any:
    how = {"attn_implementation": "eager", **how}
    return auto.from_config(AutoConfig.for_model(model_type, **fields), **how).eval()


def products(found: ModuleGraph) -> int:
    kinds = ("matmul", "attention")
    return sum(operation.count * flops(found.graph, operation) for operation in found.graph if operation.kind in kinds)


@pytest.mark.parametrize("model_type", MODELS)
def test_flops_and_parameters(model_type):
    auto, fields, inputs = MODELS[model_type]
    module = built(model_type, auto, fields)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(**inputs)
    found = module_graph(module, **inputs)
    assert (products(found), found.approximated) == (counter.get_total_flops(), {})
    assert found.parameter_bytes == sum(parameter.nbytes for parameter in module.parameters())
    assert max(operation.count for operation in found.graph) >= 2


@pytest.mark.parametrize("model_type", ["gpt2", "llama"])
def test_a_training_step(model_type):
    auto, fields, inputs = MODELS[model_type]
    module = built(model_type, auto, fields).train()
    with FlopCounterMode(display=False) as counter:
        module(**inputs, labels=IDS).loss.backward()
    found = module_graph(module, **inputs, labels=IDS, train=True)
    assert (products(found), found.approximated) == (counter.get_total_flops(), {})
    assert any("log_softmax" in operation.name for operation in found.graph)


@pytest.mark.parametrize("train", [False, True])
def test_experts_by_grouped_products_are_those_of_the_eager_loop(train):
    eager, grouped = (
        built("mixtral", AutoModelForCausalLM, MIXTRAL, experts_implementation=how) for how in ("eager", "grouped_mm")
    )
    eager.train(train)
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(train):
        out = eager(input_ids=IDS)
        if train:
            out.logits.sum().backward()
    found = module_graph(grouped, input_ids=IDS, train=train)
    assert (products(found), found.approximated) == (counter.get_total_flops(), {})


def test_a_loop_over_experts_depends_on_values():
    module = built("mixtral", AutoModelForCausalLM, MIXTRAL, experts_implementation="eager")
    with pytest.raises(ValueError, match="module must not depend on values of tensors"):
        module_graph(module, input_ids=IDS)


def test_a_decode_step_reads_the_cache_of_transformers():
    module = built("llama", AutoModelForCausalLM, GROUPED, attn_implementation="sdpa")
    with torch.no_grad():
        cache = module(input_ids=IDS, use_cache=True).past_key_values
    found = module_graph(module, input_ids=IDS[:, :1], past_key_values=cache)
    token = 3 * 2 * 2 * 2 * 10 * 4  # layers, keys and values, batch, heads, size, bytes
    assert (found.cache_bytes, cache.get_seq_length()) == (18 * token, 17)
    assert totals(found.graph).traffic.kv == (17 + 18 + 18) * token  # joined by a copy, then read


def test_attention_of_transformers_is_fused_and_causal():
    module = built("llama", AutoModelForCausalLM, GROUPED, attn_implementation="sdpa")
    found = module_graph(module, input_ids=IDS)
    (attention,) = (operation for operation in found.graph if operation.kind == "attention")
    assert (attention.count, dict(attention.attributes)) == (3, {"causal": True})
    assert [tensor.shape for tensor in found.graph.inputs_of(attention)] == [
        (2, 6, 17, 10), (2, 2, 17, 10), (2, 2, 17, 10),
    ]  # fmt: skip


@pytest.mark.parametrize("train", [False, True])
def test_a_model_that_no_architecture_describes(train):
    fields = {"vocab_size": 97, "hidden_size": 48, "num_hidden_layers": 3}
    module = AutoModelForCausalLM.from_config(AutoConfig.for_model("mamba", **fields))
    found = module_graph(module, input_ids=IDS, train=train)
    assert found.approximated == {}
    ins = [operation for operation in found.graph if operation.name == "backbone.layers.*.mixer.in_proj.mm"]
    assert [(operation.count, flops(found.graph, operation)) for operation in ins] == [(3, 2 * 34 * 48 * 2 * 96)]
    assert found.parameter_bytes == sum(parameter.nbytes for parameter in module.parameters())
