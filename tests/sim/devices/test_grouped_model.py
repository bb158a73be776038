"""Grouped products: limits with a closed form, and what the graph's routed experts come to."""

from dataclasses import replace

import numpy as np
import pytest

from systolith_model.workload.inference import forward_graph
from systolith_model.zoo import architecture
from systolith_sim.devices.device import Device
from systolith_sim.devices.gemm import Machine, Terms
from systolith_sim.devices.grouped import HEIGHTS, VLLM, GroupedLibrary, Routing, grouped_gemm, library_on
from systolith_sim.devices.kernel import kernel_time
from systolith_sim.devices.library import find_device

MACHINE = Machine(100, 1e14, 1e12, 4e7, 2e-6, 0.8, 0.9, 5e10, 2e-7)
UNIT_OPS_PER_S = 0.8 * 1e14 / 100
PLAIN = replace(
    VLLM, rate_share=1.0, bandwidth_share=1.0, sharpness=40.0, step_share=1e-3, gather_loss=0.0, tuned=frozenset()
)
"""Nothing is lost, the longer of multiplications and memory counts alone."""


def seconds(routing: Routing, *, k: int, n: int, library: GroupedLibrary = PLAIN, gathered=0.0) -> Terms:
    return grouped_gemm(
        MACHINE, library, routing, k=k, n=n, width=n, gathered_bytes=gathered, reuse_bytes=np.inf
    )


def test_one_expert_is_a_dense_product_in_whole_waves_of_tiles():
    rows, k, n = 64 * 50, 4096, 64 * 20  # a thousand tiles of 64 x 64: ten on each unit
    terms = seconds(Routing.even(rows=rows, active=1, tokens=rows, held=1), k=k, n=n)
    assert terms.total_s[0] == pytest.approx(2e-6 + 10 * 2 * 64 * 64 * k / UNIT_OPS_PER_S, rel=1e-3)


def test_all_rows_on_one_expert_read_one_matrix_and_rows_apart_one_each():
    k, n = 8192, 8192
    together = seconds(Routing.even(rows=16, active=1, tokens=16, held=64), k=k, n=n)
    apart = seconds(Routing.even(rows=16, active=16, tokens=16, held=64), k=k, n=n)
    matrix_s = 2 * k * n / (0.9 * 1e12)
    assert together.total_s[0] == pytest.approx(2e-6 + matrix_s, rel=0.01)
    assert apart.total_s[0] == pytest.approx(2e-6 + 16 * matrix_s, rel=0.01)


def test_rows_are_padded_to_whole_tiles_for_each_expert():
    """65 rows of each of 10 experts take two tiles of 64, as 128 rows do."""
    padded, full = (
        seconds(Routing.even(rows=10 * each, active=10, tokens=1000, held=10), k=4096, n=6400).compute_s[0]
        for each in (65, 128)
    )
    assert padded == pytest.approx(full)
    assert Routing.even(rows=650, active=10, tokens=650, held=10).tiles == {
        height: [10 * -(-65 // height)] for height in HEIGHTS
    }


def test_no_rows_cost_a_launch():
    terms = seconds(Routing.even(rows=0, active=0, tokens=8, held=8), k=4096, n=4096)
    assert terms.total_s[0] == pytest.approx(2e-6)


def test_gathering_from_far_slows_the_share_that_lies_outside():
    library = replace(PLAIN, gather_loss=0.5, gather_reach_bytes=1e8)
    routing = Routing.even(rows=64 * 50, active=1, tokens=3200, held=1)
    near, far = (seconds(routing, k=4096, n=1280, library=library, gathered=size) for size in (1e8, 4e8))
    assert far.compute_s[0] == pytest.approx(near.compute_s[0] * (1 + 0.5 * 0.75), rel=1e-3)


def test_a_tuned_shape_takes_larger_tiles():
    routing = Routing.even(rows=8 * 1024, active=8, tokens=8192, held=8)
    plain, tuned = (
        seconds(routing, k=4096, n=4096, library=replace(VLLM, tuned=known)).total_s[0]
        for known in (frozenset(), frozenset({(8, 4096)}))
    )
    assert tuned < plain


def test_tuned_shapes_are_those_of_the_device():
    """The release has a file for 8 experts of 14336 on H200, for none on GeForce."""
    assert (8, 14336) in library_on("h200").tuned
    assert (8, 14336) not in library_on("a100-80").tuned
    assert not library_on("rtx-4090").tuned


def test_depths_that_do_not_align_are_slower():
    routing = Routing.even(rows=64 * 50, active=1, tokens=3200, held=1)
    even, odd = (seconds(routing, k=k, n=1280).compute_s[0] for k in (4096, 4088))
    # 128 elements a step of depth 1, each read alone, beside 2 x 64 x 64 operations
    assert odd / even == pytest.approx(1 + PLAIN.unaligned_s * 128 * UNIT_OPS_PER_S / 8192, rel=1e-3)


def _experts(name: str, tokens: int, device: Device) -> list[float]:
    graph = forward_graph(architecture(name), tokens=tokens, fused=True)
    return [
        kernel_time(device, graph, operation).seconds for operation in graph if operation.attributes.get("grouped")
    ]


def test_decode_of_a_sparse_model_reads_its_active_experts():
    """Mixtral 8x7B, one token: two experts of three matrices 4096 x 14336, near the bandwidth of main memory."""
    found = sum(_experts("mixtral-8x7b", 1, find_device("a100-80")))
    weights_s = 2 * 3 * 4096 * 14336 * 2 / 2.039e12
    assert weights_s < found < 1.5 * weights_s


def test_the_interval_of_routed_experts_is_their_own():
    graph = forward_graph(architecture("mixtral-8x7b"), tokens=64, fused=True)
    up = next(operation for operation in graph if operation.attributes.get("grouped"))
    router = next(operation for operation in graph if operation.name.endswith("router"))
    device = find_device("a100-80")
    assert "MoE table" in kernel_time(device, graph, up).error_source
    assert "MoE table" not in kernel_time(device, graph, router).error_source
    assert "to the power 2" in kernel_time(find_device("h100-sxm"), graph, up).error_source


def test_a_gpu_without_matrix_units_multiplies_rows_one_by_one():
    device = find_device("m3-ultra")
    assert device.peak_ops_per_s["fp16"] == device.peak_ops_per_s["fp32"]
    graph = forward_graph(architecture("mixtral-8x7b"), tokens=1, fused=True)
    up = next(operation for operation in graph if operation.attributes.get("grouped"))
    assert "MoE table" not in kernel_time(device, graph, up).error_source
