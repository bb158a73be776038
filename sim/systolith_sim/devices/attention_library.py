"""Libraries of fused attention: what belongs to them, not to the silicon (docs/reference/kernel-cost.md)."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class LatentDecode:
    """A decode kernel for latent attention with splits of its own, in place of the library's."""

    step_s: float
    """One thread block that walks one block of keys, alone on its unit."""
    heads: int = 16
    """Heads of one thread block; each block of heads reads the whole cache."""
    splits: int = 4
    """Parts that the keys are cut into, however many sequences there are."""
    keys: int = 32
    """Keys of one block."""


@dataclass(frozen=True)
class AttentionLibrary:
    """What belongs to the library, not to the silicon: tiles and planning (recalled), helper kernels (fitted)."""

    query_tile: int
    """Rows of queries that a thread block holds."""
    small_head_tile: int
    """The same for heads of at most 64."""
    resident: int
    """Thread blocks on one unit at a time."""
    lone_softmax: float
    """How much longer the softmax takes where a thread block has the unit for itself, with nothing to hide it."""
    packs_groups: bool
    """Queries that share keys and values fill one tile also in prefill."""
    splits: Literal["filling", "even"]
    """Decode splits the keys to fill all slots, where heads are grouped (2), or to an even share (3)."""
    combine_s: float
    """Second kernel that merges the splits of a decode."""
    combine_split_s: float
    """The same, for each split."""
    plan_s: float
    """Planning of even splits, for each pair of sequences."""
    regroup_s: float
    """Kernels that bring grouped queries together, and back, where sequences and groups are several."""
    quantized_keys: int = 128
    """Keys of one block where the cache is quantized; 128 otherwise."""
    quantized_multiply: float = 1.0
    """Time of a block's products against bf16 where the cache is quantized: faster products, values transposed."""
    quantized_softmax: float = 1.0
    """Time of a block's softmax against bf16 where the cache is quantized."""
    quantizing_passes: float = 0.0
    """Times the queries pass the memory to be quantized as the cache is."""
    pads_values: bool = False
    """Values narrower than their keys are padded to them, and the products with them."""
    latent: LatentDecode | None = None
    """What decodes latent attention; without it, the same kernel."""

    def unseen(self, *, key_size: float, value_size: float, decode: bool) -> str:
        """What no fit has seen of a call: latent attention, but for decode by a kernel of its own; else nothing."""
        return "latent attention" if value_size != key_size and not (decode and self.latent) else ""


FLASH2 = AttentionLibrary(
    query_tile=64, small_head_tile=64, resident=2, lone_softmax=2.756, packs_groups=False, splits="filling",
    combine_s=5.691e-06, combine_split_s=2.039e-07, plan_s=0.0, regroup_s=7.308e-06, pads_values=True,
    latent=LatentDecode(3.647e-6),
)  # fmt: skip
"""FlashAttention 2 with a paged cache, as in vLLM 0.14; its constants fitted on A100. Latent attention is decoded by a
Triton kernel there, whose step benchmarks/fit_latent.py fits."""
FLASH3 = AttentionLibrary(
    query_tile=128, small_head_tile=192, resident=1, lone_softmax=1.0, packs_groups=True, splits="even",
    combine_s=8.353e-07, combine_split_s=7.71e-08, plan_s=7.284e-11, regroup_s=0.0, quantized_keys=160,
    quantized_multiply=1.27, quantized_softmax=0.4493, quantizing_passes=0.5464,
)  # fmt: skip
"""FlashAttention 3 with a paged cache, as in vLLM 0.14 and 0.22; its constants fitted on H100 and H200."""
LIBRARIES = {"flash-attention-2": FLASH2, "flash-attention-3": FLASH3}
