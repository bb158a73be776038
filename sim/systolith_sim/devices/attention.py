"""Attention on a GPU: fused kernels whose thread blocks hold a tile of queries and walk blocks of keys.

Form and constants: docs/reference/kernel-cost.md. Functions take arrays, like ``gemm``.
"""

from dataclasses import dataclass, fields, replace
from typing import NotRequired, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from systolith_sim.devices.attention_library import AttentionLibrary, LatentDecode
from systolith_sim.devices.gemm import Array, Machine, Terms, missing_share, smooth_maximum

SPLIT_SLACK = 0.85
"""Least share of the best occupancy at which FlashAttention 2 stops splitting (its num_splits_heuristic, recalled)."""
FULL_SHARE = 0.8
"""Share of the slots above which FlashAttention 2 does not split (the same function, recalled)."""
MOST_SPLITS = 128
"""Most splits of one sequence (the same function, recalled)."""
EVEN_SLACK = 1.1
"""Work beyond an even share that FlashAttention 3 plans for (its prepare_varlen_num_blocks, recalled)."""
PLANNED_SEQUENCES = 992
"""Sequences above which FlashAttention 3 plans no splits (the same function, recalled)."""
DECODE_TILE = 128.0
"""Most rows of queries that a thread block holds in decode."""
SMALL_HEAD = 64
"""Largest head size that takes a library's ``small_head_tile``."""
WRITE_THREADS_ELEMENTS = 512
"""Elements of a token at which a thread block that writes the cache is as wide as it gets."""


@dataclass(frozen=True)
class AttentionConstants:
    """Constants shared by all GPUs, fitted once on A100, H100 and H200 by benchmarks/fit_attention.py."""

    sharpness: float = 3.434
    """Exponent of the smooth maximum of compute and memory."""
    softmax_ops: float = 15.33
    """Vector operations of one score: scale, maximum, exponential, sum, conversion."""
    head_start: float = 0.4105
    """Share of a thread block's start that grows with the head size."""
    row_ops: float = 295.4
    """Operations a unit could do at its peak while it reads a byte of queries, or writes one of their result, where
    no other thread block hides it."""
    merge_ops: float = 460.1
    """The same for a byte of a split's partial result (fp32)."""
    decode_share: float = 0.7896
    """Time of a block of keys in decode against prefill: nothing is masked."""
    write_row_s: float = 9.458e-07
    """A thread block that writes one token into the cache."""
    write_passes: float = 0.6268
    """Times new keys and values pass the memory on their way into the cache, read and written."""


ATTENTION = AttentionConstants()


@dataclass(frozen=True)
class AttentionFit:
    """What was fitted for one library on one device."""

    launch_s: float
    """Start to end of a fused attention that does nothing, with the kernels that plan it."""
    efficiency: float
    """Share of the peak rate that a thread block's products reach."""
    start_s: float
    """Start and end of one thread block, as one unit sees it."""
    quantized_launch_s: float = 0.0
    """Added to ``launch_s`` where the cache is quantized."""


@dataclass(frozen=True)
class AttentionSizes:
    """Sizes of an attention, arrays of one shape."""

    batch: Array
    heads: Array
    kv_heads: Array
    queries: Array
    keys: Array
    head_size: Array
    value_size: Array
    """Size of a value; ``head_size`` but for latent attention."""
    window: Array
    """Keys that a query sees at most; infinite without a sliding window."""

    @classmethod
    def of(
        cls,
        batch: ArrayLike, heads: ArrayLike, kv_heads: ArrayLike, queries: ArrayLike, keys: ArrayLike,
        head_size: ArrayLike, value_size: ArrayLike | None = None, window: ArrayLike = np.inf,
    ) -> "AttentionSizes":  # fmt: skip
        """From scalars or arrays."""
        values = head_size if value_size is None else value_size
        sizes = (batch, heads, kv_heads, queries, keys, head_size, values, window)
        return cls(*np.broadcast_arrays(*(np.atleast_1d(np.asarray(size, float)) for size in sizes)))

    def rows(self, chosen: NDArray[np.bool_]) -> "AttentionSizes":
        """The rows that an index or mask chooses."""
        return AttentionSizes(*(getattr(self, field.name)[chosen] for field in fields(self)))

    @property
    def seen(self) -> Array:
        """Keys that any query sees."""
        return np.minimum(self.keys, self.window + self.queries - 1)


