"""TransformerConfig: the shape of a decoder, as read from a Hugging Face style config.json."""

import json
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from pydantic import ValidationError as Invalid

HF_NAMES = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "intermediate_size": "intermediate_size",
    "norm_eps": "rms_norm_eps",
    "rope_theta": "rope_theta",
    "max_positions": "max_position_embeddings",
    "tied_embeddings": "tie_word_embeddings",
    "bos_token": "bos_token_id",
}
"""Our field -> the key of a Llama config.json."""

# What a Llama config.json may ask for and this decoder does not compute; only these values are right.
ONLY_VALUES = {
    "model_type": ("llama",),
    "hidden_act": ("silu",),
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "rope_scaling": (None,),
}


class ConfigError(ValueError):
    """A config that is no decoder here; one sentence with file, field, value and what is allowed."""


class TransformerConfig(BaseModel):
    """A decoder of the Llama family: RMSNorm, rotary positions, grouped-query attention, SwiGLU."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True,
                              allow_inf_nan=False)

    vocab_size: PositiveInt
    """Tokens."""
    hidden_size: PositiveInt
    """Width D of the residual stream."""
    n_layers: PositiveInt
    """Decoder layers."""
    n_heads: PositiveInt
    """Query heads H."""
    n_kv_heads: PositiveInt
    """Key and value heads; divides n_heads."""
    head_dim: Annotated[int, Field(ge=2, multiple_of=2)]
    """Width of one head; even, because rotary positions turn pairs."""
    intermediate_size: PositiveInt
    """Width F of the gated MLP."""
    norm_eps: PositiveFloat = 1e-5
    """Added to the mean square under the root of a norm."""
    rope_theta: PositiveFloat = 10000.0
    """Base of the rotary frequencies."""
    max_positions: PositiveInt = 2048
    """Longest sequence."""
    tied_embeddings: bool = False
    """Whether lm_head and the embedding are one matrix."""
    bos_token: NonNegativeInt | None = None
    """Token that starts a text, where the tokenizer has one."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_kv_heads must divide n_heads = {self.n_heads}, not {self.n_kv_heads}")
        if self.bos_token is not None and self.bos_token >= self.vocab_size:
            raise ValueError(f"bos_token must be below vocab_size = {self.vocab_size}, not {self.bos_token}")
        return self

    @classmethod
    def from_hf(cls, fields: dict[str, object], *, source: str = "config") -> Self:
        """From the keys of a Llama config.json; keys that do not change what is computed are passed over.

        Raises
        ------
        ConfigError
            In one sentence that starts with ``source``.
        """
        for key, allowed in ONLY_VALUES.items():
            if fields.get(key, allowed[0]) not in allowed:
                raise ConfigError(f"{source}: {key} must be {allowed[0]!r}, not {fields[key]!r}")
        known = {ours: fields[theirs] for ours, theirs in HF_NAMES.items() if theirs in fields}
        rope = fields.get("rope_parameters")  # where transformers 5 writes it
        if isinstance(rope, dict):
            if rope.get("rope_type", "default") != "default":
                raise ConfigError(f"{source}: rope_type must be 'default', not {rope['rope_type']!r}")
            known.setdefault("rope_theta", rope.get("rope_theta", 10000.0))
        heads, width = known.get("n_heads"), known.get("hidden_size")
        known.setdefault("n_kv_heads", heads)
        if isinstance(heads, int) and isinstance(width, int) and heads > 0 and known.get("head_dim") is None:
            known["head_dim"] = width // heads
        try:
            return cls.model_validate(known)
        except Invalid as error:
            raise ConfigError(f"{source}: {sentence(error)}") from None

    @classmethod
    def read(cls, path: Path) -> Self:
        """From a config.json.

        Raises
        ------
        ConfigError
            If the file is not JSON, not an object, or not a decoder.
        OSError
            If it cannot be read.
        """
        try:
            fields = json.loads(path.read_bytes())
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ConfigError(f"{path}: must be JSON, but {error}") from None
        if not isinstance(fields, dict):
            raise ConfigError(f"{path}: must be a JSON object, not a {type(fields).__name__}")
        return cls.from_hf(fields, source=str(path))

    def to_hf(self) -> dict[str, object]:
        """The keys of a Llama config.json."""
        ours = self.model_dump()
        return {
            "architectures": ["LlamaForCausalLM"],
            **{key: allowed[0] for key, allowed in ONLY_VALUES.items()},
            **{theirs: ours[name] for name, theirs in HF_NAMES.items()},
        }


def sentence(error: Invalid) -> str:
    """The first complaint of a validation as ``field: what is allowed, not the value``."""
    first = error.errors()[0]
    field = ".".join(HF_NAMES.get(str(part), str(part)) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return message
    if first["type"] == "missing":
        return f"{field}: {message.lower()}"
    return f"{field}: {message}, not {first['input']!r}"


def parameter_count(config: TransformerConfig) -> int:
    """Weights of the whole decoder, a tied matrix counted once."""
    d, f, size = config.hidden_size, config.intermediate_size, config.head_dim
    attention = d * size * (config.n_heads + 2 * config.n_kv_heads) + config.n_heads * size * d
    layer = attention + 3 * d * f + 2 * d
    embeddings = config.vocab_size * d * (1 if config.tied_embeddings else 2)
    return config.n_layers * layer + embeddings + d
