"""FLOPs of graphs against what torch counts in the modules that transformers builds."""

from typing import Any

import pytest
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from systolith_model.architecture import Architecture
from systolith_model.config import TransformerConfig
from systolith_model.graph import Graph, Operation, flops
from systolith_model.huggingface import architecture_from_hf
from systolith_model.reference.decoder import Decoder
from systolith_model.workload import forward_graph, training_graph

SIZES = {
    "vocab_size": 97, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 6, "intermediate_size": 80,
    "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GROUPED = {**SIZES, "num_key_value_heads": 2, "head_dim": 10}

DECODERS: dict[str, dict[str, Any]] = {
    "gpt2": {"vocab_size": 97, "n_embd": 48, "n_layer": 3, "n_head": 6, "n_positions": 64},
    "llama": GROUPED,
    "qwen3": GROUPED,
    "gemma2": GROUPED,
    "phi": SIZES,
    "opt": {**SIZES, "ffn_dim": 80, "word_embed_proj_dim": 24, "do_layer_norm_before": False},
    "mixtral": {**GROUPED, "num_local_experts": 4},
    "qwen2_moe": {
        **SIZES, "num_key_value_heads": 2, "num_experts": 6, "moe_intermediate_size": 24, "decoder_sparse_step": 2,
        "shared_expert_intermediate_size": 30,
    },
    "deepseek_v3": {
        **SIZES, "num_key_value_heads": 6, "moe_intermediate_size": 24, "n_routed_experts": 8,
        "num_experts_per_tok": 2, "n_shared_experts": 2, "first_k_dense_replace": 1, "kv_lora_rank": 16,
        "q_lora_rank": 20, "qk_nope_head_dim": 6, "qk_rope_head_dim": 4, "v_head_dim": 5, "n_group": 1, "topk_group": 1,
    },
}  # fmt: skip
EXPERTS = ("mixtral", "qwen2_moe", "deepseek_v3")
T5 = {"vocab_size": 97, "d_model": 48, "d_kv": 10, "d_ff": 80, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 6}
BART = {
    "vocab_size": 97, "d_model": 48, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 6,
    "decoder_attention_heads": 6, "encoder_ffn_dim": 80, "decoder_ffn_dim": 80, "max_position_embeddings": 64,
}  # fmt: skip


def built(auto: Any, model_type: str, fields: dict[str, Any]) -> tuple[Any, Architecture]:
    config = AutoConfig.for_model(model_type, **fields)
    torch.manual_seed(0)
    # the counter does not know grouped products
    experts = {"experts_implementation": "eager"} if model_type in EXPERTS else {}
    module = auto.from_config(config, attn_implementation="eager", **experts).eval()
    return module, architecture_from_hf(config.to_dict())


def counted(module: Any, **inputs: torch.Tensor) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(**inputs)
    return counter.get_total_flops()


def unmasked(graph: Graph, operation: Operation) -> int:
    """FLOPs when hidden scores are computed too, as an eager attention does."""
    if operation.kind != "attention":
        return flops(graph, operation) if operation.kind == "matmul" else 0
    q, k, v = graph.inputs_of(operation)[:3]
    pairs = q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2]
    size = q.shape[3] + v.shape[3]
    return pairs * (4 if operation.attributes.get("backward") else 2) * size


def total(graph: Graph) -> int:
    return sum(operation.count * unmasked(graph, operation) for operation in graph)


