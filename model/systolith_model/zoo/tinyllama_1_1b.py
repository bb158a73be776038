"""TinyLlama 1.1B.

Sizes: litgpt, litgpt/config.py at commit 26857050, entry tiny-llama-1.1b. They give the 1,100,048,384
parameters that the safetensors metadata of TinyLlama/TinyLlama-1.1B-Chat-v1.0 counts.
"""

from systolith_model.config import TransformerConfig

CONFIG = TransformerConfig(
    vocab_size=32000,
    hidden_size=2048,
    n_layers=22,
    n_heads=32,
    n_kv_heads=4,
    head_dim=64,
    intermediate_size=5632,
    norm_eps=1e-5,
    rope_theta=10000.0,
    max_positions=2048,
)
