"""TransformerConfig: a decoder that the reference computes, as read from a Hugging Face style config.json."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, model_validator
from pydantic import ValidationError as Invalid

from systolith_model.architecture import Architecture

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


class TransformerConfig(Architecture):
    """A decoder of the Llama family: RMSNorm, rotary positions, grouped-query attention, SwiGLU.

    Of an `Architecture` it sets the sizes; whatever would leave the family must keep its default.
    """

    head_dim: Annotated[int, Field(ge=2, multiple_of=2)]
    """Width of one head; even, because rotary positions turn pairs."""
    norm_eps: PositiveFloat = 1e-5
    """Added to the mean square under the root of a norm."""
    rope_theta: PositiveFloat = 10000.0
    """Base of the rotary frequencies."""
    bos_token: NonNegativeInt | None = None
    """Token that starts a text, where the tokenizer has one."""

    @model_validator(mode="after")
    def _is_llama(self) -> Self:
        for name, field in Architecture.model_fields.items():
            value = getattr(self, name)
            if name not in HF_NAMES and value != field.default:
                raise ValueError(f"{name} must be {field.default!r}, not {value!r}")
        return self

    @model_validator(mode="after")
    def _bos_is_a_token(self) -> Self:
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
        return cls.from_hf(read_fields(path), source=str(path))

    def to_hf(self) -> dict[str, object]:
        """The keys of a Llama config.json."""
        ours = self.model_dump()
        return {
            "architectures": ["LlamaForCausalLM"],
            **{key: allowed[0] for key, allowed in ONLY_VALUES.items()},
            **{theirs: ours[name] for name, theirs in HF_NAMES.items()},
        }


def read_fields(path: Path) -> dict[str, object]:
    """The object that a config.json holds.

    Raises
    ------
    ConfigError
        If the file is not JSON, or not an object.
    OSError
        If it cannot be read.
    """
    try:
        fields = json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: must be JSON, but {error}") from None
    if not isinstance(fields, dict):
        raise ConfigError(f"{path}: must be a JSON object, not a {type(fields).__name__}")
    return fields


def sentence(error: Invalid, names: Mapping[str, str] = HF_NAMES) -> str:
    """The first complaint of a validation as ``field: what is allowed, not the value``.

    ``names`` gives the key of the file for our field.
    """
    first = error.errors()[0]
    field = ".".join(names.get(str(part), str(part)) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return message
    if first["type"] == "missing":
        return f"{field}: {message.lower()}"
    return f"{field}: {message}, not {first['input']!r}"
