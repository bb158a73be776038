"""Attention on a GPU: fused kernels that walk blocks of keys, one thread block a tile of queries.

Form and constants: docs/reference/kernel-cost.md. Functions take arrays, like ``gemm``.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from systolith_sim.devices.gemm import CONSTANTS, Array, Machine, Terms, smooth_maximum

BLOCK = 128
"""Queries and keys of one block."""
SPLITS = np.array([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128])
"""Splits of the keys a decode kernel chooses from."""


@dataclass(frozen=True)
class AttentionLibrary:
    """What belongs to the library and engine, not to the silicon."""

    packs_groups: bool
    """Queries that share keys and values fill one tile (FlashAttention 3), or each head has its own (2)."""
    splits_ungrouped: bool
    """Decode splits the keys also where every head has its own keys and values."""
    cache_passes: float
    """Times the new keys and values pass the memory when they are put into the cache."""


@dataclass(frozen=True)
class AttentionConstants:
    """Constants shared by all GPUs, fitted once on A100, H100 and H200 by benchmarks/fit_devices.py."""

    tile_start_blocks: float = 1.143
    """Start and end of a prefill thread block, in times of one block of keys at head size 128."""
    decode_start_s: float = 5.372e-7
    """Start of one decode thread block."""
    combine_s: float = 7.929e-6
    """Second kernel that merges the splits of a decode."""
    decode_resident: float = 1.105
    """Decode thread blocks resident on one unit."""
    decode_feed: float = 0.5653
    """Feed rate of a decode thread block as a share of ``feed_bytes_per_s``."""
    row_s: float = 1.473e-8
    """Decode: cost of a sequence and key-value head beside its data, such as page tables."""


ATTENTION = AttentionConstants()


@dataclass(frozen=True)
class AttentionSizes:
    """Sizes of an attention, arrays of one shape: batch, heads, key-value heads, queries, keys, head size."""

    batch: Array
    heads: Array
    kv_heads: Array
    queries: Array
    keys: Array
    head_size: Array

    @classmethod
    def of(cls, *sizes: ArrayLike) -> "AttentionSizes":
        """From scalars or arrays, in the order of the fields."""
        return cls(*(np.atleast_1d(np.asarray(size, float)) for size in sizes))

    def rows(self, chosen: NDArray[np.bool_]) -> "AttentionSizes":
        """The rows that an index or mask chooses."""
        return AttentionSizes(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def visited_keys(self, causal: bool) -> Array:
        """Mean number of keys one query sees; the last query sees every key."""
        both = np.minimum(self.queries, self.keys)
        return self.keys - (both * (both - 1) / 2 / self.queries if causal else 0.0)


def attention(
    machine: Machine,
    sizes: AttentionSizes,
    *,
    causal: bool,
    element_bytes: float,
    kv_bytes: float,
    library: AttentionLibrary,
    constants: AttentionConstants = ATTENTION,
) -> Terms:
    """Seconds of fused attention; a single query per sequence takes the decode kernel.

    ``element_bytes`` is the size of an element of queries and result, ``kv_bytes`` of keys and values.
    """
    moved = 2 * sizes.batch * sizes.heads * sizes.queries * sizes.head_size * element_bytes
    moved = moved + 2 * sizes.batch * sizes.kv_heads * sizes.keys * sizes.head_size * kv_bytes
    written = (
        2 * sizes.batch * sizes.kv_heads * sizes.queries * sizes.head_size * kv_bytes * library.cache_passes
    )
    rate = machine.memory_efficiency * machine.bandwidth_bytes_per_s
    single = sizes.queries == 1
    compute = np.where(
        single,
        _decode_s(machine, sizes, kv_bytes, library, constants),
        _prefill_s(machine, sizes, causal, library, constants),
    )
    serial = np.where(single, constants.row_s * sizes.batch * sizes.kv_heads, written / rate)
    body = smooth_maximum(compute, moved / rate, CONSTANTS.sharpness) + serial
    launch = np.full_like(body, machine.launch_s)
    return Terms(launch + body, launch, compute, moved / rate + serial)


def _prefill_s(
    machine: Machine, s: AttentionSizes, causal: bool, library: AttentionLibrary, c: AttentionConstants
) -> Array:
    unit_rate = machine.compute_efficiency * machine.peak_ops_per_s / machine.units
    block_s = 4 * BLOCK * BLOCK * s.head_size / unit_rate
    start_s = c.tile_start_blocks * 4 * BLOCK * BLOCK * 128 / unit_rate
    group = s.heads / s.kv_heads
    if library.packs_groups:
        tiles = s.batch * s.kv_heads * np.ceil(s.queries * group / BLOCK)
    else:
        tiles = s.batch * s.heads * np.ceil(s.queries / BLOCK)
    narrowest = np.minimum(BLOCK, np.ceil(s.keys / 64) * 64) / BLOCK
    key_blocks = np.maximum(s.visited_keys(causal) / BLOCK + (0.5 if causal else 0.0), narrowest)
    longest = np.maximum(s.keys / BLOCK, 1) * block_s + start_s
    return np.maximum(longest, tiles * (key_blocks * block_s + start_s) / machine.units)


def _decode_s(
    machine: Machine, s: AttentionSizes, kv_bytes: float, library: AttentionLibrary, c: AttentionConstants
) -> Array:
    block_bytes = 2 * BLOCK * s.head_size * kv_bytes
    block_s = (block_bytes / (c.decode_feed * machine.feed_bytes_per_s))[:, None]
    blocks = np.ceil(s.keys / BLOCK)[:, None]
    rows = (s.batch * s.kv_heads)[:, None]
    rounds = np.ceil(rows * SPLITS / (c.decode_resident * machine.units))
    work = rounds * (np.ceil(blocks / SPLITS) * block_s + c.decode_start_s) + (SPLITS > 1) * c.combine_s
    refused = (SPLITS > 1) & (blocks < SPLITS)
    if not library.splits_ungrouped:
        refused = refused | ((SPLITS > 1) & (s.heads == s.kv_heads)[:, None])
    return np.where(refused, np.inf, work).min(1)
