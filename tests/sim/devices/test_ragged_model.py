"""Attention over a cache on a TPU: limits with a closed form, and where the graph takes it."""

import pytest

from systolith_model.workload.inference import decode_graph
from systolith_model.zoo import architecture
from systolith_sim.devices.attention import AttentionSizes
from systolith_sim.devices.gemm import Machine
from systolith_sim.devices.kernel import kernel_time
from systolith_sim.devices.library import find_device
from systolith_sim.devices.ragged import RAGGED, RaggedFit, ragged_attention

PEAK, RATE = 1e15, 1e12
MACHINE = Machine(2, PEAK, RATE, 1e8, 1e-6, 0.9, 0.9, 1e13, 0.0)
FIT = RaggedFit(launch_s=5e-6, efficiency=0.05, start_s=2e-6, stream_share=0.25)


def seconds(*sizes, causal=True):
    return ragged_attention(
        MACHINE, AttentionSizes.of(*sizes), FIT, causal=causal, kv_bytes=2.0
    ).total_s[0]


def test_decode_streams_the_cache_of_each_sequence():
    batch, keys = 64, 16384
    cache_s = batch * 2 * 8 * 128 * keys * 2 / (0.25 * RATE)
    assert seconds(batch, 32, 8, 1, keys, 128) == pytest.approx(5e-6 + batch * 2e-6 + cache_s, rel=1e-3)


def test_prefill_is_bound_by_its_scores():
    length = 32768
    scores_s = 4 * 32 * length * (length + 1) / 2 * 128 / (0.05 * PEAK)
    assert seconds(1, 32, 8, length, length, 128) == pytest.approx(scores_s, rel=0.01)
    assert seconds(1, 32, 8, length, length, 128, causal=False) == pytest.approx(2 * scores_s, rel=0.01)


def test_few_cached_tokens_stream_in_smaller_blocks():
    few, many = (seconds(1, 32, 8, 1, keys, 128) - 7e-6 for keys in (6999, 7001))
    assert many / few == pytest.approx(RAGGED.small_share, rel=1e-3)


def test_a_window_bounds_the_keys():
    far = ragged_attention(
        MACHINE, AttentionSizes.of(64, 32, 8, 1, 16384, 128, None, 1024), FIT, causal=True, kv_bytes=2.0
    )
    assert far.total_s[0] == pytest.approx(5e-6 + 64 * (2e-6 + 4096 * 1024 / (0.25 * RATE)), rel=1e-3)


def test_a_step_on_a_tpu_takes_the_kernel_over_the_cache():
    """Llama-3.1-8B, 64 sequences of 1,024 cached tokens: 4 KiB a token at 0.29 of 1.64 TB/s."""
    graph = decode_graph(architecture("llama-3.1-8b"), context=1024, batch=64)
    attention = next(operation for operation in graph if operation.kind == "attention")
    found = kernel_time(find_device("tpu-v6e"), graph, attention)
    assert found.seconds == pytest.approx(64 * (4096 * 1024 / (0.2892 * 1.64e12) + 2.22e-6), rel=0.05)
    assert "TPU v6e attention" in found.error_source
