"""Grouped-query attention in float, with a cache of keys and values."""

from math import sqrt

import torch
from torch import Tensor, nn

from systolith_model.config import TransformerConfig
from systolith_model.reference.rope import rotate


class LayerCache:
    """Keys and values of the positions one layer has seen."""

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add (B, Hkv, T, D) keys and values; returns all of them."""
        if self.keys is not None and self.values is not None:
            keys = torch.cat((self.keys, keys), dim=2)
            values = torch.cat((self.values, values), dim=2)
        self.keys, self.values = keys, values
        return keys, values


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention in which the last query sees every key and each earlier one a key less.

    Parameters
    ----------
    q : Tensor
        (B, H, Tq, D).
    k, v : Tensor
        (B, Hkv, Tk, D), Hkv divides H, Tk >= Tq. Query head h reads key head h // (H / Hkv).

    Returns
    -------
    Tensor
        (B, H, Tq, D).
    """
    group = q.shape[1] // k.shape[1]
    k = k.repeat_interleave(group, dim=1)  # (B, H, Tk, D)
    v = v.repeat_interleave(group, dim=1)  # (B, H, Tk, D)
    scores = q @ k.transpose(-1, -2) / sqrt(q.shape[-1])  # (B, H, Tq, Tk)
    queries, keys = scores.shape[-2:]
    hidden = torch.ones(queries, keys, dtype=torch.bool, device=q.device).triu(keys - queries + 1)
    scores = scores.masked_fill(hidden, float("-inf"))
    return torch.softmax(scores.to(torch.float32), dim=-1).to(v.dtype) @ v


class Attention(nn.Module):
    """Projections, rotary positions, causal attention, output projection; no biases."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        queries, keys = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, queries, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, keys, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, keys, bias=False)
        self.o_proj = nn.Linear(queries, config.hidden_size, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: LayerCache | None = None) -> Tensor:
        q = rotate(self._heads(self.q_proj(x)), cos, sin)  # (B, H, T, D)
        k = rotate(self._heads(self.k_proj(x)), cos, sin)  # (B, Hkv, T, D)
        v = self._heads(self.v_proj(x))  # (B, Hkv, T, D)
        if cache is not None:
            k, v = cache.append(k, v)  # (B, Hkv, context + T, D)
        mixed = causal_attention(q, k, v)  # (B, H, T, D)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))  # (B, T, hidden)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # (B, heads, T, D)
