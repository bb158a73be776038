"""The decoder in float. Names of modules are those of Hugging Face Llama checkpoints."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from systolith_model.config import TransformerConfig
from systolith_model.reference.attention import Attention, LayerCache
from systolith_model.reference.mlp import SwiGLU
from systolith_model.reference.norm import RMSNorm
from systolith_model.reference.rope import rotary_angles


class KVCache:
    """Keys and values of all layers; ``length`` positions are filled."""

    def __init__(self, config: TransformerConfig) -> None:
        self.layers = [LayerCache() for _ in range(config.n_layers)]

    @property
    def length(self) -> int:
        """Positions seen."""
        keys = self.layers[0].keys
        return 0 if keys is None else keys.shape[2]


class DecoderLayer(nn.Module):
    """Attention and MLP, each behind a norm, each added to the residual stream."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.norm_eps)
        self.mlp = SwiGLU(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: LayerCache | None = None) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, cache)  # (B, T, D)
        return x + self.mlp(self.post_attention_layernorm(x))  # (B, T, D)


class DecoderBody(nn.Module):
    """Embedding, layers, last norm."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.n_layers))
        self.norm = RMSNorm(config.hidden_size, config.norm_eps)


class Decoder(nn.Module):
    """A decoder-only language model.

    Parameters
    ----------
    config : TransformerConfig
        Its shape.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.model = DecoderBody(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tied_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def forward(self, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
        """Logits of the token after each given one.

        Parameters
        ----------
        tokens : Tensor
            (B, T) int64; T with the cache's length at most ``max_positions``.
        cache : KVCache, optional
            Holds the positions before these; grows by T.

        Returns
        -------
        Tensor
            (B, T, vocab_size).

        Raises
        ------
        ValueError
            If the sequence is longer than the model's positions.
        """
        start = 0 if cache is None else cache.length
        end = start + tokens.shape[1]
        if end > self.config.max_positions:
            raise ValueError(f"sequence must have at most {self.config.max_positions} tokens, not {end}")
        positions = torch.arange(start, end, device=tokens.device)
        cos, sin = rotary_angles(positions, head_dim=self.config.head_dim, theta=self.config.rope_theta)
        x = self.model.embed_tokens(tokens)  # (B, T, D)
        for index, layer in enumerate(self.model.layers):
            x = layer(x, cos, sin, None if cache is None else cache.layers[index])  # (B, T, D)
        return self.lm_head(self.model.norm(x))  # (B, T, V)

    def generate(
        self, prompt: Tensor, *, tokens: int, temperature: float = 0.0, seed: int = 0
    ) -> Iterator[int]:
        """Continue a prompt, one token at a time, with the cache.

        Parameters
        ----------
        prompt : Tensor
            (T,) int64, at least one token.
        tokens : int
            How many to add; ends earlier where the positions do.
        temperature : float
            0 takes the likeliest token; else logits are divided by it and sampled from.
        seed : int
            Of the sampling.

        Raises
        ------
        ValueError
            If the prompt is empty or longer than the model's positions, or the temperature negative.
        """
        longest = self.config.max_positions
        if prompt.dim() != 1 or not 1 <= len(prompt) <= longest:
            raise ValueError(f"prompt must have shape (T,), T in 1..{longest}, not {tuple(prompt.shape)}")
        if temperature < 0:
            raise ValueError(f"temperature must be >= 0, not {temperature}")
        generator = torch.Generator().manual_seed(seed)
        cache, step = KVCache(self.config), prompt[None]
        for _ in range(min(tokens, longest - len(prompt) + 1)):
            with torch.no_grad():
                logits = self(step, cache)[0, -1]  # (V,)
            if temperature == 0:
                step = logits.argmax().reshape(1, 1)
            else:
                chances = torch.softmax(logits.to(torch.float32) / temperature, dim=-1)
                step = torch.multinomial(chances, 1, generator=generator)[None]
            yield int(step)
