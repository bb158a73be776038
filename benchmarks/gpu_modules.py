"""Modules of transformers and torch as they come, for ``gpu_accuracy.py``: what runs, on which inputs.

Each is built on a device of torch, in bf16, with weights as its library initializes them: real numbers, which draw
more power than zeros. Sizes are those of published models, of some only the first layers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForImageClassification
from transformers.cache_utils import DynamicCache

LLAMA = {
    "vocab_size": 128256, "hidden_size": 4096, "num_hidden_layers": 4, "num_attention_heads": 32,
    "num_key_value_heads": 8, "intermediate_size": 14336, "max_position_embeddings": 8192, "rope_theta": 5e5,
    "tie_word_embeddings": False,
}  # fmt: skip
"""Llama-3-8B with 4 of its 32 layers (meta-llama/Meta-Llama-3-8B, config.json)."""
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
"""BERT-large and ViT-large (Devlin et al. 2018, table in 3; Dosovitskiy et al. 2020, table 1)."""
GPT2_MEDIUM = {"n_embd": 1024, "n_layer": 24, "n_head": 16}
"""Radford et al. 2019, table 2."""


@dataclass
class Ready:
    """A module with the inputs of one pass."""

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    train: bool = False
    before: Callable[[], object] = lambda: None
    """Puts the inputs back as they were."""
    kept_bytes: int = 0
    """Of what only this keeps, for ``before``."""


Build = Callable[[torch.device], Ready]


def _ids(on: torch.device, batch: int, tokens: int, words: int = 30000) -> Tensor:
    return torch.randint(words, (batch, tokens), device=on)


def _built(auto: Any, kind: str, on: torch.device, fields: dict[str, Any], *, train: bool = False) -> nn.Module:
    with on:
        config = AutoConfig.for_model(kind, **fields)
        module = auto.from_config(config, attn_implementation="sdpa", dtype=torch.bfloat16)
    return module.train(train)


def llama_prefill(batch: int, tokens: int) -> Build:
    """Prompts of tokens, logits of all of them."""

    def build(on: torch.device) -> Ready:
        module = _built(AutoModelForCausalLM, "llama", on, LLAMA)
        return Ready(module, (), {"input_ids": _ids(on, batch, tokens), "use_cache": False})

    return build


def llama_decode(batch: int, context: int) -> Build:
    """One token each behind cached ones, which the cache joins by a copy."""

    def build(on: torch.device) -> Ready:
        module = _built(AutoModelForCausalLM, "llama", on, LLAMA)
        size = LLAMA["hidden_size"] // LLAMA["num_attention_heads"]
        shape = (batch, LLAMA["num_key_value_heads"], context, size)
        layers = range(LLAMA["num_hidden_layers"])
        held = [[torch.randn(shape, device=on, dtype=torch.bfloat16) for _ in range(2)] for _ in layers]
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(held):
            cache.update(keys, values, layer)

        def before() -> None:
            for layer, (keys, values) in zip(cache.layers, held, strict=True):
                vars(layer).update(keys=keys, values=values)

        inputs = {"input_ids": _ids(on, batch, 1), "past_key_values": cache, "use_cache": True,
                  "position_ids": torch.full((batch, 1), context, device=on)}  # fmt: skip
        kept = sum(tensor.nbytes for pair in held for tensor in pair)
        return Ready(module, (), inputs, before=before, kept_bytes=kept)

    return build


def gpt2(batch: int, tokens: int, *, train: bool = False) -> Build:
    """GPT-2 medium; in training with labels and without dropout."""

    def build(on: torch.device) -> Ready:
        fields = {**GPT2_MEDIUM, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        module = _built(AutoModelForCausalLM, "gpt2", on, fields, train=train)
        ids = _ids(on, batch, tokens)
        return Ready(module, (), {"input_ids": ids, "use_cache": False, **({"labels": ids} if train else {})}, train)

    return build


def llama_train(batch: int, tokens: int) -> Build:
    """A step of the four layers."""

    def build(on: torch.device) -> Ready:
        module = _built(AutoModelForCausalLM, "llama", on, LLAMA, train=True)
        ids = _ids(on, batch, tokens)
        return Ready(module, (), {"input_ids": ids, "use_cache": False, "labels": ids}, True)

    return build


def bert(batch: int, tokens: int) -> Build:
    """BERT-large without heads."""

    def build(on: torch.device) -> Ready:
        return Ready(_built(AutoModel, "bert", on, LARGE), (), {"input_ids": _ids(on, batch, tokens)})

    return build


def vit(batch: int, *, train: bool = False) -> Build:
    """ViT-large on 224 x 224 images in patches of 16."""

    def build(on: torch.device) -> Ready:
        module = _built(AutoModelForImageClassification, "vit", on, LARGE, train=train)
        images = torch.randn(batch, 3, 224, 224, device=on, dtype=torch.bfloat16)
        labels = {"labels": torch.zeros(batch, dtype=torch.long, device=on)} if train else {}
        return Ready(module, (), {"pixel_values": images, **labels}, train)

    return build


def encoder(batch: int, tokens: int) -> Build:
    """torch's own encoder, post-norm, without its joined fast path."""

    def build(on: torch.device) -> Ready:
        torch.backends.mha.set_fastpath_enabled(False)
        with on:
            layer = nn.TransformerEncoderLayer(1024, 16, 4096, batch_first=True, dtype=torch.bfloat16)
            module = nn.TransformerEncoder(layer, 24, enable_nested_tensor=False).eval()
        return Ready(module, (torch.randn(batch, tokens, 1024, device=on, dtype=torch.bfloat16),), {})

    return build


CASES: dict[str, Build] = {
    "Llama-3-8B, 4 layers, prefill 1 x 2048": llama_prefill(1, 2048),
    "Llama-3-8B, 4 layers, prefill 8 x 512": llama_prefill(8, 512),
    "Llama-3-8B, 4 layers, decode 1 behind 1024": llama_decode(1, 1024),
    "Llama-3-8B, 4 layers, decode 16 behind 1024": llama_decode(16, 1024),
    "Llama-3-8B, 4 layers, decode 64 behind 2048": llama_decode(64, 2048),
    "GPT-2 medium, 8 x 1024": gpt2(8, 1024),
    "GPT-2 medium, 1 x 128": gpt2(1, 128),
    "BERT-large, 32 x 384": bert(32, 384),
    "BERT-large, 1 x 128": bert(1, 128),
    "ViT-large, 64 images": vit(64),
    "torch's encoder, 24 layers, 8 x 512": encoder(8, 512),
    "GPT-2 medium, training step 8 x 1024": gpt2(8, 1024, train=True),
    "ViT-large, training step 64 images": vit(64, train=True),
    "Llama-3-8B, 4 layers, training step 2 x 2048": llama_train(2, 2048),
}
