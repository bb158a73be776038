"""Checkpoints as Hugging Face style folders: config.json, model.safetensors, tokenizer.json.

Weights come only from safetensors, a format that cannot run code. Everything is checked against the config
before memory is spent on it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer

from systolith_model.config import TransformerConfig
from systolith_model.reference.decoder import Decoder
from systolith_model.text import byte_tokenizer

STORED_FORMATS = ("F32", "F16", "BF16")


class CheckpointError(ValueError):
    """A folder that is no checkpoint; one sentence with file, field, value and what is allowed."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained decoder in float32, ready to run, and the tokenizer of its texts."""

    config: TransformerConfig
    model: Decoder
    tokenizer: Tokenizer

    def encode(self, text: str) -> torch.Tensor:
        """Tokens (T,) int64 of a text, with the token that starts a text where the model has one."""
        first = [] if self.config.bos_token is None else [self.config.bos_token]
        return torch.tensor(first + self.tokenizer.encode(text).ids, dtype=torch.int64)

    def decode(self, tokens: list[int]) -> str:
        """Text of tokens."""
        return self.tokenizer.decode(tokens)


def save(folder: Path, model: Decoder, tokenizer: Tokenizer, *, dtype: torch.dtype = torch.float32) -> None:
    """Write a checkpoint; weights in ``dtype`` (float32, float16 or bfloat16), a tied matrix once.

    Raises
    ------
    ValueError
        If a weight does not survive the conversion as a finite number.
    OSError
        If the folder cannot be written.
    """
    weights = {name: tensor.detach().to(dtype).contiguous() for name, tensor in model.state_dict().items()}
    if model.config.tied_embeddings:
        del weights["lm_head.weight"]
    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"weights of {name} must be finite in {dtype}")
    folder.mkdir(parents=True, exist_ok=True)
    fields = model.config.to_hf() | {"dtype": str(dtype).removeprefix("torch.")}
    (folder / "config.json").write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def load(folder: Path) -> Checkpoint:
    """Read a checkpoint.

    Without a tokenizer.json, tokens are bytes, which takes a vocab_size of 256.

    Raises
    ------
    CheckpointError
        If a file is missing, truncated, malformed, or does not fit the config.
    ConfigError
        If config.json is not a decoder. Both are ValueError.
    """
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder}: must hold a file {name}, which is missing")
    config = TransformerConfig.read(folder / "config.json")
    tokenizer = _load_tokenizer(folder, config)
    weights = _load_weights(folder / "model.safetensors", config)
    with torch.device("meta"):  # no memory is spent on weights that are replaced
        model = Decoder(config)
    model.load_state_dict(weights, assign=True)
    if config.tied_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    return Checkpoint(config, model.requires_grad_(False).eval(), tokenizer)


def expected_shapes(config: TransformerConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every tensor that a decoder's file holds, layer after layer."""
    d, f = config.hidden_size, config.intermediate_size
    q, kv = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    yield "model.embed_tokens.weight", (config.vocab_size, d)
    yield "model.norm.weight", (d,)
    if not config.tied_embeddings:
        yield "lm_head.weight", (config.vocab_size, d)
    for layer in range(config.n_layers):
        shapes = {
            "input_layernorm": (d,), "post_attention_layernorm": (d,),
            "self_attn.q_proj": (q, d), "self_attn.k_proj": (kv, d),
            "self_attn.v_proj": (kv, d), "self_attn.o_proj": (d, q),
            "mlp.gate_proj": (f, d), "mlp.up_proj": (f, d), "mlp.down_proj": (d, f),
        }  # fmt: skip
        for name, shape in shapes.items():
            yield f"model.layers.{layer}.{name}.weight", shape


def _load_weights(path: Path, config: TransformerConfig) -> dict[str, torch.Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            _check_tensors(path, file, names, config)
            weights = {name: file.get_tensor(name).to(torch.float32) for name in sorted(names)}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: must be a whole safetensors file, but {error}") from None
    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{path}: tensor {name} must be finite, but holds NaN or infinity")
    if config.tied_embeddings:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    return weights


def _check_tensors(path: Path, file: safe_open, names: set[str], config: TransformerConfig) -> None:
    expected = set()
    for name, shape in expected_shapes(config):  # ends at the first one missing
        if name not in names:
            raise CheckpointError(f"{path}: must hold tensor {name} of shape {shape}, which is missing")
        stored = file.get_slice(name)
        if tuple(stored.get_shape()) != shape:
            given = tuple(stored.get_shape())
            raise CheckpointError(f"{path}: tensor {name} must have shape {shape}, not {given}")
        if stored.get_dtype() not in STORED_FORMATS:
            allowed = ", ".join(STORED_FORMATS)
            raise CheckpointError(f"{path}: tensor {name} must be {allowed}, not {stored.get_dtype()}")
        expected.add(name)
    if names - expected:
        extra = min(names - expected)
        raise CheckpointError(f"{path}: must hold only the config's tensors, not {extra}")


def _load_tokenizer(folder: Path, config: TransformerConfig) -> Tokenizer:
    path = folder / "tokenizer.json"
    if not path.is_file():
        if config.vocab_size != 256:
            size = config.vocab_size
            raise CheckpointError(f"{folder}: must hold tokenizer.json unless vocab_size is 256, not {size}")
        return byte_tokenizer()
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception for any malformed file
        raise CheckpointError(f"{path}: must be a tokenizer, but {error}") from None
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if not 0 <= largest < config.vocab_size:
        raise CheckpointError(
            f"{path}: token ids must be below {config.vocab_size} (vocab_size), not {largest}"
        )
    return tokenizer
