"""The float decoder against torch.nn.functional, and whole against the Llama of transformers."""

from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from systolith_model.config import TransformerConfig
from systolith_model.reference.attention import causal_attention
from systolith_model.reference.decoder import Decoder, KVCache
from systolith_model.reference.mlp import SwiGLU
from systolith_model.reference.norm import RMSNorm
from systolith_model.reference.rope import rotary_angles, rotate

SMALL = TransformerConfig(
    vocab_size=61, hidden_size=24, n_layers=3, n_heads=6, n_kv_heads=2, head_dim=4, intermediate_size=29,
    norm_eps=1e-5, rope_theta=500.0, max_positions=40,
)  # fmt: skip


def random_like(config: TransformerConfig) -> Decoder:
    torch.manual_seed(3)
    model = Decoder(config).eval().requires_grad_(False)
    for name, weight in model.named_parameters():
        if "norm" in name:
            weight.uniform_(0.5, 1.5)
    return model


def llama_of(config: TransformerConfig, model: Decoder) -> Any:
    fields: dict[str, Any] = config.to_hf() | {"attn_implementation": "eager"}
    llama = LlamaForCausalLM(LlamaConfig(**fields)).eval()
    llama.load_state_dict(model.state_dict())
    return llama


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"n_kv_heads": 6},
        {"n_kv_heads": 1},
        {"tied_embeddings": True},
        {"head_dim": 10, "hidden_size": 12},
    ],
)
def test_logits_equal_those_of_transformers(changes):
    config = TransformerConfig.model_validate(SMALL.model_dump() | changes)
    model = random_like(config)
    tokens = torch.randint(config.vocab_size, (2, 33), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        expected = llama_of(config, model)(tokens).logits
    torch.testing.assert_close(model(tokens), expected, rtol=1e-5, atol=2e-5)


def test_greedy_text_equals_that_of_transformers():
    model = random_like(SMALL)
    prompt = torch.tensor([3, 1, 4, 1, 5])
    expected = llama_of(SMALL, model).generate(
        prompt[None], max_new_tokens=20, do_sample=False, pad_token_id=0
    )
    assert list(model.generate(prompt, tokens=20)) == expected[0, 5:].tolist()


@pytest.mark.parametrize("steps", [[33], [1] * 33, [7, 1, 20, 5]])
def test_cache_gives_the_logits_of_the_whole_sequence(steps):
    model = random_like(SMALL)
    tokens = torch.randint(SMALL.vocab_size, (2, 33), generator=torch.Generator().manual_seed(6))
    cache = KVCache(SMALL)
    parts = [model(part, cache) for part in tokens.split(steps, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(tokens), rtol=1e-5, atol=1e-5)
    assert cache.length == 33


def test_generation_ends_with_the_positions():
    model = random_like(SMALL)
    assert len(list(model.generate(torch.zeros(38, dtype=torch.int64), tokens=99))) == 3


def test_sampling_follows_its_seed():
    model = random_like(SMALL)
    first, again, other = (
        list(model.generate(torch.tensor([1]), tokens=12, temperature=1.0, seed=seed)) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_norm_equals_functional():
    x = torch.randn(3, 5, 24, generator=torch.Generator().manual_seed(1))
    norm = RMSNorm(24, 1e-6).requires_grad_(False)
    norm.weight.uniform_(-2, 2, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(norm(x), functional.rms_norm(x, (24,), norm.weight, 1e-6))


@pytest.mark.parametrize(("heads", "queries", "keys"), [(6, 9, 9), (2, 9, 9), (6, 1, 13), (6, 4, 13)])
def test_attention_equals_functional(heads, queries, keys):
    generator = torch.Generator().manual_seed(heads + queries)
    q = torch.randn(2, heads, queries, 8, generator=generator)
    k, v = torch.randn(2, 2, 2, keys, 8, generator=generator)
    seen = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)
    expected = functional.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=True)
    torch.testing.assert_close(causal_attention(q, k, v), expected)


def test_rotation_is_a_complex_product():
    x = torch.randn(2, 3, 7, 10, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    cos, sin = rotary_angles(torch.arange(5, 12), head_dim=10, theta=100.0)
    turned = rotate(x, cos, sin)
    angle = torch.arange(5, 12)[:, None] * 100.0 ** (-torch.arange(5) / 5)
    expected = torch.complex(x[..., :5], x[..., 5:]) * torch.polar(torch.ones_like(angle), angle)
    torch.testing.assert_close(turned, torch.cat((expected.real, expected.imag), -1), rtol=1e-5, atol=1e-6)


def test_gated_mlp_equals_its_formula():
    mlp = SwiGLU(SMALL).requires_grad_(False)
    x = torch.randn(4, 24, generator=torch.Generator().manual_seed(8))
    gate, up = x @ mlp.gate_proj.weight.T, x @ mlp.up_proj.weight.T
    torch.testing.assert_close(mlp(x), (gate * torch.sigmoid(gate) * up) @ mlp.down_proj.weight.T)


@pytest.mark.parametrize(
    ("prompt", "temperature", "message"),
    [
        (torch.zeros(0, dtype=torch.int64), 0.0, r"prompt must have shape \(T,\), T in 1\.\.40, not \(0,\)"),
        (torch.zeros(41, dtype=torch.int64), 0.0, r"T in 1\.\.40, not \(41,\)"),
        (torch.zeros(2, dtype=torch.int64), -1.0, "temperature must be >= 0, not -1.0"),
    ],
)
def test_impossible_generation_is_refused(prompt, temperature, message):
    with pytest.raises(ValueError, match=message):
        list(random_like(SMALL).generate(prompt, tokens=1, temperature=temperature))


def test_sequence_beyond_the_positions_is_refused():
    with pytest.raises(ValueError, match="sequence must have at most 40 tokens, not 41"):
        random_like(SMALL)(torch.zeros(1, 41, dtype=torch.int64))
