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
GPT = {"vocab_size": 97, "n_embd": 48, "n_layer": 3, "n_head": 6, "n_positions": 64, "bos_token_id": 1}
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


def test_the_language_model_of_a_larger_file(tmp_path):
    text = {"hidden_size": 48, "num_hidden_layers": 12, "intermediate_size": 80, "sliding_window": 16}
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "gemma3", "text_config": text, "vision_config": {}}))
    architecture = read_architecture(path)
    # what google/gemma-3-4b-it leaves out of its file
    assert (architecture.vocab_size, architecture.n_heads, architecture.n_kv_heads) == (262208, 8, 4)
    assert (architecture.window, architecture.windowed) == (16, (True,) * 5 + (False,))


@pytest.mark.parametrize(
    ("changes", "window", "windowed"),
    [
        ({"model_type": "mistral", "sliding_window": 16}, 16, (True,)),
        ({"model_type": "mistral", "sliding_window": None}, None, (True,)),
        ({"model_type": "qwen2", "sliding_window": 16, "use_sliding_window": False}, None, (True,)),
        (
            {"model_type": "qwen2", "sliding_window": 16, "use_sliding_window": True, "max_window_layers": 2},
            16, (False, False, True, True, True),
        ),
        ({"model_type": "gemma2", "sliding_window": 16}, 16, (True, False)),
        ({"model_type": "gpt_oss", "layer_types": ["full_attention", *["sliding_attention"] * 4]}, 128,
         (False, True, True, True, True)),
    ],
)  # fmt: skip
def test_windows(changes, window, windowed):
    architecture = architecture_from_hf(GROUPED | {"num_local_experts": 4} | changes)
    assert (architecture.window, architecture.windowed) == (window, windowed)


def test_active_parameters_of_a_mixture():
    fields = CASES["qwen2_moe"][1]
    architecture = architecture_from_hf({"model_type": "qwen2_moe", **fields})
    # layers 2 and 4 of 5 have 6 experts of 3 x 48 x 24, of which a token uses 4
    assert parameter_count(architecture) - active_parameter_count(architecture) == 2 * (6 - 4) * 3 * 48 * 24


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model_type": "mamba"}, "config: model_type must be one of bart, .*vit, not 'mamba'"),
        ({}, "config: model_type must be one of .*, not None"),
        ({"model_type": ["llama"]}, "model_type must be one of .*, not \\['llama'\\]"),
        (
            {"model_type": "gpt2", "n_layer": 2, "n_head": 4, "vocab_size": 9},
            "n_embd must be a whole number >= 1, not None",
        ),
        ({"model_type": "llama", **GROUPED, "num_hidden_layers": 0}, "num_hidden_layers: .* greater than 0, not 0"),
        ({"model_type": "llama", **GROUPED, "num_key_value_heads": 4}, "n_kv_heads must divide n_heads = 6, not 4"),
        ({"model_type": "llama", **GROUPED, "hidden_act": "mish"}, "hidden_act must be one of silu, .*, not 'mish'"),
        (
            {"model_type": "bloom", "vocab_size": 9, "hidden_size": 8, "n_layer": "2"},
            "n_layer: .*valid integer, not '2'",
        ),
        ({"model_type": "mixtral", **GROUPED, "num_experts_per_tok": 9}, "top_k must be <= n_experts = 8, not 9"),
        (
            {"model_type": "t5", **T5, "feed_forward_proj": "glu"},
            "feed_forward_proj must be one of relu, .*, not 'glu'",
        ),
        ({"model_type": "phi", **SIZES, "qk_layernorm": True}, "qk_layernorm must be False, not True"),
        (
            {"model_type": "deepseek_v3", **DEEPSEEK, "kv_lora_rank": 0},
            "kv_lora_rank must be a whole number >= 1, not 0",
        ),
        (
            {"model_type": "gemma2", **GROUPED, "layer_types": ["mamba"]},
            "layer_types must be a list of .*, not \\['mamba'\\]",
        ),
        ({"model_type": "falcon", **SIZES, "bias": 3}, "bias must be true or false, not 3"),
        (
            {"model_type": "vit", **SIZES, "image_size": 33, "patch_size": 8},
            "patch_size must divide image_size = 33, not 8",
        ),
    ],
)
def test_refused_in_one_sentence(fields, message):
    with pytest.raises(ConfigError, match=message) as error:
        architecture_from_hf(fields)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff\xfe"])
def test_what_is_no_json_object_is_refused(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"config\.json: must be (JSON, but|a JSON object, not)"):
        read_architecture(tmp_path)
