"""Llama 2 7B.

Sizes: litgpt, litgpt/config.py at commit 26857050, entry Llama-2-7b-hf. They give the 6,738,415,616
parameters that the safetensors metadata of meta-llama/Llama-2-7b-hf counts.
"""

from systolith_model.config import TransformerConfig

CONFIG = TransformerConfig(
    vocab_size=32000,
    hidden_size=4096,
    n_layers=32,
    n_heads=32,
    n_kv_heads=32,
    head_dim=128,
    intermediate_size=11008,
    norm_eps=1e-5,
    rope_theta=10000.0,
    max_positions=4096,
)
