"""Llama 3 8B: grouped-query attention, a large vocabulary.

Sizes: litgpt, litgpt/config.py at commit 26857050, entry Llama-3-8B. They give the 8,030,261,248 parameters
that the safetensors metadata of meta-llama/Meta-Llama-3-8B counts.
"""

from systolith_model.config import TransformerConfig

CONFIG = TransformerConfig(
    vocab_size=128256,
    hidden_size=4096,
    n_layers=32,
    n_heads=32,
    n_kv_heads=8,
    head_dim=128,
    intermediate_size=14336,
    norm_eps=1e-5,
    rope_theta=500000.0,
    max_positions=8192,
)
