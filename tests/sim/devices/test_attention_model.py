"""Attention on GPUs: limits with a closed form, pairs and blocks counted one by one."""

from dataclasses import replace
from math import ceil

import numpy as np
import pytest

from systolith_model.workload import decode_graph, prefill_graph
from systolith_model.zoo import architecture
from systolith_sim.devices.attention import (
    ATTENTION,
    AttentionFit,
    AttentionSizes,
    _even_splits,
    _filling_splits,
    _mean_blocks,
    attention,
    decode_operations,
)
from systolith_sim.devices.attention_library import FLASH2, FLASH3, LatentDecode
from systolith_sim.devices.gemm import Machine
from systolith_sim.devices.kernel import cost
from systolith_sim.devices.library import find_device

PEAK, RATE = 1e14, 1e12
MACHINE = Machine(100, PEAK, RATE, 4e7, 2e-6, 0.5, 0.9, 5e10, 2e-7)
FIT = AttentionFit(launch_s=5e-6, efficiency=0.5, start_s=1e-6)


def terms(*sizes, library=FLASH3, machine=MACHINE, **how):
    use = {"causal": True, "element_bytes": 2.0, "kv_bytes": 2.0, "writes_cache": False, **how}
    sizes = AttentionSizes.of(*sizes)
    return attention(machine, sizes, fit=FIT, library=library, vector_ops_per_s=1e15, **use)


@pytest.mark.parametrize("library", [FLASH2, FLASH3], ids=["flash2", "flash3"])
def test_long_prefill_takes_operations_over_rate(library):
    batch, heads, length, size = 4, 32, 32768, 128
    work = 4 * batch * heads * length * (length + 1) / 2 * size
    seconds = terms(batch, heads, heads, length, length, size, library=library).total_s[0]
    assert seconds == pytest.approx(work / (0.5 * PEAK), rel=0.04)


def test_causal_halves_a_long_prefill():
    causal = terms(8, 32, 8, 16384, 16384, 128).compute_s[0]
    full = terms(8, 32, 8, 16384, 16384, 128, causal=False).compute_s[0]
    assert full / causal == pytest.approx(2, rel=0.03)


def test_large_decode_streams_keys_and_values():
    batch, kv_heads, keys, size = 128, 8, 32768, 128
    moved = 2 * batch * kv_heads * keys * size * 2
    assert terms(batch, 32, kv_heads, 1, keys, size).memory_s[0] == pytest.approx(moved / (0.9 * RATE), rel=0.02)


def test_latent_values_are_read_with_their_keys():
    apart = terms(64, 128, 1, 1, 32768, 576, 512).memory_s[0]
    shared = terms(64, 128, 1, 1, 32768, 576, 512, shared_values=True).memory_s[0]
    assert apart / shared == pytest.approx((576 + 512) / 576, rel=0.02)


def test_window_bounds_decode_and_prefill():
    assert terms(1, 32, 8, 1, 65536, 128, 128, 4096).total_s == pytest.approx(terms(1, 32, 8, 1, 4096, 128).total_s)
    windowed = terms(1, 32, 8, 65536, 65536, 128, 128, 4096).compute_s[0]
    work = 4 * 32 * 65536 * 4096 * 128
    assert windowed == pytest.approx(work / (0.5 * PEAK), rel=0.08)


@pytest.mark.parametrize(("tokens", "queries", "before", "window"), [
    (128, 128, 0, np.inf), (128, 2048, 0, np.inf), (64, 2048, 0, np.inf), (32, 1024, 4096, np.inf),
    (2, 512, 0, np.inf), (128, 8192, 0, 1024.0),
])  # fmt: skip
def test_mean_blocks_are_counted_tile_by_tile(tokens, queries, before, window):
    keys = queries + before
    ends = [before + min((tile + 1) * tokens, queries) for tile in range(ceil(queries / tokens))]
    counted = np.mean([ceil(min(end, window + tokens) / 128) for end in ends])
    sizes = AttentionSizes.of(1, 1, 1, queries, keys, 128, 128, window)
    most = np.array([ceil(min(keys, window + tokens) / 128)], float)
    mean = _mean_blocks(sizes, np.array([float(tokens)]), np.array([128.0]), most)[0]
    assert mean == pytest.approx(counted, rel=0.06)