def ids(batch: int, tokens: int) -> torch.Tensor:
    return torch.randint(97, (batch, tokens), generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("model_type", DECODERS)
def test_prefill_of_a_decoder(model_type, fused):
    module, architecture = built(AutoModelForCausalLM, model_type, DECODERS[model_type])
    graph = forward_graph(architecture, batch=2, tokens=17, all_logits=True, fused=fused)
    assert total(graph) == counted(module, input_ids=ids(2, 17))


@pytest.mark.parametrize("model_type", ["gpt2", "llama", "mixtral"])
def test_decode_step_of_a_decoder(model_type):
    module, architecture = built(AutoModelForCausalLM, model_type, DECODERS[model_type])
    with torch.no_grad():
        cache = module(input_ids=ids(2, 20), use_cache=True).past_key_values
    graph = forward_graph(architecture, batch=2, tokens=1, context=20)
    assert total(graph) == counted(module, input_ids=ids(2, 1), past_key_values=cache)


def test_encoder():
    module, architecture = built(AutoModel, "bert", SIZES)
    assert total(forward_graph(architecture, batch=2, tokens=17)) == counted(module, input_ids=ids(2, 17))


@pytest.mark.parametrize(("model_type", "fields"), [("t5", T5), ("bart", BART)])
def test_encoder_decoder(model_type, fields):
    module, architecture = built(AutoModelForSeq2SeqLM, model_type, fields)
    graph = forward_graph(architecture, batch=2, tokens=5, source=17, all_logits=True)
    assert total(graph) == counted(module, input_ids=ids(2, 17), decoder_input_ids=ids(2, 5))


def test_image_encoder():
    fields = {**SIZES, "image_size": 32, "patch_size": 8}
    module, architecture = built(transformers.AutoModelForImageClassification, "vit", fields)
    expected = counted(module, pixel_values=torch.zeros(2, 3, 32, 32))
    assert total(forward_graph(architecture, batch=2, tokens=17)) == expected


@pytest.mark.parametrize("tied", [False, True])
def test_training_step_of_the_reference(tied):
    config = TransformerConfig(
        vocab_size=61, hidden_size=24, n_layers=3, n_heads=6, n_kv_heads=2, head_dim=10, intermediate_size=29,
        tied_embeddings=tied,
    )  # fmt: skip
    module = Decoder(config)
    with FlopCounterMode(display=False) as counter:
        module(torch.zeros(2, 13, dtype=torch.int64)).sum().backward()
    graph = training_graph(config, batch=2, tokens=13, flash=False)
    assert total(graph) == counter.get_total_flops()


@pytest.mark.parametrize("model_type", ["gpt2", "t5", "mixtral"])
def test_training_step_of_transformers(model_type):
    fields = T5 if model_type == "t5" else DECODERS[model_type]
    auto = AutoModelForSeq2SeqLM if model_type == "t5" else AutoModelForCausalLM
    module, architecture = built(auto, model_type, fields)
    inputs, source = {"input_ids": ids(2, 17)}, 0
    if model_type == "t5":
        inputs, source = {**inputs, "decoder_input_ids": ids(2, 5)}, 17
    with FlopCounterMode(display=False) as counter:
        module(**inputs).logits.sum().backward()
    graph = training_graph(architecture, batch=2, tokens=5 if source else 17, flash=False, source=source)
    assert total(graph) == counter.get_total_flops()


def test_absorbed_decode_step_of_latent_attention():
    fields = {**DECODERS["deepseek_v3"], "num_hidden_layers": 1}
    architecture = architecture_from_hf({"model_type": "deepseek_v3", **fields})
    batch, heads, keys, rank, nope, turned, v = 3, 6, 21, 16, 6, 4, 5

    def step(q, up_k, latent, up_v):  # the products of DeepSeek-V2 (arXiv 2405.04434), section 2.1.2
        inside = torch.einsum("bhn,hnr->bhr", q, up_k)
        wide = torch.cat([inside, torch.zeros(batch, heads, turned)], dim=-1)
        mixed = torch.einsum("bhk,bkr->bhr", torch.einsum("bhr,bkr->bhk", wide, latent), latent[..., :rank])
        return torch.einsum("bhr,hrv->bhv", mixed, up_v)

    with FlopCounterMode(display=False) as counter:
        step(
            torch.zeros(batch, heads, nope), torch.zeros(heads, nope, rank),
            torch.zeros(batch, keys, rank + turned), torch.zeros(heads, rank, v),
        )  # fmt: skip
    graph = forward_graph(architecture, batch=batch, tokens=1, context=keys - 1)
    names = ("layer.k_up", "layer.attention", "layer.v_up")
    assert sum(flops(graph, operation) for operation in graph if operation.name in names) == counter.get_total_flops()
    latent = next(tensor for name, tensor in graph.tensors.items() if name.endswith(".latent"))
    assert latent.shape == (batch, 1, keys, rank + turned)
