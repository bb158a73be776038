"""Architectures from config.json: parameters against the modules that transformers builds, and what is refused."""

import json
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedModel

from systolith_model.config import ConfigError
from systolith_model.huggingface import architecture_from_hf, read_architecture
from systolith_model.parameters import active_parameter_count, parameter_count

SIZES = {
    "vocab_size": 97, "hidden_size": 48, "num_hidden_layers": 5, "num_attention_heads": 6, "intermediate_size": 80,
    "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GROUPED = {**SIZES, "num_key_value_heads": 2, "head_dim": 10}
GPT = {"vocab_size": 97, "n_embd": 48, "n_layer": 3, "n_head": 6, "n_positions": 64, "bos_token_id": 1, "eos_token_id": 2}
T5 = {"vocab_size": 97, "d_model": 48, "d_kv": 10, "d_ff": 80, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 6}
DEEPSEEK = {
    **SIZES, "num_key_value_heads": 6, "moe_intermediate_size": 24, "n_routed_experts": 8, "num_experts_per_tok": 2,
    "n_shared_experts": 2, "first_k_dense_replace": 1, "kv_lora_rank": 16, "q_lora_rank": 20, "qk_nope_head_dim": 6,
    "qk_rope_head_dim": 4, "v_head_dim": 5, "n_group": 1, "topk_group": 1,
}  # fmt: skip

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", GROUPED),
    "llama-biases-tied": ("llama", {**GROUPED, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    "mistral": ("mistral", {**GROUPED, "sliding_window": 16}),
    "mixtral": ("mixtral", {**GROUPED, "num_local_experts": 4}),
    "qwen2": ("qwen2", {**SIZES, "num_key_value_heads": 2}),
    "qwen2_moe": (
        "qwen2_moe",
        {**SIZES, "num_key_value_heads": 2, "num_experts": 6, "moe_intermediate_size": 24, "decoder_sparse_step": 2,
         "shared_expert_intermediate_size": 30},
    ),
    "qwen3": ("qwen3", GROUPED),
    "qwen3_moe": ("qwen3_moe", {**GROUPED, "num_experts": 12, "moe_intermediate_size": 24}),
    "gpt_oss": ("gpt_oss", {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "llama4_text": ("llama4_text", {**GROUPED, "intermediate_size_mlp": 90, "interleave_moe_layer_step": 2}),
    "deepseek_v2": ("deepseek_v2", DEEPSEEK),
    "deepseek_v2-no-rank": ("deepseek_v2", {**DEEPSEEK, "q_lora_rank": None}),
    "deepseek_v3": ("deepseek_v3", DEEPSEEK),
    "gemma": ("gemma", GROUPED),
    "gemma2": ("gemma2", GROUPED),
    "gemma3_text": ("gemma3_text", GROUPED),
    "phi": ("phi", SIZES),
    "phi3": ("phi3", {**SIZES, "num_key_value_heads": 2}),
    "falcon-7b": ("falcon", SIZES),
    "falcon-40b": ("falcon", {**SIZES, "new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon-rw": (
        "falcon", {**SIZES, "parallel_attn": False, "multi_query": False, "bias": True, "alibi": True},
    ),
    "bloom": ("bloom", {"vocab_size": 97, "hidden_size": 48, "n_layer": 3, "n_head": 6}),
    "gpt_neox": ("gpt_neox", SIZES),
    "gptj": ("gptj", {**GPT, "rotary_dim": 4}),
    "gpt2": ("gpt2", GPT),
    "gpt2-inner": ("gpt2", {**GPT, "n_inner": 100}),
    "opt": ("opt", {**SIZES, "ffn_dim": 80, "word_embed_proj_dim": 48}),
    "opt-350m": ("opt", {**SIZES, "ffn_dim": 80, "word_embed_proj_dim": 24, "do_layer_norm_before": False}),
    "bert": ("bert", SIZES),
    "roberta": ("roberta", {**SIZES, "type_vocab_size": 1}),
    "t5": ("t5", T5),
    "t5-gated": ("t5", {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "bart": (
        "bart",
        {"vocab_size": 97, "d_model": 48, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 6,
         "decoder_attention_heads": 6, "encoder_ffn_dim": 80, "decoder_ffn_dim": 80, "max_position_embeddings": 64},
    ),
    "vit": ("vit", {**SIZES, "image_size": 32, "patch_size": 8}),
}  # fmt: skip


def module_of(config: Any) -> PreTrainedModel:
    """The module that transformers builds, without memory."""
    kind = {
        "bert": AutoModel, "roberta": AutoModel, "t5": AutoModelForSeq2SeqLM, "bart": AutoModelForSeq2SeqLM,
        "vit": transformers.AutoModelForImageClassification,
    }.get(config.model_type, AutoModelForCausalLM)  # fmt: skip
    with torch.device("meta"):
        return kind.from_config(config)


@pytest.mark.parametrize("case", CASES)
def test_parameters_are_those_of_transformers(case, tmp_path):
    model_type, fields = CASES[case]
    config = AutoConfig.for_model(model_type, **fields)
    config.save_pretrained(tmp_path)
    module = module_of(config)
    expected = sum(weight.numel() for weight in module.parameters())
    # transformers keeps DeepSeek-V3's correction per expert, which is trained, as a buffer
    expected += sum(buffer.numel() for name, buffer in module.named_buffers() if "correction_bias" in name)
    assert parameter_count(read_architecture(tmp_path)) == expected