@pytest.mark.parametrize(
    ("rows", "blocks", "slots"), [(2, 8, 216), (64, 64, 216), (30, 5, 216), (200, 64, 216), (7, 3, 80)]
)
def test_filling_splits_follow_the_occupancy_rule(rows, blocks, slots):
    def share(splits):
        return rows * splits / slots / ceil(rows * splits / slots)

    allowed = [1, *(n for n in range(2, min(128, blocks) + 1) if ceil(blocks / n) != ceil(blocks / (n - 1)))]
    best = max(share(n) for n in allowed)
    expected = 1 if rows >= 0.8 * slots else next(n for n in allowed if share(n) >= 0.85 * best)
    assert _filling_splits(np.array([float(rows)]), np.array([float(blocks)]), slots)[0] == expected


def test_even_splits_share_the_blocks_and_stop_at_many_sequences():
    # 8 rows of 64 blocks over 132 units: ceil(1.1 * 512 / 132) = 5 blocks each, 13 splits
    assert _even_splits(np.array([8.0]), np.array([64.0]), np.array([1.0]), 132)[0] == 13
    assert _even_splits(np.array([8000.0]), np.array([64.0]), np.array([1000.0]), 132)[0] == 1


def test_splitting_keys_helps_a_single_sequence():
    sizes = (1, 8, 8, 1, 65536, 128)  # ungrouped: FlashAttention 2 does not split it
    lone = replace(FLASH2, lone_softmax=1.0, resident=1, query_tile=128)
    assert terms(*sizes).compute_s[0] < terms(*sizes, library=lone).compute_s[0] / 3


def test_cache_is_cold_after_other_tensors():
    sizes = (1, 32, 8, 1, 2048, 128)  # 8 MB, well inside the 40 MB cache
    hot, cold = terms(*sizes).memory_s[0], terms(*sizes, reuse_bytes=1e10).memory_s[0]
    assert hot < 0.02 * cold
    assert cold == pytest.approx(2 * 8 * 2048 * 128 * 2 / (0.9 * RATE), rel=0.02)


def test_writing_the_cache_adds_a_kernel():
    sizes = (1, 32, 8, 4096, 4096, 128)
    without, written = terms(*sizes), terms(*sizes, writes_cache=True)
    assert written.launch_s[0] - without.launch_s[0] == pytest.approx(MACHINE.launch_s)
    assert written.total_s[0] > without.total_s[0] + MACHINE.launch_s


@pytest.mark.parametrize("library", [FLASH2, FLASH3], ids=["flash2", "flash3"])
def test_more_keys_are_hardly_faster(library):
    keys = 2 ** np.arange(1, 17)
    ones = np.ones_like(keys)
    seconds = terms(ones, 32 * ones, 8 * ones, ones, keys, 128 * ones, library=library).total_s
    assert (np.diff(seconds) >= -1e-7).all()


def test_latent_decode_before_hopper_reads_the_cache_once_for_every_sixteen_heads():
    """64 sequences of 8,192 keys: four splits of 64 blocks of 32, on 100 units 3 rounds for 16 heads, 21 for 128."""
    library = replace(FLASH2, latent=LatentDecode(4e-4))
    few, many = (
        terms(64, heads, 1, 1, 8192, 576, 512, library=library, shared_values=True).compute_s[0] for heads in (16, 128)
    )
    assert few == pytest.approx(3 * 64 * 4e-4, rel=0.01)
    assert many == pytest.approx(21 * 64 * 4e-4, rel=0.01)


