"""What the table of a family cannot say: each rule completes the fields of an Architecture, or refuses a file."""

from collections.abc import Mapping

from systolith_model.config import ConfigError

Fields = Mapping[str, object]
"""A config.json."""
Known = dict[str, object]
"""Fields of an Architecture so far."""


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
    if len(kinds) != known.get("n_layers"):
        raise ConfigError(f"layer_types must have {known.get('n_layers')} entries, one a layer, not {len(kinds)}")
    known["windowed"] = tuple(kind in WINDOWED for kind in kinds)


def qwen2(fields: Fields, known: Known) -> None:
    """A window in the later layers, where it is switched on."""
    if not flag(fields, "use_sliding_window", False):
        known.pop("window", None)
        return
    layers = whole(fields, "num_hidden_layers", least=1)
    full = min(whole(fields, "max_window_layers", 28), layers)
    windows(fields, known, (False,) * full + (True,) * (layers - full))


def qwen_moe(fields: Fields, known: Known) -> None:
    """Qwen2-MoE and Qwen3-MoE."""
    qwen2(fields, known)
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


def mixtral(fields: Fields, known: Known) -> None:
    """Experts as wide as a dense MLP."""
    windows(fields, known)
    known["experts"] = {
        "n_experts": whole(fields, "num_local_experts", 8, least=2),
        "top_k": whole(fields, "num_experts_per_tok", 2, least=1),
        "intermediate_size": known.get("intermediate_size"),
    }


def gpt_oss(fields: Fields, known: Known) -> None:
    """Experts and router with biases, every other layer windowed."""
    windows(fields, known, (True, False))
    known["experts"] = {
        "n_experts": whole(fields, "num_local_experts", 128, least=2),
        "top_k": whole(fields, "num_experts_per_tok", 4, least=1),
        "intermediate_size": known.get("intermediate_size"),
        "bias": True,
        "router_bias": True,
    }


def llama4(fields: Fields, known: Known) -> None:
    """One shared expert; chunks of attention count as windows."""
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


def deepseek(fields: Fields, known: Known) -> None:
    """Latent attention, first layers dense."""
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


def gemma3(fields: Fields, known: Known) -> None:
    """Several windowed layers, then one that sees all."""
    every = whole(fields, "sliding_window_pattern", 6, least=1)
    windows(fields, known, (True,) * (every - 1) + (False,))


def phi(fields: Fields, known: Known) -> None:
    """Rotary positions on a share of a head."""
    only(fields, "qk_layernorm", False)
    share(fields, known, 0.5)


def phi3(fields: Fields, known: Known) -> None:
    """A window, and rotary positions on a share of a head."""
    windows(fields, known)
    share(fields, known, 1.0)


def falcon(fields: Fields, known: Known) -> None:
    """Three generations under one name."""
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


def gpt_neox(fields: Fields, known: Known) -> None:
    """Biases, and rotary positions on a share of a head."""
    share(fields, known, 0.25, "rotary_pct")
    known["bias_qkv"] = known["bias_out"] = flag(fields, "attention_bias", True)


def gptj(fields: Fields, known: Known) -> None:
    """Rotary positions on a share of a head."""
    known.setdefault("intermediate_size", 4 * whole(fields, "n_embd", least=1))
    turned, size = whole(fields, "rotary_dim", 64), known.get("head_dim")
    known["rotary_share"] = turned / size if isinstance(size, int) and size else 1.0


def gpt2(fields: Fields, known: Known) -> None:
    """Learned positions."""
    only(fields, "add_cross_attention", False)
    known.setdefault("intermediate_size", 4 * whole(fields, "n_embd", least=1))
    known["learned_positions"] = known["max_positions"] = whole(fields, "n_positions", 1024, least=1)


def bloom(fields: Fields, known: Known) -> None:
    """An MLP of four times the width."""
    width = known.get("hidden_size")
    known["intermediate_size"] = 4 * width if isinstance(width, int) else width


def opt(fields: Fields, known: Known) -> None:
    """Learned positions behind two rows; one model projects its embeddings."""
    known["learned_positions"] = whole(fields, "max_position_embeddings", 2048, least=1) + 2
    bias = flag(fields, "enable_bias", True)
    known.update(bias_qkv=bias, bias_out=bias, bias_mlp=bias)
    only(fields, "layer_norm_elementwise_affine", True)
    before = flag(fields, "do_layer_norm_before", True)
    known["norm_placement"], known["final_norm"] = ("pre", True) if before else ("post", False)
    if known.get("embedding_size") == known.get("hidden_size"):
        known.pop("embedding_size", None)


def bert(fields: Fields, known: Known) -> None:
    """Learned positions, of which two of RoBERTa stand for padding."""
    only(fields, "is_decoder", False)
    rows = whole(fields, "max_position_embeddings", 512, least=3)
    known["learned_positions"] = rows
    known["max_positions"] = rows - 2 if fields.get("model_type") == "roberta" else rows  # two stand for padding


def t5(fields: Fields, known: Known) -> None:
    """The MLP by its name."""
    feed = fields.get("feed_forward_proj", "relu")
    allowed = {"relu": ("relu", False), "gated-gelu": ("gelu_tanh", True), "gated-silu": ("silu", True)}
    if not isinstance(feed, str) or feed not in allowed:
        raise ConfigError(f"feed_forward_proj must be one of {', '.join(allowed)}, not {feed!r}")
    known["activation"], known["gated"] = allowed[feed]
    known.setdefault("n_layers", known.get("n_encoder_layers"))


def bart(fields: Fields, known: Known) -> None:
    """Learned positions behind two rows."""
    for key in ("ffn_dim", "attention_heads"):
        only(fields, f"decoder_{key}", fields.get(f"encoder_{key}"))
    known["learned_positions"] = whole(fields, "max_position_embeddings", 1024, least=1) + 2


def vit(fields: Fields, known: Known) -> None:
    """Patches and classes."""
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
