"""TransformerConfig: what it reads, what it refuses, and the parameters it counts."""

import json
from typing import Any

import pytest
from pydantic import ValidationError
from transformers import LlamaConfig

from systolith_model.config import ConfigError, TransformerConfig
from systolith_model.parameters import parameter_count
from systolith_model.reference.decoder import Decoder

FIELDS: dict[str, object] = {
    "vocab_size": 61,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "intermediate_size": 29,
}


@pytest.mark.parametrize("changes", [{}, {"rope_theta": 5000.0}, {"tie_word_embeddings": True}])
def test_round_trip(changes):
    config = TransformerConfig.from_hf(FIELDS | changes)
    assert TransformerConfig.from_hf(config.to_hf()) == config


def test_reads_what_transformers_writes(tmp_path):
    fields: dict[str, Any] = FIELDS | {"rope_theta": 777.0, "tie_word_embeddings": True}
    LlamaConfig(**fields).save_pretrained(tmp_path)
    config = TransformerConfig.read(tmp_path / "config.json")
    assert (config.rope_theta, config.tied_embeddings, config.n_kv_heads) == (777.0, True, 2)


def test_defaults_of_older_files():
    config = TransformerConfig.from_hf(
        {k: v for k, v in FIELDS.items() if k not in ("num_key_value_heads", "head_dim")}
    )
    assert (config.n_kv_heads, config.head_dim) == (6, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 0}, "config: vocab_size: Input should be greater than 0, not 0"),
        ({"hidden_size": "24"}, "hidden_size: Input should be a valid integer, not '24'"),
        ({"num_key_value_heads": 4}, "n_kv_heads must divide n_heads = 6, not 4"),
        ({"head_dim": 5}, "head_dim: Input should be a multiple of 2, not 5"),
        ({"rms_norm_eps": 0.0}, "rms_norm_eps: Input should be greater than 0, not 0.0"),
        ({"hidden_act": "gelu"}, "hidden_act must be 'silu', not 'gelu'"),
        ({"model_type": "gpt2"}, "model_type must be 'llama', not 'gpt2'"),
        ({"rope_scaling": {"type": "linear"}}, "rope_scaling must be None, not {'type': 'linear'}"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_type must be 'default', not 'yarn'"),
        ({"bos_token_id": 61}, "bos_token must be below vocab_size = 61, not 61"),
    ],
)
def test_refused_in_one_sentence(changes, message):
    with pytest.raises(ConfigError) as error:
        TransformerConfig.from_hf(FIELDS | changes)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_field_is_named_as_in_the_file():
    with pytest.raises(ConfigError, match=r"^config: intermediate_size: field required$"):
        TransformerConfig.from_hf({k: v for k, v in FIELDS.items() if k != "intermediate_size"})


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000, json.dumps(3).encode()])
def test_what_is_no_json_object_is_refused(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"config\.json: must be (JSON, but|a JSON object, not)"):
        TransformerConfig.read(path)


@pytest.mark.parametrize("tied", [False, True])
def test_parameters_are_those_of_the_module(tied):
    config = TransformerConfig.from_hf(FIELDS | {"tie_word_embeddings": tied})
    assert parameter_count(config) == sum(weight.numel() for weight in Decoder(config).parameters())


def test_what_leaves_the_family_is_refused():
    config = TransformerConfig.from_hf(FIELDS)
    with pytest.raises(ValidationError, match="activation must be 'silu', not 'gelu'"):
        TransformerConfig.model_validate(config.model_dump() | {"activation": "gelu"})