def test_flash_attention_2_multiplies_values_padded_to_their_keys():
    """Heads of 192 with values of 128 cost what values of 192 do, and 320 / 384 of it where nothing is padded."""
    sizes = (4, 32, 32, 32768, 32768, 192)
    narrow, whole = (terms(*sizes, value, library=FLASH2).compute_s[0] for value in (128, 192))
    assert narrow == whole
    unpadded = terms(*sizes, 128, library=replace(FLASH2, pads_values=False)).compute_s[0]
    assert unpadded == pytest.approx(whole * 320 / 384, rel=0.03)


@pytest.mark.parametrize(
    ("library", "heads", "kv_heads", "size", "window", "rows"),
    [
        (FLASH3, 32, 8, 128, np.inf, 128),  # four queries share keys: 124 rows of the tile are empty
        (FLASH2, 32, 8, 128, np.inf, 64),
        (FLASH3, 32, 8, 64, np.inf, 128),  # its tile of small heads holds 192 in prefill alone
        (FLASH2, 128, 1, 128, np.inf, 128),  # 128 queries fill two tiles of 64
        (FLASH3, 32, 8, 128, 300, 128),
    ],
)
def test_a_decode_multiplies_whole_tiles(library, heads, kv_heads, size, window, rows):
    """Two products of the tile's rows with the keys that are seen, two operations a multiply-accumulate."""
    batch, keys = 3, 1000
    sizes = AttentionSizes.of(batch, heads, kv_heads, 1, keys, size, size, window)
    seen = min(keys, window)
    assert decode_operations(sizes, library)[0] == 4 * batch * kv_heads * rows * seen * size


def test_padding_is_that_of_decode_on_gpus():
    shape = architecture("llama-3-8b")
    decode, prompt = decode_graph(shape, context=1023, batch=2), prefill_graph(shape, prompt=64)
    costs = {operation.kind: time for operation, time in cost(find_device("h100-sxm"), decode)}
    # 8 key-value heads of 32: each tile of 128 rows holds 4 queries, over the 1024 keys seen
    assert costs["attention"].padding_flops == 4 * 2 * 8 * (128 - 4) * 1024 * 128
    assert costs["matmul"].padding_flops == 0
    for device, graph in (("h100-sxm", prompt), ("epyc-9654", decode), ("tpu-v5e", decode)):
        assert not any(time.padding_flops for _, time in cost(find_device(device), graph))


def test_few_tiles_of_a_prefill_have_their_keys_split():
    """One tile of 128 queries walks 512 blocks: on 100 units 86 parts of at most ceil(1.1 x 5.12), merged in fp32."""
    free = replace(FLASH3, combine_s=0.0, combine_split_s=0.0)
    block = 2 * 128 * 128 * 256 / (0.5 * PEAK / 100) + ATTENTION.softmax_ops * 128 * 128 / (1e15 / 100)
    split = terms(1, 1, 1, 128, 65536, 128, library=free, causal=False).compute_s[0]
    merging = ATTENTION.merge_ops * 4 * 86 * 128 * 128 / PEAK
    assert split == pytest.approx(6 * block + merging, abs=2e-6)  # beside it: the start, and reading the queries
    assert split < 512 * block / 20
    many = terms(64, 32, 32, 128, 4096, 128, library=free, causal=False).compute_s[0]
    unsplit = terms(64, 32, 32, 128, 4096, 128, library=replace(free, splits="filling"), causal=False).compute_s[0]
    assert many == unsplit


@pytest.mark.parametrize(("device", "decode", "unseen"), [
    ("h100-sxm", True, True), ("h100-sxm", False, True), ("a100-80", False, True), ("a100-80", True, False),
])  # fmt: skip
def test_latent_attention_of_a_graph_says_what_was_never_scored(device, decode, unseen):
    shape = architecture("deepseek-v3")
    graph = decode_graph(shape, context=1023) if decode else prefill_graph(shape, prompt=64)
    said = {time.error_source for operation, time in cost(find_device(device), graph) if operation.kind == "attention"}
    assert said
    assert all(("latent attention not scored" in source) == unseen for source in said)
