"""Checkpoints: written and read back, read by transformers, and refused in one sentence when damaged."""

import json
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from systolith_model import checkpoint
from systolith_model.checkpoint import CheckpointError
from systolith_model.config import TransformerConfig
from systolith_model.reference.decoder import Decoder
from systolith_model.text import byte_tokenizer

CONFIG = TransformerConfig(
    vocab_size=256, hidden_size=12, n_layers=2, n_heads=2, n_kv_heads=1, head_dim=6, intermediate_size=10,
    max_positions=32,
)  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(1)
    checkpoint.save(tmp_path, Decoder(CONFIG), byte_tokenizer())
    return tmp_path


def rewrite(folder, change):
    """Apply a change to the tensors of a folder and write them back."""
    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_what_is_saved_is_loaded(tmp_path, tied, dtype):
    torch.manual_seed(2)
    model = Decoder(CONFIG.model_copy(update={"tied_embeddings": tied}))
    checkpoint.save(tmp_path, model, byte_tokenizer(), dtype=dtype)
    loaded = checkpoint.load(tmp_path)
    assert loaded.config == model.config
    assert loaded.model.state_dict().keys() == model.state_dict().keys()
    for name, weight in loaded.model.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name].to(dtype).to(torch.float32)), name
    assert (loaded.model.lm_head.weight is loaded.model.model.embed_tokens.weight) == tied


@pytest.mark.parametrize("tied", [False, True])
def test_transformers_reads_the_folder(tmp_path, tied):
    torch.manual_seed(3)
    model = Decoder(CONFIG.model_copy(update={"tied_embeddings": tied})).requires_grad_(False)
    checkpoint.save(tmp_path, model, byte_tokenizer())
    llama = LlamaForCausalLM.from_pretrained(tmp_path, local_files_only=True)
    tokens = torch.arange(20)[None]
    with torch.no_grad():
        torch.testing.assert_close(llama(tokens).logits, model(tokens), rtol=1e-5, atol=1e-5)


def test_bytes_are_tokens_without_a_tokenizer(folder):
    (folder / "tokenizer.json").unlink()
    loaded = checkpoint.load(folder)
    text = "Fürchte dich nicht\n\x00€"
    assert loaded.encode(text).tolist() == list(text.encode())
    assert loaded.decode(list(text.encode())) == text


def test_text_starts_with_its_token(tmp_path):
    model = Decoder(CONFIG.model_copy(update={"bos_token": 7}))
    checkpoint.save(tmp_path, model, byte_tokenizer())
    assert checkpoint.load(tmp_path).encode("A").tolist() == [7, 65]


def test_truncation_at_any_place_is_refused(folder):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for length in [0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(
            CheckpointError, match=r"model\.safetensors: must be a whole safetensors file, but"
        ):
            checkpoint.load(folder)


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 2**63) + b"{}",  # a header longer than memory
        struct.pack("<Q", 2) + b"{}",  # no tensors
        struct.pack("<Q", 3) + b"[1]",
        struct.pack("<Q", 4) + b"\x80\x04K\x01",  # a pickle
        b"PK\x03\x04" + bytes(60),
    ],
)
def test_hostile_weights_are_refused(folder, content):
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors: must (be a whole safetensors|hold tensor)"
    ):
        checkpoint.load(folder)


Q = "model.layers.1.self_attn.q_proj.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop(Q), rf"must hold tensor {Q} of shape \(12, 12\), which is missing"),
        (
            lambda w: w.update({Q: torch.zeros(12, 13)}),
            rf"tensor {Q} must have shape \(12, 12\), not \(12, 13\)",
        ),
        (lambda w: w.update({Q: torch.zeros(12, 12).int()}), rf"tensor {Q} must be F32, F16, BF16, not I32"),
        (
            lambda w: w.update({Q: torch.full((12, 12), torch.nan)}),
            rf"tensor {Q} must be finite, but holds NaN",
        ),
        (lambda w: w.update({"stray": torch.zeros(1)}), "must hold only the config's tensors, not stray"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(folder, change, message):
    rewrite(folder, change)
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("num_hidden_layers", 10**9, r"must hold tensor model\.layers\.2\.input_layernorm"),
        ("num_hidden_layers", 1, r"must hold only the config's tensors, not model\.layers\.1\."),
        (
            "intermediate_size",
            10**12,
            r"gate_proj\.weight must have shape \(1000000000000, 12\), not \(10, 12\)",
        ),
        ("vocab_size", 200, r"token ids must be below 200 \(vocab_size\), not 255"),
        ("hidden_size", -1, "hidden_size: Input should be greater than 0, not -1"),
    ],
)
def test_config_that_does_not_fit_is_refused_before_memory_is_spent(folder, field, value, message):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(ValueError, match=message) as error:
        checkpoint.load(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"must hold a file {name}, which is missing"):
        checkpoint.load(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"model": 3}'])
def test_malformed_tokenizer_is_refused(folder, content):
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: must be a tokenizer, but"):
        checkpoint.load(folder)


def test_missing_tokenizer_of_a_larger_vocabulary_is_refused(tmp_path):
    checkpoint.save(tmp_path, Decoder(CONFIG.model_copy(update={"vocab_size": 300})), byte_tokenizer())
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"must hold tokenizer\.json unless vocab_size is 256, not 300"):
        checkpoint.load(tmp_path)


def test_weight_too_large_for_its_format_is_not_saved(tmp_path):
    model = Decoder(CONFIG)
    with torch.no_grad():
        model.model.norm.weight[3] = 1e6
    with pytest.raises(ValueError, match=r"weights of model\.norm\.weight must be finite in torch\.float16"):
        checkpoint.save(tmp_path / "new", model, byte_tokenizer(), dtype=torch.float16)
    assert not (tmp_path / "new").exists()
