"""Products on GPUs and TPUs: bounds that no machine breaks, limits with a closed form, published times."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from systolith_sim.devices.gemm import Machine, Terms, missing_share, smooth_maximum, tiled_gemm
from systolith_sim.devices.kernel import kernel_time
from systolith_sim.devices.library import find_device
from systolith_sim.devices.products import GemmSizes, machine_of
from systolith_sim.devices.quantized import BY_ROWS, QuantizedLibrary, quantized_gemm
from systolith_sim.devices.systolic import systolic_gemm

SIZES = st.integers(1, 5000)
MACHINE = Machine(100, 1e14, 1e12, 4e7, 2e-6, 0.8, 0.9, 5e10, 2e-7)


def gemm(*, batch=1, m, k, n) -> Terms:
    """A bf16 product on MACHINE, weights cold."""
    return tiled_gemm(MACHINE, batch=batch, m=m, k=k, n=n, input_bytes=2, weight_bytes=2, output_bytes=2)


def passes(machine, *, m, k, n) -> Terms:
    """A bf16 product on 128 x 128 arrays."""
    return systolic_gemm(
        machine, rows=128, cols=128, m=m, k=k, n=n, input_bytes=2, weight_bytes=2, output_bytes=2
    )


@settings(max_examples=60, deadline=None)
@given(m=SIZES, k=SIZES, n=SIZES)
def test_never_faster_than_the_roofline(m, k, n):
    seconds = gemm(m=m, k=k, n=n).total_s[0]
    weights_alone = 2 * k * n / MACHINE.bandwidth_bytes_per_s  # outputs may stay in the cache
    assert seconds >= max(2 * m * k * n / MACHINE.peak_ops_per_s, weights_alone) + MACHINE.launch_s * 0.999


@settings(max_examples=60, deadline=None)
@given(m=SIZES, k=SIZES, n=SIZES)
def test_more_work_is_never_faster(m, k, n):
    once = gemm(m=m, k=k, n=n).total_s[0]
    assert gemm(m=2 * m, k=k, n=2 * n).total_s[0] >= once * 0.999


def test_arrays_and_scalars_agree():
    m, k, n = np.array([1.0, 64, 3000]), np.array([4096.0, 777, 3000]), np.array([4096.0, 9, 3000])
    whole = gemm(m=m, k=k, n=n).total_s
    single = [gemm(m=m[i], k=k[i], n=n[i]).total_s[0] for i in range(3)]
    np.testing.assert_allclose(whole, single, rtol=1e-12)


def test_a_batch_of_one_column_of_tiles_is_one_wider_product():
    batch = gemm(batch=8, m=4096, k=4096, n=4096).total_s[0]
    wide = gemm(m=8 * 4096, k=4096, n=4096).total_s[0]
    assert batch == pytest.approx(wide, rel=0.02)


def test_long_streams_take_bytes_over_bandwidth():
    m, k, n = 1, 32768, 32768
    seconds = gemm(m=m, k=k, n=n).memory_s[0]
    assert seconds == pytest.approx(2 * k * n / (0.9 * 1e12), rel=0.01)


def test_cache_limits():
    assert missing_share(1e3, 4e7) < 1e-6
    assert missing_share(1e12, 4e7) > 1 - 1e-6
    assert missing_share(np.inf, 0.0) == 1.0
    assert smooth_maximum(3.0, 0.0, 3.0) == pytest.approx(3.0)


def test_an_undivided_cache_keeps_what_fits_and_a_divided_one_less():
    sizes: GemmSizes = {"m": 1, "k": 4096, "n": 2048, "input_bytes": 2, "weight_bytes": 2, "output_bytes": 2}
    cold = tiled_gemm(MACHINE, **sizes).memory_s[0]
    assert cold == pytest.approx(2 * 4096 * 2048 / (0.9 * 1e12), rel=0.01)
    for parts, half, double in ((1, 1e-4, 0.999), (2, 0.2, 0.99)):
        machine = replace(MACHINE, cache_parts=parts)
        fits, beyond = (
            tiled_gemm(machine, **{**sizes, "reuse_bytes": share * 4e7}).memory_s[0] for share in (0.5, 2.0)
        )
        assert fits / cold < half if parts == 1 else fits / cold > half
        assert beyond / cold > double


def test_without_a_split_the_loop_over_k_is_one_chain_of_steps():
    sizes: GemmSizes = {"m": 2, "k": 8192, "n": 32, "input_bytes": 2, "weight_bytes": 2, "output_bytes": 2}
    free = replace(MACHINE, peak_ops_per_s=1e18, feed_bytes_per_s=1e15, bandwidth_bytes_per_s=1e15)  # only latency
    seconds = tiled_gemm(replace(free, split_least=2.0**40), **sizes).total_s[0]
    assert seconds == pytest.approx(2e-6 + 8192 / 64 * 2e-7, rel=0.01)
    assert tiled_gemm(free, **sizes).total_s[0] < 0.5 * seconds


def test_a_library_leaves_skinny_products_whole_unless_they_are_deep():
    free = replace(MACHINE, peak_ops_per_s=1e18, feed_bytes_per_s=1e15, bandwidth_bytes_per_s=1e15)  # only latency
    own = replace(free, split_least_depth=2.0)

    def seconds(machine, m, k, n):
        return tiled_gemm(machine, m=m, k=k, n=n, input_bytes=2, weight_bytes=2, output_bytes=2).total_s[0]

    for m, n in ((8, 2048), (2048, 8)):
        assert seconds(own, m, 4032, n) == pytest.approx(2e-6 + 4032 / 64 * 2e-7, rel=0.01)  # one chain of steps
        assert seconds(own, m, 4096, n) == seconds(free, m, 4096, n) < 0.5 * seconds(own, m, 4032, n)
    assert seconds(own, 128, 512, 2048) == seconds(free, 128, 512, 2048)  # not skinny


def test_what_is_written_takes_more_room_in_an_undivided_cache():
    sizes: GemmSizes = {"m": 4096, "k": 64, "n": 4096, "input_bytes": 2, "weight_bytes": 2, "output_bytes": 2}
    written, rest = 2 * 4096 * 4096, 2 * 2 * 4096 * 64

    def memory_s(cache_bytes):
        return tiled_gemm(replace(MACHINE, cache_bytes=cache_bytes), **{**sizes, "reuse_bytes": 0.0}).memory_s[0]

    assert memory_s(1.2 * (written + rest)) > 0.5 * memory_s(1.0)
    assert memory_s(1.4 * (written + rest)) < 0.5 * memory_s(1.0)


def test_full_waves_of_large_tiles_run_at_the_sustained_rate():
    fast = replace(MACHINE, feed_bytes_per_s=1e13, k_step_s=0.0, wide=True)  # only multiplications count
    sizes: GemmSizes = {"m": 2560, "k": 8192, "n": 2560, "input_bytes": 2, "weight_bytes": 2, "output_bytes": 2}
    seconds = tiled_gemm(fast, **sizes).compute_s[0]
    # 100 units: 20 x 10 tiles of 128 x 256 are two whole waves
    assert seconds == pytest.approx(2 * 2560 * 8192 * 2560 / (0.8 * 1e14), rel=0.02)


@pytest.mark.parametrize("k", [512, 2048, 8192])
@pytest.mark.parametrize("hidden", [0.0, 0.25, 1.0])
def test_an_epilogue_hides_behind_the_next_tile_or_is_waited_for(k, hidden):
    """Two whole waves of 128 x 128 tiles: each multiplies, then stores its 32 kB as often as the constant says."""
    own = replace(MACHINE.tiles, tile_loss=0.0, epilogue=3.0, epilogue_hidden=hidden)
    sizes: GemmSizes = {"m": 2560, "k": k, "n": 1280, "input_bytes": 2, "weight_bytes": 2, "output_bytes": 2}
    fast = replace(MACHINE, k_step_s=0.0, bandwidth_bytes_per_s=1e18)  # no latency, no memory
    tile = np.array([[128, 128, 1]], float)
    seconds = tiled_gemm(fast, candidates=tile, constants=own, **sizes).total_s[0]
    multiply, operands, store = 2 * 128 * 128 * k / (0.8e12), 2 * 128 * 2 * k / 5e10, 3 * 2 * 128 * 128 / 5e10
    each = max(multiply, operands + hidden * store) + (1 - hidden) * store
    assert seconds == pytest.approx(2e-6 + 2 * each, rel=1e-3)


def test_a_tile_is_stored_whole_however_little_of_it_is_used():
    own = replace(MACHINE.tiles, vector_steps=0.0)
    fast = replace(MACHINE, k_step_s=0.0, bandwidth_bytes_per_s=1e18, feed_bytes_per_s=1e6)
    tile = np.array([[128, 128, 1]], float)
    sizes: GemmSizes = {"m": 1, "k": 32, "n": 1, "input_bytes": 0.0, "weight_bytes": 0.0, "output_bytes": 2}
    seconds = tiled_gemm(fast, candidates=tile, constants=own, **sizes).total_s[0]
    assert seconds == pytest.approx(2e-6 + own.epilogue * 2 * 128 * 128 / 1e6, rel=1e-3)


@pytest.mark.parametrize("m", [1, 64, 65, 129, 5000])
def test_eight_bits_cost_what_quantizing_and_a_product_cost(m):
    library = QuantizedLibrary(5e-6, 1.0, 1.0, 1e-10, BY_ROWS)
    sizes: GemmSizes = {"m": m, "k": 4096, "n": 512, "input_bytes": 1, "weight_bytes": 1, "output_bytes": 2}
    free = quantized_gemm(MACHINE, library, quantize_s_per_element=0.0, **sizes).total_s[0]
    paid = quantized_gemm(MACHINE, library, quantize_s_per_element=1e-11, **sizes).total_s[0]
    # One row's latency and all rows' throughput overlap: the root of their squares, against the latency alone.
    latency, rows = 1e-10 * 4096, 1e-11 * m * 4096
    assert paid - free == pytest.approx((latency**2 + rows**2) ** 0.5 - latency)
    assert free > 5e-6 + 4096e-10 + 2e-6 + 2 * m * 4096 * 512 / 1e14


def test_rows_of_one_table_may_take_different_tiles():
    library = QuantizedLibrary(0.0, 1.0, 1.0, 0.0, BY_ROWS)
    m = np.array([1.0, 64, 65, 128, 129, 4096])
    sizes: GemmSizes = {"m": m, "k": 2048, "n": 2048, "input_bytes": 1, "weight_bytes": 1, "output_bytes": 2}
    whole = quantized_gemm(MACHINE, library, quantize_s_per_element=0.0, **sizes).total_s
    single = [
        quantized_gemm(MACHINE, library, quantize_s_per_element=0.0, **{**sizes, "m": one}).total_s[0] for one in m
    ]
    np.testing.assert_allclose(whole, single, rtol=1e-12)


@pytest.mark.parametrize(
    ("device", "m", "published_s"),
    # PrincetonUniversity/LLMCompass, commit 2e015fd, ae/: fp16 m x 12288 x 12288 on A100, with 21 us of eager
    # launch that are taken off here. Not used in any fit; another library, so outside of the scored interval.
    [("a100-80", 128, 200.3e-6 - 21e-6), ("a100-80", 256, 318.5e-6 - 21e-6)],
)
def test_published_times_of_another_source(device, m, published_s, product):
    graph = product(m, 12288, 12288, "fp16")
    time = kernel_time(find_device(device), graph, graph.operations[0])
    assert time.seconds == pytest.approx(published_s, rel=0.35)


def test_systolic_passes_count_padded_tiles():
    machine = Machine(4, 4 * 2 * 128 * 128 * 1e9, 1e15, 0.0, 0.0, 1.0, 1.0, 1e15, 0.0)
    # 129 deep and wide is 2 x 2 tiles, one an array; 1 row streams as 8, a cycle each at 1 GHz
    seconds = passes(machine, m=1, k=129, n=129).compute_s[0]
    assert seconds == pytest.approx(8e-9)
    five = passes(machine, m=100, k=640, n=128).compute_s[0]
    assert five == pytest.approx(2 * 104e-9)


def test_tpu_v5e_streams_weights_at_its_bandwidth(product):
    graph = product(1, 8192, 8192)
    time = kernel_time(find_device("tpu-v5e"), graph, graph.operations[0])
    assert time.bound_by == "memory"
    assert time.seconds == pytest.approx(2 * 8192**2 / 819e9, rel=0.05)


def test_machine_numbers_come_from_the_file():
    machine = machine_of(find_device("h100-sxm"), "int8")
    assert (machine.units, machine.peak_ops_per_s, machine.cache_bytes) == (132, 1978.9e12, 52428800.0)
