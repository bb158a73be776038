"""The families that a config.json may be of: keys, fixed values, defaults, and what a table cannot say."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from systolith_model import family_rules as rules
from systolith_model.config import HF_NAMES
from systolith_model.family_rules import Fields, Known


@dataclass(frozen=True, kw_only=True)
class Family:
    """How the keys of a family become the fields of an Architecture."""

    names: Mapping[str, str | tuple[str, ...]]
    """Our field -> the key of the file, or the keys that may hold it, the first as transformers writes it."""
    fixed: Known = field(default_factory=dict)
    """What is so in every model of the family."""
    defaults: Known = field(default_factory=dict)
    """What holds where the file leaves a key out."""
    adjust: Callable[[Fields, Known], None] = lambda fields, known: None
    """Completes the fields; may raise ConfigError."""


LLAMA = Family(
    names={
        **{ours: theirs for ours, theirs in HF_NAMES.items() if ours not in ("norm_eps", "rope_theta", "bos_token")},
        "activation": ("hidden_act", "hidden_activation"),
        "bias_qkv": "attention_bias",
        "bias_out": "attention_bias",
        "bias_mlp": "mlp_bias",
        "window": "sliding_window",
    },
    adjust=rules.windows,
)
"""RMSNorm, rotary positions, gated MLP; most later families differ by a few fields."""


Names = Mapping[str, str | tuple[str, ...]]


def _named(names: Names, without: tuple[str, ...] = ()) -> Names:
    return {ours: key for ours, key in {**LLAMA.names, **names}.items() if ours not in without}


_BIASES = ("bias_qkv", "bias_out", "bias_mlp", "window")
_PLAIN: Known = {"norm": "layernorm", "gated": False, "bias_qkv": True, "bias_out": True, "bias_mlp": True}
"""The manner of GPT-2 and BERT: layernorms, two matrices, biases everywhere."""

QWEN2 = replace(LLAMA, names=_named({}, _BIASES[:3]), fixed={"bias_qkv": True}, adjust=rules.qwen2)
QWEN3 = replace(LLAMA, fixed={"qk_norm": True}, defaults={"head_dim": 128}, adjust=rules.qwen2)
GEMMA = replace(LLAMA, defaults={"head_dim": 256, "tied_embeddings": True, "activation": "gelu_pytorch_tanh"})
GEMMA3 = replace(
    GEMMA,
    fixed={"norm_placement": "sandwich", "qk_norm": True},
    defaults={
        **GEMMA.defaults, "vocab_size": 262208, "n_heads": 8, "n_kv_heads": 4, "max_positions": 131072, "window": 4096,
    },
    adjust=rules.gemma3,
)  # fmt: skip
DEEPSEEK = replace(LLAMA, names=_named({}, _BIASES), adjust=rules.deepseek)
GPT2_NAMES = {
    "hidden_size": "n_embd", "n_layers": "n_layer", "n_heads": "n_head", "intermediate_size": "n_inner",
    "max_positions": "n_positions", "activation": "activation_function",
}  # fmt: skip
BERT = Family(
    names=_named({"token_types": "type_vocab_size"}, (*_BIASES, "tied_embeddings", "n_kv_heads", "head_dim")),
    fixed={
        **_PLAIN, "kind": "encoder", "norm_placement": "post", "final_norm": False, "embedding_norm": True,
        "position": "learned", "pooler": True, "head": False, "tied_embeddings": True,
    },
    defaults={"token_types": 2, "activation": "gelu", "max_positions": 512},
    adjust=rules.bert,
)  # fmt: skip

FAMILIES: Mapping[str, Family] = {
    "llama": LLAMA,
    "mistral": replace(LLAMA, defaults={"window": 4096, "n_kv_heads": 8}),
    "mixtral": replace(LLAMA, defaults={"n_kv_heads": 8}, adjust=rules.mixtral),
    "qwen2": QWEN2,
    "qwen2_moe": replace(QWEN2, names=_named({"bias_qkv": "qkv_bias"}, _BIASES[1:3]), fixed={},
                         defaults={"bias_qkv": True}, adjust=rules.qwen_moe),
    "qwen3": QWEN3,
    "qwen3_moe": replace(QWEN3, defaults={"n_kv_heads": 4}, adjust=rules.qwen_moe),
    "gpt_oss": replace(
        LLAMA, fixed={"sinks": True, "bias_qkv": True, "bias_out": True},
        names=_named({}, _BIASES[:3]), defaults={"head_dim": 64, "n_kv_heads": 8, "window": 128}, adjust=rules.gpt_oss,
    ),
    "llama4_text": replace(LLAMA, names=_named({"window": "attention_chunk_size"}), adjust=rules.llama4,
                           defaults={"head_dim": 128, "n_kv_heads": 8, "window": 8192, "max_positions": 131072}),
    "deepseek_v2": DEEPSEEK,
    "deepseek_v3": DEEPSEEK,
    "kimi_k2": DEEPSEEK,
    "gemma": GEMMA,
    "gemma2": replace(
        GEMMA, fixed={"norm_placement": "sandwich"}, defaults={**GEMMA.defaults, "window": 4096},
        adjust=lambda fields, known: rules.windows(fields, known, (True, False)),
    ),
    "gemma3_text": GEMMA3,
    "phi": Family(
        names=_named({}, _BIASES), adjust=rules.phi, defaults={"activation": "gelu_new"},
        fixed={**_PLAIN, "parallel": True, "shared_norm": True, "bias_head": True},
    ),
    "phi3": replace(LLAMA, names=_named({}, _BIASES[:3]), adjust=rules.phi3),
    "falcon": Family(
        names=_named({"n_kv_heads": "num_kv_heads", "intermediate_size": "ffn_hidden_size",
                      "activation": "activation"}, _BIASES),
        fixed={"norm": "layernorm", "gated": False}, adjust=rules.falcon,
        defaults={"activation": "gelu", "tied_embeddings": True},
    ),
    "bloom": Family(
        names={"vocab_size": "vocab_size", "hidden_size": ("hidden_size", "n_embed"), "activation": "hidden_act",
               "n_layers": ("n_layer", "num_hidden_layers"), "n_heads": ("n_head", "num_attention_heads"),
               "max_positions": "seq_length", "tied_embeddings": "tie_word_embeddings"},
        fixed={**_PLAIN, "position": "alibi", "embedding_norm": True}, adjust=rules.bloom,
        defaults={"activation": "gelu_new", "tied_embeddings": True},
    ),
    "gpt_neox": Family(
        names=_named({"parallel": "use_parallel_residual"}, _BIASES), fixed=_PLAIN, adjust=rules.gpt_neox,
        defaults={"activation": "gelu", "parallel": True},
    ),
    "gptj": Family(
        names=_named(GPT2_NAMES, (*_BIASES, "n_kv_heads", "head_dim")), adjust=rules.gptj,
        fixed={**_PLAIN, "bias_qkv": False, "bias_out": False, "bias_head": True, "parallel": True,
               "shared_norm": True},
        defaults={"activation": "gelu_new"},
    ),
    "gpt2": Family(
        names=_named(GPT2_NAMES, (*_BIASES, "n_kv_heads", "head_dim")), adjust=rules.gpt2,
        fixed={**_PLAIN, "position": "learned"},
        defaults={"activation": "gelu_new", "tied_embeddings": True, "max_positions": 1024},
    ),
    "opt": Family(
        names=_named({"intermediate_size": "ffn_dim", "embedding_size": "word_embed_proj_dim",
                      "activation": "activation_function"}, (*_BIASES, "n_kv_heads", "head_dim")),
        fixed={**_PLAIN, "position": "learned"}, adjust=rules.opt,
        defaults={"activation": "relu", "tied_embeddings": True},
    ),
    "bert": BERT,
    "roberta": BERT,
    "t5": Family(
        names={"vocab_size": "vocab_size", "hidden_size": "d_model", "head_dim": "d_kv", "n_heads": "num_heads",
               "intermediate_size": "d_ff", "n_encoder_layers": "num_layers", "n_layers": "num_decoder_layers",
               "relative_buckets": "relative_attention_num_buckets", "tied_embeddings": "tie_word_embeddings",
               "max_positions": "n_positions", "activation": "dense_act_fn"},
        fixed={"kind": "encoder_decoder", "position": "relative"}, adjust=rules.t5,
        defaults={"relative_buckets": 32, "tied_embeddings": True, "max_positions": 512, "activation": "relu",
                  "head_dim": 64},
    ),
    "bart": Family(
        names={"vocab_size": "vocab_size", "hidden_size": "d_model", "n_heads": "encoder_attention_heads",
               "intermediate_size": "encoder_ffn_dim", "n_encoder_layers": "encoder_layers",
               "n_layers": "decoder_layers", "tied_embeddings": "tie_word_embeddings",
               "max_positions": "max_position_embeddings", "activation": "activation_function"},
        fixed={**_PLAIN, "kind": "encoder_decoder", "position": "learned", "norm_placement": "post",
               "final_norm": False, "embedding_norm": True},
        defaults={"activation": "gelu", "tied_embeddings": True, "max_positions": 1024}, adjust=rules.bart,
    ),
    "vit": Family(
        names=_named({}, (*_BIASES, "vocab_size", "max_positions", "n_kv_heads", "head_dim", "tied_embeddings")),
        fixed={**_PLAIN, "kind": "encoder", "position": "learned", "bias_head": True}, adjust=rules.vit,
        defaults={"activation": "gelu"},
    ),
}  # fmt: skip
"""model_type -> family."""

NESTED = {"gemma3": "gemma3_text", "llama4": "llama4_text"}
"""model_type of a file whose language model stands under ``text_config`` -> the family of that."""
