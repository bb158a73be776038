"""The families that a config.json may be of: keys, fixed values, defaults, and what a table cannot say."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from systolith_model.config import HF_NAMES, ConfigError

Fields = Mapping[str, object]
Known = dict[str, object]


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


def whole(fields: Fields, key: str, default: int | None = None, *, least: int = 0) -> int:
    """A whole number of the file."""
    value = fields.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{key} must be a whole number >= {least}, not {value!r}")
    return value


def flag(fields: Fields, key: str, default: bool) -> bool:
    """A truth value of the file."""
    value = fields.get(key, default)
    if not isinstance(value, bool):
        raise ConfigError(f"{key} must be true or false, not {value!r}")
    return value


def only(fields: Fields, key: str, *allowed: object) -> None:
    """Refuse a file that asks for what is not described here."""
    if (value := fields.get(key, allowed[0])) not in allowed:
        raise ConfigError(f"{key} must be {' or '.join(map(repr, allowed))}, not {value!r}")


def share(fields: Fields, known: Known, default: float, *older: str) -> None:
    """Share of a head that rotary positions turn, from where each generation of files keeps it."""
    rope = fields.get("rope_parameters")
    places = [rope if isinstance(rope, dict) else {}, fields]
    for place in places:
        for key in ("partial_rotary_factor", *older):
            if key in place:
                known["rotary_share"] = place[key]
                return
    known["rotary_share"] = default


WINDOWED = ("sliding_attention", "chunked_attention")


def windows(fields: Fields, known: Known, default: tuple[bool, ...] = (True,)) -> None:
    """Which layers have the window: ``layer_types`` where the file has it."""
    if known.get("window") in (None, 0):
        known.pop("window", None)
        return
    kinds = fields.get("layer_types")
    if kinds is None:
        known["windowed"] = default
        return
    if not isinstance(kinds, list) or not kinds or any(kind not in (*WINDOWED, "full_attention") for kind in kinds):
        allowed = ", ".join((*WINDOWED, "full_attention"))
        raise ConfigError(f"layer_types must be a list of {allowed}, not {kinds!r}")
    known["windowed"] = tuple(kind in WINDOWED for kind in kinds)


LLAMA = Family(
    names={
        **{ours: theirs for ours, theirs in HF_NAMES.items() if ours not in ("norm_eps", "rope_theta", "bos_token")},
        "activation": ("hidden_act", "hidden_activation"),
        "bias_qkv": "attention_bias",
        "bias_out": "attention_bias",
        "bias_mlp": "mlp_bias",
        "window": "sliding_window",
    },
    adjust=lambda fields, known: windows(fields, known),
)
"""RMSNorm, rotary positions, gated MLP; most later families differ by a few fields."""


def _qwen2(fields: Fields, known: Known) -> None:
    if not flag(fields, "use_sliding_window", False):
        known.pop("window", None)
        return
    layers = whole(fields, "num_hidden_layers", least=1)
    full = min(whole(fields, "max_window_layers", 28), layers)
    windows(fields, known, (False,) * full + (True,) * (layers - full))


def _qwen_moe(fields: Fields, known: Known) -> None:
    _qwen2(fields, known)
    only(fields, "mlp_only_layers", [], None)
    count_key = "num_experts" if "num_experts" in fields else "num_local_experts"
    shared = fields.get("model_type") == "qwen2_moe"
    known["experts"] = {
        "n_experts": whole(fields, count_key, 60 if shared else 128, least=2),
        "top_k": whole(fields, "num_experts_per_tok", 4 if shared else 8, least=1),
        "intermediate_size": whole(fields, "moe_intermediate_size", 1408 if shared else 768, least=1),
        "shared_size": whole(fields, "shared_expert_intermediate_size", 5632) if shared else 0,
        "shared_gate": shared,
        "every": whole(fields, "decoder_sparse_step", 1, least=1),
    }


def _mixtral(fields: Fields, known: Known) -> None:
    windows(fields, known)
    known["experts"] = {
        "n_experts": whole(fields, "num_local_experts", 8, least=2),
        "top_k": whole(fields, "num_experts_per_tok", 2, least=1),
        "intermediate_size": known.get("intermediate_size"),
    }


def _gpt_oss(fields: Fields, known: Known) -> None:
    windows(fields, known, (True, False))
    known["experts"] = {
        "n_experts": whole(fields, "num_local_experts", 128, least=2),
        "top_k": whole(fields, "num_experts_per_tok", 4, least=1),
        "intermediate_size": known.get("intermediate_size"),
        "bias": True,
        "router_bias": True,
    }


def _llama4(fields: Fields, known: Known) -> None:
    windows(fields, known, (True, True, True, False))
    width = whole(fields, "intermediate_size", 8192, least=1)
    known["intermediate_size"] = whole(fields, "intermediate_size_mlp", 16384, least=1)
    known["experts"] = {
        "n_experts": whole(fields, "num_local_experts", 16, least=2),
        "top_k": whole(fields, "num_experts_per_tok", 1, least=1),
        "intermediate_size": width,
        "shared_size": width,
        "every": whole(fields, "interleave_moe_layer_step", 1, least=1),
    }


def _deepseek(fields: Fields, known: Known) -> None:
    for key in ("attention_bias", "mlp_bias"):
        only(fields, key, False)
    only(fields, "moe_layer_freq", 1)
    known["n_kv_heads"] = known.get("n_heads")
    rank = fields.get("q_lora_rank", 1536)
    known["latent"] = {
        "kv_rank": whole(fields, "kv_lora_rank", 512, least=1),
        "q_rank": None if rank is None else whole(fields, "q_lora_rank", 1536, least=1),
        "nope_dim": whole(fields, "qk_nope_head_dim", 128, least=1),
        "rope_dim": whole(fields, "qk_rope_head_dim", 64, least=1),
        "v_dim": whole(fields, "v_head_dim", 128, least=1),
    }
    known["head_dim"] = whole(fields, "v_head_dim", 128, least=1)
    width = whole(fields, "moe_intermediate_size", least=1)
    known["experts"] = {
        "n_experts": whole(fields, "n_routed_experts", least=2),
        "top_k": whole(fields, "num_experts_per_tok", least=1),
        "intermediate_size": width,
        "shared_size": width * whole(fields, "n_shared_experts", 0),
        "first_dense": whole(fields, "first_k_dense_replace", 0),
        "router_bias": fields.get("model_type") != "deepseek_v2",
    }


def _gemma3(fields: Fields, known: Known) -> None:
    every = whole(fields, "sliding_window_pattern", 6, least=1)
    windows(fields, known, (True,) * (every - 1) + (False,))


def _phi(fields: Fields, known: Known) -> None:
    only(fields, "qk_layernorm", False)
    share(fields, known, 0.5)


def _phi3(fields: Fields, known: Known) -> None:
    windows(fields, known)
    share(fields, known, 1.0)


def _falcon(fields: Fields, known: Known) -> None:
    newer = flag(fields, "new_decoder_architecture", False)
    if not newer and flag(fields, "multi_query", True):
        known["n_kv_heads"] = 1
    elif not newer:
        known["n_kv_heads"] = known.get("n_heads")
    known.setdefault("intermediate_size", 4 * whole(fields, "hidden_size", least=1))
    norms = fields.get("num_ln_in_parallel_attn")
    known["parallel"] = newer or flag(fields, "parallel_attn", True)
    known["shared_norm"] = known["parallel"] and (norms == 1 if newer else True)
    bias = flag(fields, "bias", False)
    known.update(bias_qkv=bias, bias_out=bias, bias_mlp=bias)
    if flag(fields, "alibi", False):
        known["position"] = "alibi"


def _gpt_neox(fields: Fields, known: Known) -> None:
    share(fields, known, 0.25, "rotary_pct")
    known["bias_qkv"] = known["bias_out"] = flag(fields, "attention_bias", True)


def _gptj(fields: Fields, known: Known) -> None:
    known.setdefault("intermediate_size", 4 * whole(fields, "n_embd", least=1))
    turned, size = whole(fields, "rotary_dim", 64), known.get("head_dim")
    known["rotary_share"] = turned / size if isinstance(size, int) and size else 1.0


def _gpt2(fields: Fields, known: Known) -> None:
    only(fields, "add_cross_attention", False)
    known.setdefault("intermediate_size", 4 * whole(fields, "n_embd", least=1))
    known["learned_positions"] = known["max_positions"]


def _bloom(fields: Fields, known: Known) -> None:
    width = known.get("hidden_size")
    known["intermediate_size"] = 4 * width if isinstance(width, int) else width


def _opt(fields: Fields, known: Known) -> None:
    known["learned_positions"] = whole(fields, "max_position_embeddings", 2048, least=1) + 2
    bias = flag(fields, "enable_bias", True)
    known.update(bias_qkv=bias, bias_out=bias, bias_mlp=bias)
    only(fields, "layer_norm_elementwise_affine", True)
    before = flag(fields, "do_layer_norm_before", True)
    known["norm_placement"], known["final_norm"] = ("pre", True) if before else ("post", False)
    if known.get("embedding_size") == known.get("hidden_size"):
        known.pop("embedding_size", None)


def _bert(fields: Fields, known: Known) -> None:
    only(fields, "is_decoder", False)
    rows = known["learned_positions"] = known["max_positions"]
    if fields.get("model_type") == "roberta" and isinstance(rows, int):
        known["max_positions"] = rows - 2  # position 0 and 1 are padding's


def _t5(fields: Fields, known: Known) -> None:
    feed = fields.get("feed_forward_proj", "relu")
    allowed = {"relu": ("relu", False), "gated-gelu": ("gelu_tanh", True), "gated-silu": ("silu", True)}
    if not isinstance(feed, str) or feed not in allowed:
        raise ConfigError(f"feed_forward_proj must be one of {', '.join(allowed)}, not {feed!r}")
    known["activation"], known["gated"] = allowed[feed]
    known.setdefault("n_layers", known.get("n_encoder_layers"))


def _bart(fields: Fields, known: Known) -> None:
    for key in ("ffn_dim", "attention_heads"):
        only(fields, f"decoder_{key}", fields.get(f"encoder_{key}"))
    known["learned_positions"] = whole(fields, "max_position_embeddings", 1024, least=1) + 2


def _vit(fields: Fields, known: Known) -> None:
    labels = fields.get("id2label")
    known["vocab_size"] = len(labels) if isinstance(labels, dict) else whole(fields, "num_labels", 2, least=1)
    image, patch = whole(fields, "image_size", 224, least=1), whole(fields, "patch_size", 16, least=1)
    known["patches"] = {
        "image_size": image,
        "patch_size": patch,
        "channels": whole(fields, "num_channels", 3, least=1),
    }
    known["learned_positions"] = known["max_positions"] = (image // patch) ** 2 + 1
    known["bias_qkv"] = flag(fields, "qkv_bias", True)


def _named(names: Mapping[str, str | tuple[str, ...]], without: tuple[str, ...] = ()) -> dict[str, str | tuple[str, ...]]:
    return {ours: key for ours, key in {**LLAMA.names, **names}.items() if ours not in without}


_BIASES = ("bias_qkv", "bias_out", "bias_mlp", "window")
_PLAIN: Known = {"norm": "layernorm", "gated": False, "bias_qkv": True, "bias_out": True, "bias_mlp": True}
"""The manner of GPT-2 and BERT: layernorms, two matrices, biases everywhere."""

QWEN2 = replace(LLAMA, names=_named({}, _BIASES[:3]), fixed={"bias_qkv": True}, adjust=_qwen2)
QWEN3 = replace(LLAMA, fixed={"qk_norm": True}, defaults={"head_dim": 128}, adjust=_qwen2)
GEMMA = replace(LLAMA, defaults={"head_dim": 256, "tied_embeddings": True, "activation": "gelu_pytorch_tanh"})
GEMMA3 = replace(
    GEMMA,
    fixed={"norm_placement": "sandwich", "qk_norm": True},
    defaults={
        **GEMMA.defaults, "vocab_size": 262208, "n_heads": 8, "n_kv_heads": 4, "max_positions": 131072, "window": 4096,
    },
    adjust=_gemma3,
)  # fmt: skip
DEEPSEEK = replace(LLAMA, names=_named({}, _BIASES), adjust=_deepseek)
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
    adjust=_bert,
)  # fmt: skip

FAMILIES: Mapping[str, Family] = {
    "llama": LLAMA,
    "mistral": replace(LLAMA, defaults={"window": 4096, "n_kv_heads": 8}),
    "mixtral": replace(LLAMA, defaults={"n_kv_heads": 8}, adjust=_mixtral),
    "qwen2": QWEN2,
    "qwen2_moe": replace(QWEN2, names=_named({"bias_qkv": "qkv_bias"}, _BIASES[1:3]), fixed={},
                         defaults={"bias_qkv": True}, adjust=_qwen_moe),
    "qwen3": QWEN3,
    "qwen3_moe": replace(QWEN3, defaults={"n_kv_heads": 4}, adjust=_qwen_moe),
    "gpt_oss": replace(
        LLAMA, fixed={"sinks": True, "bias_qkv": True, "bias_out": True},
        names=_named({}, _BIASES[:3]), defaults={"head_dim": 64, "n_kv_heads": 8, "window": 128}, adjust=_gpt_oss,
    ),
    "llama4_text": replace(LLAMA, names=_named({"window": "attention_chunk_size"}), adjust=_llama4,
                           defaults={"head_dim": 128, "n_kv_heads": 8, "window": 8192, "max_positions": 131072}),
    "deepseek_v2": DEEPSEEK,
    "deepseek_v3": DEEPSEEK,
    "kimi_k2": DEEPSEEK,
    "gemma": GEMMA,
    "gemma2": replace(
        GEMMA, fixed={"norm_placement": "sandwich"}, defaults={**GEMMA.defaults, "window": 4096},
        adjust=lambda fields, known: windows(fields, known, (True, False)),
    ),
    "gemma3_text": GEMMA3,
    "phi": Family(
        names=_named({}, _BIASES), adjust=_phi, defaults={"activation": "gelu_new"},
        fixed={**_PLAIN, "parallel": True, "shared_norm": True, "bias_head": True},
    ),
    "phi3": replace(LLAMA, names=_named({}, _BIASES[:3]), adjust=_phi3),
    "falcon": Family(
        names=_named({"n_kv_heads": "num_kv_heads", "intermediate_size": "ffn_hidden_size",
                      "activation": "activation"}, _BIASES),
        fixed={"norm": "layernorm", "gated": False}, adjust=_falcon,
        defaults={"activation": "gelu", "tied_embeddings": True},
    ),
    "bloom": Family(
        names={"vocab_size": "vocab_size", "hidden_size": ("hidden_size", "n_embed"), "activation": "hidden_act",
               "n_layers": ("n_layer", "num_hidden_layers"), "n_heads": ("n_head", "num_attention_heads"),
               "max_positions": "seq_length", "tied_embeddings": "tie_word_embeddings"},
        fixed={**_PLAIN, "position": "alibi", "embedding_norm": True}, adjust=_bloom,
        defaults={"activation": "gelu_new", "tied_embeddings": True},
    ),
    "gpt_neox": Family(
        names=_named({"parallel": "use_parallel_residual"}, _BIASES), fixed=_PLAIN, adjust=_gpt_neox,
        defaults={"activation": "gelu", "parallel": True},
    ),
    "gptj": Family(
        names=_named(GPT2_NAMES, (*_BIASES, "n_kv_heads", "head_dim")), adjust=_gptj,
        fixed={**_PLAIN, "bias_qkv": False, "bias_out": False, "bias_head": True, "parallel": True,
               "shared_norm": True},
        defaults={"activation": "gelu_new"},
    ),
    "gpt2": Family(
        names=_named(GPT2_NAMES, (*_BIASES, "n_kv_heads", "head_dim")), adjust=_gpt2,
        fixed={**_PLAIN, "position": "learned"},
        defaults={"activation": "gelu_new", "tied_embeddings": True, "max_positions": 1024},
    ),
    "opt": Family(
        names=_named({"intermediate_size": "ffn_dim", "embedding_size": "word_embed_proj_dim",
                      "activation": "activation_function"}, (*_BIASES, "n_kv_heads", "head_dim")),
        fixed={**_PLAIN, "position": "learned"}, adjust=_opt,
        defaults={"activation": "relu", "tied_embeddings": True},
    ),
    "bert": BERT,
    "roberta": BERT,
    "t5": Family(
        names={"vocab_size": "vocab_size", "hidden_size": "d_model", "head_dim": "d_kv", "n_heads": "num_heads",
               "intermediate_size": "d_ff", "n_encoder_layers": "num_layers", "n_layers": "num_decoder_layers",
               "relative_buckets": "relative_attention_num_buckets", "tied_embeddings": "tie_word_embeddings",
               "max_positions": "n_positions", "activation": "dense_act_fn"},
        fixed={"kind": "encoder_decoder", "position": "relative"}, adjust=_t5,
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
        defaults={"activation": "gelu", "tied_embeddings": True, "max_positions": 1024}, adjust=_bart,
    ),
    "vit": Family(
        names=_named({}, (*_BIASES, "vocab_size", "max_positions", "n_kv_heads", "head_dim", "tied_embeddings")),
        fixed={**_PLAIN, "kind": "encoder", "position": "learned", "bias_head": True}, adjust=_vit,
        defaults={"activation": "gelu"},
    ),
}  # fmt: skip
"""model_type -> family."""

NESTED = {"gemma3": "gemma3_text", "llama4": "llama4_text"}
"""model_type of a file whose language model stands under ``text_config`` -> the family of that."""
