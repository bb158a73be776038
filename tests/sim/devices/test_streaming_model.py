"""Streaming kernels: limits with a closed form."""

import numpy as np
import pytest

from systolith_sim.devices.gemm import Machine
from systolith_sim.devices.streaming import KERNELS, EagerCall, StreamingKernel, streaming

MACHINE = Machine(100, 1e14, 1e12, 4e7, 2e-6, 0.5, 0.8, 5e10, 2e-7)


def seconds(kernel, elements, *, row_bytes=0.0, vector=1e13, call=None):
    terms = streaming(
        MACHINE, kernel, elements=elements, moved_bytes=4.0 * elements, row_bytes=row_bytes,
        vector_ops_per_s=vector, call=call,
    )  # fmt: skip
    return terms.total_s[0]


def test_cheap_kernels_move_bytes_at_the_sustained_rate():
    assert seconds(StreamingKernel(1.0), 1e9) == pytest.approx(4e9 / (0.8 * 1e12), rel=0.01)


def test_dear_kernels_are_bound_by_the_vector_units():
    assert seconds(StreamingKernel(400.0), 1e9) == pytest.approx(1e9 * 400 / 1e13, rel=0.01)


def test_a_small_tensor_stays_in_the_cache():
    cold = 4e6 / (0.8 * 1e12)
    assert seconds(StreamingKernel(1.0), 1e6) - MACHINE.launch_s < 0.2 * cold


def test_long_rows_are_read_again_from_memory():
    kernel = StreamingKernel(1.0, again=2.0)
    # 1,600 rows in flight: 8 kB rows fit the 40 MB cache, 256 kB rows do not
    short, long = seconds(kernel, 1e9, row_bytes=8e3), seconds(kernel, 1e9, row_bytes=2.56e5)
    assert long / short == pytest.approx(2.0, rel=0.02)


def test_an_eager_call_has_a_floor_and_hides_short_work():
    call = EagerCall(floor_s=5e-5, hidden_s=1e-5)
    assert seconds(StreamingKernel(1.0), 10.0, call=call) == pytest.approx(5e-5)
    assert seconds(StreamingKernel(400.0), 1e9, call=call) == pytest.approx(4e-5 + 0.04, rel=0.01)


def test_every_kind_grows_with_its_elements():
    for kind, kernel in KERNELS.items():
        times = [seconds(kernel, elements) for elements in 10.0 ** np.arange(2, 10)]
        assert (np.diff(times) > 0).all(), kind


@pytest.mark.parametrize(("row", "idle"), [(512, 1.0), (1024, 1.0), (1376, 2048 / 1376), (11008, 11264 / 11008)])
def test_the_last_round_of_a_block_over_its_row_counts_whole(row, idle):
    # 1,024 threads walk a row, one element each a round; 512 elements take a block of 512
    kernel = StreamingKernel(400.0, block_a_row=True)
    terms = streaming(
        MACHINE, kernel, elements=1e8, moved_bytes=4.0, row_elements=row, vector_ops_per_s=1e13
    )
    assert terms.compute_s == pytest.approx(1e8 * 400 / 1e13 * idle)
    without = streaming(MACHINE, kernel, elements=1e8, moved_bytes=4.0, vector_ops_per_s=1e13)
    assert without.compute_s == pytest.approx(1e8 * 400 / 1e13)