@dataclass(frozen=True)
class _Blocks:
    """Work in thread blocks: seconds of one block of keys, shared and alone, and where a tile begins and ends."""

    tile: Array
    key_block: Array
    shared_s: Array
    lone_s: Array
    start_s: Array


class AttentionUse(TypedDict):
    """How an attention is used, beside its sizes."""

    causal: bool
    """The last query sees every key, each before it one less."""
    element_bytes: float
    """Bytes of an element of queries and result."""
    kv_bytes: float
    """Bytes of an element of keys and values; below 2 the cache is quantized."""
    writes_cache: NotRequired[bool]
    """New keys and values are put into the cache by a kernel of their own; true unless said."""
    shared_values: NotRequired[bool]
    """Values are a part of each key (latent attention), and read once; false unless said."""
    reuse_bytes: NotRequired[float]
    """Bytes of other tensors that pass before the cached keys and values are read again; 0 unless said."""
    planned_kv_heads: NotRequired[int | None]
    """Key-value heads that the splits were planned for, where that differs from those computed."""


def attention(
    machine: Machine,
    sizes: AttentionSizes,
    *,
    fit: AttentionFit,
    library: AttentionLibrary,
    vector_ops_per_s: float,
    constants: AttentionConstants = ATTENTION,
    **how: Unpack[AttentionUse],
) -> Terms:
    """Seconds of fused attention; a single query per sequence takes the decode kernel.

    The machine's launch is that of the kernel that writes the cache; ``vector_ops_per_s`` is the peak outside
    the matrix units, for the softmax; ``how`` is as ``AttentionUse`` says.
    """
    s, c, quantized = _padded(sizes, library, how), constants, how["kv_bytes"] < 2
    blocks = _blocks(machine, s, fit, library, vector_ops_per_s, quantized, c)
    single = s.queries == 1
    planned = how.get("planned_kv_heads")
    decode, planning = _decode_s(machine, s, blocks, library, planned, c)
    if library.latent is not None and how.get("shared_values"):
        decode = _latent_s(machine, s, library.latent)
    prefill, merging = _prefill_s(machine, s, blocks, library, how["causal"], planned, c)
    compute = np.where(single, decode, prefill)
    grouped = single & (s.heads > s.kv_heads)
    rows = s.batch * s.heads * s.queries
    row_ops = c.row_ops * (s.head_size + s.value_size) * how["element_bytes"]
    exposed = (library.resident == 1) | grouped
    compute = compute + exposed * rows * row_ops / machine.peak_ops_per_s
    launch = fit.launch_s + quantized * fit.quantized_launch_s
    launch = launch + library.regroup_s * (grouped & (s.batch > 1) & (s.kv_heads > 1))
    serial = np.where(single, planning, merging)
    if quantized:
        moved = rows * s.head_size * (how["element_bytes"] + how["kv_bytes"])
        serial = serial + library.quantizing_passes * _stream_s(machine, moved)
    if how.get("writes_cache", True):
        launch, serial = launch + machine.launch_s, serial + _write_s(machine, s, how, c)
    memory = _memory_s(machine, s, how)
    body = smooth_maximum(compute, memory, c.sharpness) + serial
    return Terms(launch + body, launch, compute + serial, memory)


def _padded(s: AttentionSizes, library: AttentionLibrary, how: AttentionUse) -> AttentionSizes:
    if not library.pads_values or how.get("shared_values"):
        return s
    return replace(s, value_size=np.maximum(s.value_size, s.head_size))


def _stream_s(machine: Machine, moved_bytes: Array) -> Array:
    return moved_bytes / (machine.memory_efficiency * machine.bandwidth_bytes_per_s)


def _tile(s: AttentionSizes, library: AttentionLibrary) -> Array:
    """Rows of queries that a thread block holds."""
    return np.where(s.head_size <= SMALL_HEAD, library.small_head_tile, library.query_tile).astype(float)


def decode_operations(s: AttentionSizes, library: AttentionLibrary) -> Array:
    """Operations that a decode executes: tiles are multiplied whole, however few of their rows a query fills."""
    tile = np.minimum(_tile(s, library), DECODE_TILE)
    tiles = s.batch * s.kv_heads * np.ceil(s.heads / s.kv_heads / tile)
    return 2 * tiles * tile * np.minimum(s.keys, s.window) * (s.head_size + s.value_size)


