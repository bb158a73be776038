"""Attention on GPUs: limits with a closed form, and pairs counted exactly."""

import numpy as np
import pytest

from systolith_sim.devices.attention import AttentionLibrary, AttentionSizes, attention
from systolith_sim.devices.gemm import Machine

MACHINE = Machine(100, 1e14, 1e12, 4e7, 5e-6, 0.5, 0.9, 5e10, 2e-7)
FUSED = AttentionLibrary(packs_groups=True, splits_ungrouped=True, cache_passes=1.0)


def terms(*sizes, causal=True, library=FUSED):
    return attention(
        MACHINE, AttentionSizes.of(*sizes), causal=causal, element_bytes=2, kv_bytes=2, library=library
    )  # fmt: skip


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (5, 5), (3, 10), (128, 512)])
def test_visited_keys_are_counted_pairs(queries, keys):
    pairs = sum(keys - (queries - 1 - query) for query in range(queries))
    sizes = AttentionSizes.of(1, 1, 1, queries, keys, 64)
    assert sizes.visited_keys(True)[0] * queries == pytest.approx(pairs)
    assert sizes.visited_keys(False)[0] == keys


def test_long_prefill_takes_operations_over_rate():
    batch, heads, length, size = 4, 32, 32768, 128
    work = 4 * batch * heads * length * (length + 1) / 2 * size
    assert terms(batch, heads, heads, length, length, size).total_s[0] == pytest.approx(
        work / (0.5 * 1e14), rel=0.02
    )


def test_causal_halves_a_long_prefill():
    causal = terms(8, 32, 8, 16384, 16384, 128).compute_s[0]
    full = terms(8, 32, 8, 16384, 16384, 128, causal=False).compute_s[0]
    assert full / causal == pytest.approx(2, rel=0.03)


def test_large_decode_streams_keys_and_values():
    batch, kv_heads, keys, size = 128, 8, 32768, 128
    moved = 2 * batch * kv_heads * keys * size * 2
    assert terms(batch, 32, kv_heads, 1, keys, size).memory_s[0] == pytest.approx(moved / 0.9e12, rel=0.02)


def test_splitting_keys_helps_a_single_sequence():
    unsplit = AttentionLibrary(packs_groups=False, splits_ungrouped=False, cache_passes=1.0)
    sizes = (1, 8, 8, 1, 65536, 128)
    assert terms(*sizes).compute_s[0] < terms(*sizes, library=unsplit).compute_s[0] / 3


def test_more_keys_are_never_faster():
    keys = 2 ** np.arange(1, 17)
    ones = np.ones_like(keys)
    seconds = terms(ones, 32 * ones, 8 * ones, ones, keys, 128 * ones).total_s
    assert (np.diff(seconds) >= -1e-12).all()
