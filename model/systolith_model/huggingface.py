"""Architectures from a Hugging Face config.json, by family.

A family is a table: our field and the key of the file, the values that the family fixes, and the defaults of
keys that a file may leave out, which are those of the family's configuration class in transformers 5.
"""

from pathlib import Path

from pydantic import ValidationError as Invalid

from systolith_model.architecture import Architecture
from systolith_model.config import ConfigError, read_fields, sentence
from systolith_model.families import FAMILIES, NESTED
from systolith_model.family_rules import Fields, Known

ACTIVATIONS = {
    "silu": "silu", "swish": "silu", "relu": "relu", "gelu": "gelu", "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh",
}  # fmt: skip
"""Name in a file -> ours."""


def read_architecture(path: Path) -> Architecture:
    """From a config.json, or the folder that holds one.

    Raises
    ------
    ConfigError
        If the file is not JSON, not an object, or of no family here.
    OSError
        If it cannot be read.
    """
    file = path / "config.json" if path.is_dir() else path
    return architecture_from_hf(read_fields(file), source=str(file))


def architecture_from_hf(fields: Fields, *, source: str = "config") -> Architecture:
    """From the keys of a config.json; keys that do not change sizes are passed over.

    Raises
    ------
    ConfigError
        In one sentence that starts with ``source`` and names field, value and what is allowed.
    """
    model_type = fields.get("model_type")
    text = fields.get("text_config")
    if isinstance(model_type, str) and model_type in NESTED and isinstance(text, dict):
        return architecture_from_hf({**text, "model_type": NESTED[model_type]}, source=source)
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        allowed = ", ".join(sorted({*FAMILIES, *NESTED}))
        raise ConfigError(f"{source}: model_type must be one of {allowed}, not {model_type!r}")
    family = FAMILIES[model_type]
    names = {ours: _key(fields, keys) for ours, keys in family.names.items()}
    known: Known = dict(family.fixed)
    for ours, key in names.items():
        if (value := fields.get(key, family.defaults.get(ours))) is not None:
            known[ours] = value
    try:
        _name_activation(known, names)
        _complete(known)
        family.adjust(fields, known)
        return Architecture.model_validate(known)
    except Invalid as error:
        raise ConfigError(f"{source}: {sentence(error, names)}") from None
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None


def _key(fields: Fields, keys: str | tuple[str, ...]) -> str:
    """Of the keys that may hold a field, the one that the file has."""
    if isinstance(keys, str):
        return keys
    return next((key for key in keys if key in fields), keys[0])


def _name_activation(known: Known, names: dict[str, str]) -> None:
    given = known.get("activation", "silu")
    if not isinstance(given, str) or given not in ACTIVATIONS:
        allowed = ", ".join(ACTIVATIONS)
        raise ConfigError(f"{names['activation']} must be one of {allowed}, not {given!r}")
    known["activation"] = ACTIVATIONS[given]


def _complete(known: Known) -> None:
    """What every family derives alike where the file leaves it out."""
    heads, width = known.get("n_heads"), known.get("hidden_size")
    known.setdefault("n_kv_heads", heads)
    if isinstance(heads, int) and isinstance(width, int) and heads > 0:
        known.setdefault("head_dim", width // heads)