def _blocks(
    machine: Machine,
    s: AttentionSizes,
    fit: AttentionFit,
    library: AttentionLibrary,
    vector_ops_per_s: float,
    quantized: bool,
    c: AttentionConstants,
) -> _Blocks:
    tile = _tile(s, library)
    keys = float(library.quantized_keys if quantized else 128)
    unit_rate = fit.efficiency * machine.peak_ops_per_s / machine.units
    multiply = 2 * tile * keys * (s.head_size + s.value_size) / unit_rate
    softmax = c.softmax_ops * tile * keys / (vector_ops_per_s / machine.units)
    if quantized:
        multiply, softmax = multiply * library.quantized_multiply, softmax * library.quantized_softmax
    start = fit.start_s * (1 + c.head_start * ((s.head_size + s.value_size) / 256 - 1))
    lone = multiply + library.lone_softmax * softmax
    return _Blocks(tile, np.full_like(tile, keys), multiply + softmax, lone, start)


def _rounds_s(machine: Machine, blocks: Array, shared_s: Array, lone_s: Array, resident: int) -> Array:
    """Seconds of equal thread blocks dealt to all units, ``resident`` at a time on each."""
    slots = machine.units * resident
    full = np.floor(blocks / slots)
    last = np.ceil((blocks - full * slots) / machine.units)
    return full * resident * shared_s + np.where(last == 1, lone_s, last * shared_s)


def _prefill_s(
    machine: Machine,
    s: AttentionSizes,
    blocks: _Blocks,
    library: AttentionLibrary,
    causal: bool,
    planned_kv_heads: int | None,
    c: AttentionConstants,
) -> tuple[Array, Array]:
    """Seconds of the tiles of queries, and of merging where few tiles have their keys split among idle units."""
    group = s.heads / s.kv_heads
    tokens = blocks.tile / group if library.packs_groups else blocks.tile
    tiles = s.batch * (s.kv_heads if library.packs_groups else s.heads) * np.ceil(s.queries / tokens)
    most = np.ceil(np.minimum(s.keys, s.window + tokens) / blocks.key_block)
    mean = _mean_blocks(s, tokens, blocks.key_block, most) if causal else most
    splits = np.ones_like(tiles)
    if library.splits == "even":
        planned = tiles if planned_kv_heads is None else tiles * planned_kv_heads / s.kv_heads
        splits = _even_splits(planned, most, s.batch, machine.units)
    mean, most = np.maximum(mean / splits, 1.0), np.ceil(most / splits)
    shared, lone = (blocks.start_s + mean * each for each in (blocks.shared_s, blocks.lone_s))
    longest = blocks.start_s + most * blocks.lone_s
    seconds = np.maximum(_rounds_s(machine, tiles * splits, shared, lone, library.resident), longest)
    return seconds, _merge_s(machine, s, library, splits, c)


def _merge_s(
    machine: Machine, s: AttentionSizes, library: AttentionLibrary, splits: Array, c: AttentionConstants
) -> Array:
    """Seconds of the kernel that merges what the splits found."""
    partial = 4 * c.merge_ops * splits * s.batch * s.heads * s.queries * s.value_size
    merge = library.combine_s + library.combine_split_s * splits + partial / machine.peak_ops_per_s
    return np.where(splits > 1, merge, 0.0)


def _mean_blocks(s: AttentionSizes, tokens: Array, key_block: Array, most: Array) -> Array:
    """Mean blocks of keys that a tile visits under a causal mask; the last tile visits ``most``.

    The tile that ends at token e visits min(e, window + tokens) keys, in whole blocks.
    """
    tiles, before = np.ceil(s.queries / tokens), s.keys - s.queries
    cap = np.minimum(s.window + tokens, 4 * (s.keys + tokens))
    rising = np.clip(np.floor((cap - before) / tokens), 0, tiles - 1)
    visited = rising * before + tokens * rising * (rising + 1) / 2 + (tiles - 1 - rising) * cap
    whole = np.gcd(np.maximum(tokens, 1).astype(int), key_block.astype(int)) / key_block
    rounding = (tiles - 1) * (1 - whole) / 2
    return np.minimum((visited / key_block + rounding + most) / tiles, most)


