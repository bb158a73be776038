"""Models whose training others have published."""

from systolith_model.architecture import Architecture


def gpt(hidden: int, layers: int, heads: int) -> Architecture:
    """The models of Korthikanti et al. 2022 (arXiv 2205.05198), table 3: vocabulary 51,200, sequences of 2048."""
    return Architecture(
        vocab_size=51200, hidden_size=hidden, n_layers=layers, n_heads=heads, n_kv_heads=heads,
        head_dim=hidden // heads, intermediate_size=4 * hidden, max_positions=2048, norm="layernorm",
        activation="gelu", gated=False, position="learned", learned_positions=2048, tied_embeddings=True,
        bias_qkv=True, bias_out=True, bias_mlp=True,
    )  # fmt: skip
