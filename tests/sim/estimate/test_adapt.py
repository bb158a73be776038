"""Kernels of a training step as power and passes change them."""

import pytest

from systolith_model.graph import Graph, Operation, Tensor
from systolith_sim.devices.kernel import kernel_time
from systolith_sim.devices.library import find_device
from systolith_sim.estimate.adapt import PowerLimit, power_limit, slowed, with_passes
from systolith_sim.estimate.passes import Kernel


def product(size, device):
    tensors = {
        name: Tensor(name=name, shape=(size, size), format="bf16", constant=name == "w") for name in ("a", "w", "out")
    }
    operation = Operation(name="product", kind="matmul", inputs=("a", "w"), outputs=("out",))
    graph = Graph(name="product", tensors=tensors, operations=(operation,))
    return Kernel(operation, kernel_time(device, graph, operation), 1.0)


def test_a_large_product_of_random_numbers_takes_what_was_measured():
    """8192 x 8192 x 8192 on A100: 257 teraFLOP/s (Horace He, thonking.ai, 2024)."""
    device = find_device("a100-80")
    kernel = slowed(product(8192, device), power_limit(device))
    assert 2 * 8192**3 / kernel.time.seconds == pytest.approx(257e12, rel=0.01)
    assert kernel.time.low < kernel.time.seconds < kernel.time.high


def test_a_product_bound_by_memory_keeps_its_time():
    device = find_device("a100-80")
    small = product(128, device)
    rate = small.time.flops / small.time.seconds
    assert slowed(small, PowerLimit(1.1, rate)).time.seconds <= 1.1 * small.time.seconds
    assert slowed(small, None) == small


def test_the_clock_meets_the_power_limit():
    """Utilization times the cube of the clock is the limit's for every product that is slowed, and no other is."""
    device = find_device("a100-80")
    limit = power_limit(device)
    assert limit is not None
    least = limit.ops_per_s * (1 / limit.factor) ** 3
    for size in (512, 2048, 4096, 6144, 8192):
        kernel = product(size, device)
        rate, slower = kernel.time.flops / kernel.time.seconds, limit.slowdown(kernel)
        assert slower == 1 if rate < least else rate * (1 / slower) ** 3 == pytest.approx(least)


def test_power_is_left_alone_where_nobody_measured_it():
    assert power_limit(find_device("tpu-v5e")) is None


def test_passes_move_their_bytes_at_the_optimizers_rate():
    """Two tensors of 1e8 fp32 numbers and 8 bytes a parameter more: twice the bytes, twice the time but the launch."""
    device = find_device("a100-80")
    tensors = {name: Tensor(name=name, shape=(100_000_000,), format="fp32") for name in ("gradients", "out")}
    operation = Operation(name="optimizer.sgd", kind="elementwise", inputs=("gradients",), outputs=("out",))
    graph = Graph(name="step", tensors=tensors, operations=(operation,))
    time = kernel_time(device, graph, operation)
    more = with_passes(graph, Kernel(operation, time, 1.0), 8).time
    assert more.bytes == 2 * time.bytes == 16e8
    assert more.seconds == pytest.approx(2 * time.seconds - time.launch_seconds)