def _decode_s(
    machine: Machine,
    s: AttentionSizes,
    blocks: _Blocks,
    library: AttentionLibrary,
    planned_kv_heads: int | None,
    c: AttentionConstants,
) -> tuple[Array, Array]:
    """Seconds of the split kernel, and of the kernels that plan and merge the splits."""
    group = s.heads / s.kv_heads
    tile = np.minimum(blocks.tile, DECODE_TILE)
    share = c.decode_share * tile / blocks.tile
    rows = s.batch * s.kv_heads * np.ceil(group / tile)
    walked = np.ceil(np.minimum(s.keys, s.window) / blocks.key_block)
    if library.splits == "even":
        planned = rows if planned_kv_heads is None else s.batch * planned_kv_heads
        splits = _even_splits(planned, walked, s.batch, machine.units)
    else:
        splits = np.where(group > 1, _filling_splits(rows, walked, machine.units * library.resident), 1.0)
    steps = np.ceil(walked / splits)
    shared, lone = (blocks.start_s + steps * share * each for each in (blocks.shared_s, blocks.lone_s))
    seconds = _rounds_s(machine, rows * splits, shared, lone, library.resident)
    plan = library.plan_s * s.batch**2 * (s.batch <= PLANNED_SEQUENCES)
    return seconds, _merge_s(machine, s, library, splits, c) + plan


def _latent_s(machine: Machine, s: AttentionSizes, latent: LatentDecode) -> Array:
    blocks = s.batch * np.ceil(s.heads / latent.heads) * latent.splits
    steps = np.ceil(np.minimum(s.keys, s.window) / latent.splits / latent.keys)
    return np.ceil(blocks / machine.units) * steps * latent.step_s


def _even_splits(rows: Array, walked: Array, batch: Array, units: int) -> Array:
    share = np.maximum(np.ceil(EVEN_SLACK * rows * walked / units), 1.0)
    return np.where(batch > PLANNED_SEQUENCES, 1.0, np.minimum(np.ceil(walked / share), MOST_SPLITS))


def _filling_splits(rows: Array, walked: Array, slots: int) -> Array:
    """Fewest splits whose last round is nearly as full as that of the best number of splits."""
    splits = np.arange(1, MOST_SPLITS + 1)[None, :]
    waves = rows[:, None] * splits / slots
    steps = np.ceil(walked[:, None] / splits)
    useful = (splits == 1) | (steps != np.ceil(walked[:, None] / np.maximum(splits - 1, 1)))
    full = np.where(useful & (splits <= walked[:, None]), waves / np.ceil(waves), 0.0)
    chosen = (full >= SPLIT_SLACK * full.max(1, keepdims=True)).argmax(1) + 1.0
    return np.where(rows >= FULL_SHARE * slots, 1.0, chosen)


def _token_bytes(s: AttentionSizes, how: AttentionUse, element_bytes: float) -> Array:
    """Bytes of the keys and values of one token."""
    return s.kv_heads * (s.head_size + (0.0 if how.get("shared_values") else s.value_size)) * element_bytes


def _memory_s(machine: Machine, s: AttentionSizes, how: AttentionUse) -> Array:
    """Seconds on main memory: the cache as cold as other tensors leave it, what was just computed hot."""
    token = _token_bytes(s, how, how["kv_bytes"])
    fresh = s.batch * s.heads * s.queries * (s.head_size + s.value_size) * how["element_bytes"]
    fresh = fresh + s.batch * token * np.minimum(s.queries, s.seen)
    cached = s.batch * token * np.maximum(s.seen - s.queries, 0.0)
    missed = fresh * missing_share(fresh + cached, machine.cache_bytes)
    between = fresh + cached + how.get("reuse_bytes", 0.0)
    return _stream_s(machine, missed + cached * missing_share(between, machine.cache_bytes))


def _write_s(machine: Machine, s: AttentionSizes, how: AttentionUse, c: AttentionConstants) -> Array:
    """Seconds that new keys and values take into the cache, one thread block a token."""
    tokens = s.batch * s.queries
    moved = tokens * _token_bytes(s, how, how["element_bytes"] + how["kv_bytes"])
    width = np.minimum(s.kv_heads * s.head_size, WRITE_THREADS_ELEMENTS) / WRITE_THREADS_ELEMENTS
    working = moved + 2 * tokens * s.heads * s.head_size * how["element_bytes"]
    missed = moved * missing_share(working, machine.cache_bytes)
    return tokens * width * c.write_row_s / machine.units + c.write_passes * _stream_s(machine, missed)
