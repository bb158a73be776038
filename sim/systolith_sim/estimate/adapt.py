"""Kernels of a module or a training step as a framework, a layout and a board's power limit change them."""

from dataclasses import dataclass, replace

from systolith_model.formats import BITS
from systolith_model.graph import Graph, Operation, Tensor, flops
from systolith_sim.devices.alignment import unaligned_s
from systolith_sim.devices.device import Device
from systolith_sim.devices.kernel import kernel_time
from systolith_sim.estimate.passes import Kernel, Pass

BACKWARD_RATE = 1.15
"""How much slower an operation of the backward pass of fused attention is than one of the forward pass: 73 % of the
peak forward, 63 % backward on A100 (Dao, FlashAttention-2, arXiv 2307.08691, section 4.1)."""
RANDOM_SIZE = 8192
"""Rows, columns and depth of the product that a device's ``power.random_ops_per_s`` speaks of."""
LIMITED = ("bf16", "fp16")
"""Formats of products that the limit of that one holds for."""


@dataclass(frozen=True)
class PowerLimit:
    """What a board's power limit makes of products of real numbers, measured on one product.

    At full clock the power beyond the idle one goes with a product's rate, and with the cube of the clock (C V^2 f,
    the voltage following the clock). Under the limit the clock thus goes with the rate to the power -1/3, and a
    product slow enough keeps it: on A100 below 0.71 of the rate of the one measured. The clock is taken to settle for
    each product.
    """

    factor: float
    """Of the measured product: time with real numbers over time without the limit."""
    ops_per_s: float
    """Its rate without the limit."""

    def slowdown(self, kernel: Kernel) -> float:
        """Factor on the time of a product; at least 1.

        >>> from types import SimpleNamespace
        >>> kernel = SimpleNamespace(time=SimpleNamespace(flops=729, seconds=1.0))
        >>> round(PowerLimit(factor=1.25, ops_per_s=1000.0).slowdown(kernel), 4)
        1.125
        """
        rate = kernel.time.flops / kernel.time.seconds
        return max(1.0, self.factor * (rate / self.ops_per_s) ** (1 / 3))


def power_limit(device: Device) -> PowerLimit | None:
    """How real numbers slow products on a device; None where nobody measured it.

    Tables of products are taken with unfilled weights, mostly zeros, which draw less power and run at a higher clock.
    The factor is the model's rate, fitted to such a table, over the measured rate with random numbers, for the same
    product.
    """
    measured = device.power.random_ops_per_s
    if measured is None:
        return None
    shape = (RANDOM_SIZE, RANDOM_SIZE)
    tensors = {
        name: Tensor(name=name, shape=shape, format="bf16", constant=name == "w") for name in ("a", "w", "out")
    }
    product = Operation(name="random", kind="matmul", inputs=("a", "w"), outputs=("out",))
    graph = Graph(name="random", tensors=tensors, operations=(product,))
    modelled = flops(graph, product) / kernel_time(device, graph, product).seconds
    return PowerLimit(max(1.0, modelled / measured.value), modelled)


def power_source(device: Device, limit: PowerLimit | None) -> dict[str, str]:
    """What provenance says of the limit; nothing where nobody measured it."""
    measured = device.power.random_ops_per_s
    if measured is None or limit is None:
        return {}
    how = f"large products take {limit.factor:.3f} times as long as with the unfilled weights of their table"
    return {"power": f"{how}, slower ones less: {device.cite(measured)}"}


def slowed(kernel: Kernel, limit: PowerLimit | None) -> Kernel:
    """The kernel at a lower clock: its products take longer, but no longer than its bytes do at the old one.

    Products in other than 16 bits, whose power nobody measured against theirs, keep their time.
    """
    if limit is None or kernel.time.format not in LIMITED:
        return kernel
    time, factor = kernel.time, limit.slowdown(kernel)
    more = max(0.0, factor * time.compute_seconds - max(time.compute_seconds, time.memory_seconds))
    ratio = 1 + more / time.seconds
    longer = {name: getattr(time, name) * ratio for name in ("seconds", "low", "high")}
    return replace(kernel, time=replace(time, compute_seconds=factor * time.compute_seconds, **longer))


def limited(work: Pass, limit: PowerLimit | None) -> Pass:
    """A pass of real numbers, long enough for the board's limit of power to set the clock of its products."""
    if limit is None:
        return work
    return Pass(tuple(slowed(one, limit) if one.operation.kind == "matmul" else one for one in work.kernels))


def unaligned(graph: Graph, kernel: Kernel, device: Device) -> Kernel:
    """The product by kernels that load element by element, where its rows need them."""
    time = kernel.time
    more = time.launch_seconds + unaligned_s(device, graph, kernel.operation) - time.seconds
    if more <= 0:
        return kernel
    ratio = 1 + more / time.seconds
    longer = {name: getattr(time, name) * ratio for name in ("seconds", "low", "high")}
    compute = time.seconds + more - time.launch_seconds
    return replace(kernel, time=replace(time, compute_seconds=compute, **longer))


def of_backward_attention(graph: Graph, kernel: Kernel) -> Kernel:
    """A kernel of fused attention's backward pass, costed as the forward one that its sizes are of."""
    operation = kernel.operation
    ahead = replace(operation, attributes={**operation.attributes, "backward": False})
    return scaled(kernel, BACKWARD_RATE * flops(graph, operation) / flops(graph, ahead))


def scaled(kernel: Kernel, factor: float) -> Kernel:
    """The kernel with ``factor`` times its work, its launch unchanged."""
    time = kernel.time

    def longer(seconds: float) -> float:
        return time.launch_seconds + factor * max(0.0, seconds - time.launch_seconds)

    scaled_time = replace(
        time,
        seconds=longer(time.seconds),
        low=longer(time.low),
        high=longer(time.high),
        flops=round(factor * time.flops),
        bytes=round(factor * time.bytes),
    )
    return replace(kernel, time=scaled_time)


def accumulating(graph: Graph, kernel: Kernel, device: Device) -> Kernel:
    """The kernel of a weight's gradient that is added to those of the micro-batches before: it reads them too."""
    size = sum(tensor.bytes for tensor in graph.outputs_of(kernel.operation))
    return _reading(kernel, size, size / device.main_memory.bandwidth_bytes_per_s.value)


def with_passes(graph: Graph, kernel: Kernel, pass_bytes: float) -> Kernel:
    """The optimizer's kernel and passes of ``pass_bytes`` a parameter, at the rate that it moves its own bytes."""
    time = kernel.time
    gradients = graph.inputs_of(kernel.operation)[0]
    moved = pass_bytes * gradients.bytes * 8 / BITS[gradients.format]
    return _reading(kernel, round(moved), moved / time.bytes * (time.seconds - time.launch_seconds))


def _reading(kernel: Kernel, size: int, seconds: float) -> Kernel:
    """The kernel with so many bytes and seconds more."""
    time = kernel.time
    longer = {name: getattr(time, name) + seconds for name in ("seconds", "low", "high", "memory_seconds")}
    return replace(kernel, time=replace(time, bytes=time.bytes + size, **longer))
