"""A calibrated machine: seconds of operations from curves measured on it, at other sizes.

A product (m, k) by (k, n) costs its start and, for each of its k n weights, seconds that depend on m and on the level
of memory the weights come from; from main memory also on k and on n. Norms, rotations, activations and additions are
curves over elements; attention without a fused kernel is one over the scores, for two head sizes, and one over the
keys of a decode step.
"""

from collections.abc import Sequence

import numpy as np

from systolith_model.formats import Format
from systolith_model.graph import Graph, MatmulShape, Operation, flops, matmul_shape
from systolith_sim.devices.device import Curve, Device, KernelParameters, Operator
from systolith_sim.devices.gemm import Terms, missing_share

LEVELS = ("l2", "l3", "main")
"""Levels that weights come from, nearest first."""
HEAD_SIZES = (64, 128)
"""Head sizes that prefill attention is measured at."""
COLD = "cold"
"""Last word of a curve's name that was measured with nothing in the caches: what reads a cache of keys and values."""
Part = tuple[str, float]
"""A curve's name and the size to read it at."""


def interpolate(curve: Curve, size: float) -> float:
    """Seconds at a size: a power law between neighbours, the first value below, the last slope above.

    >>> interpolate(Curve(at=(1.0, 4.0), seconds=(1.0, 2.0), source=""), 16.0)
    4.0
    """
    at, seconds = np.log(curve.at), np.log(curve.seconds)
    where = float(np.log(size))
    if len(at) > 1 and where > at[-1]:
        slope = (seconds[-1] - seconds[-2]) / (at[-1] - at[-2])
        return float(np.exp(seconds[-1] + slope * (where - at[-1])))
    return float(np.exp(np.interp(where, at, seconds)))


def curve_terms(
    device: Device, parameters: KernelParameters, graph: Graph, operation: Operation, numbers: Format, reuse: float
) -> tuple[Operator, Terms] | None:
    """Cost of an operation from the curves; None where none was measured for its kind and format."""
    if operation.kind == "matmul":
        return _product(device, parameters, graph, operation, numbers, reuse)
    if operation.kind == "attention":
        return _attention(parameters, graph, operation, numbers, _cold_share(device, reuse))
    parts = [(f"{name}.{numbers}", size) for name, size in _streams(graph, operation)]
    if not parts or any(name not in parameters.curves for name, _ in parts):
        return None
    total, start = _sum(parameters, numbers, parts, _cold_share(device, reuse))
    return "streaming", Terms(*(np.asarray(part) for part in (total, start, 0.0, total - start)))


def product_s(
    parameters: KernelParameters, numbers: Format, sizes: Sequence[tuple[str, float]], shape: MatmulShape,
    working_set_bytes: float,
) -> float:
    """Seconds of a product without its start.

    Parameters
    ----------
    sizes : sequence of (name, bytes)
        Levels of memory, nearest first; the last takes what no other holds.
    working_set_bytes : float
        Passes before the same weights are read again.
    """  # fmt: skip
    known = [(size, f"product.{numbers}.{name}") for name, size in sizes
             if f"product.{numbers}.{name}" in parameters.curves]  # fmt: skip
    weight_s, share = 0.0, 1.0
    for size, name in known[:-1]:
        missed = float(missing_share(working_set_bytes, size))
        weight_s += share * (1 - missed) * interpolate(parameters.curves[name], shape.m)
        share *= missed
    return shape.batch * shape.k * shape.n * (weight_s + share * _weight_s(parameters, known[-1][1], shape))


def _weight_s(parameters: KernelParameters, name: str, shape: MatmulShape) -> float:
    """Seconds of a weight by a curve, times what its neighbours of other k and of other n say of each.

    What slows weights of more k and of more n is taken to be the same, their size, and counts once.
    """
    curve = parameters.curves[name]
    own = interpolate(curve, shape.m)
    factors, larger = [1.0], [1.0]
    for axis, (letter, size) in enumerate((("k", shape.k), ("n", shape.n))):
        sides = [side for other, side in parameters.curves.items() if other.startswith(f"{name}.{letter}")]
        points = [(one.weights[axis], interpolate(one, shape.m) / own) for one in (curve, *sides) if one.weights]
        if points:
            at, ratios = zip(*sorted(points), strict=True)
            factor = float(np.exp(np.interp(np.log(size), np.log(at), np.log(ratios))))
            slower = factor > 1 and curve.weights is not None and size > curve.weights[axis]
            (larger if slower else factors).append(factor)
    return own * float(np.prod(factors)) * max(larger)


def level_sizes(device: Device) -> list[tuple[str, float]]:
    """Levels that products were measured at, nearest first."""
    return [(name, device.memories[name].size_bytes.value) for name in LEVELS if name in device.memories]


def _product(
    device: Device, parameters: KernelParameters, graph: Graph, operation: Operation, numbers: Format, reuse: float
) -> tuple[Operator, Terms] | None:
    if f"product.{numbers}.main" not in parameters.curves:
        return None
    shape = matmul_shape(graph, operation)
    a, w = graph.inputs_of(operation)[:2]
    moved = a.bytes + w.bytes + sum(tensor.bytes for tensor in graph.outputs_of(operation))
    working = (reuse if w.constant else w.bytes) + moved - w.bytes
    body = product_s(parameters, numbers, level_sizes(device), shape, max(working, moved))
    special = parameters.formats.get(numbers)
    launch = (special.launch_s if special and special.launch_s else parameters.launch_s).value
    start = launch * _factor(parameters, numbers)
    compute = 2 * shape.macs / device.peak_ops_per_s[numbers].value
    memory = body if compute < body / 2 else 0.0
    return "matmul", Terms(*(np.asarray(part) for part in (start + body, start, compute, memory)))


def _attention(
    parameters: KernelParameters, graph: Graph, operation: Operation, numbers: Format, cold: float
) -> tuple[Operator, Terms] | None:
    q, k = graph.inputs_of(operation)[:2]
    batch, heads, queries, size = q.shape
    keys = k.shape[-2]
    decode = f"attention.{numbers}.decode"
    sides = [f"attention.{numbers}.{head}" for head in HEAD_SIZES]
    if any(name not in parameters.curves for name in (decode, *sides)):
        return None
    if queries == 1:
        total, start = _sum(parameters, numbers, [(decode, batch * heads * keys * size)], cold)
        return "attention", Terms(*(np.asarray(part) for part in (total, start, 0.0, total - start)))
    scores = batch * heads * queries * keys
    near, far = (_sum(parameters, numbers, [(name, scores)], cold) for name in sides)
    share = (size - HEAD_SIZES[0]) / (HEAD_SIZES[1] - HEAD_SIZES[0])
    # Linear in the head size: the softmax does not depend on it, the products are proportional to it.
    total, start = (max(one + share * (two - one), one / 4) for one, two in zip(near, far, strict=True))
    return "attention", Terms(*(np.asarray(part) for part in (total, start, total - start, 0.0)))


def _streams(graph: Graph, operation: Operation) -> list[Part]:
    """Curves, without format, that an operation without products takes, and their elements."""
    out = graph.outputs_of(operation)[0]
    caches = str(operation.attributes.get("writes_into", "")).split()
    append = [("append", float(graph.tensors[cache].elements)) for cache in caches]
    if operation.kind in ("norm", "rope"):
        return [(operation.kind, float(out.elements)), *append]
    if operation.kind != "elementwise":
        return []
    work = flops(graph, operation)
    if not work:
        return append or [("add", float(out.elements))]  # a copy
    return [("gate" if work > out.elements else "add", float(out.elements)), *append]


def _sum(
    parameters: KernelParameters, numbers: Format, parts: Sequence[Part], cold: float
) -> tuple[float, float]:
    """Seconds of the parts in a sequence, and of their starts in it: what the smallest size takes."""
    curves = [(parameters.curves[name], size) for name, size in parts]
    start = sum(curve.seconds[0] for curve, _ in curves)
    total = sum(interpolate(curve, size) for curve, size in curves)
    for name, size in parts:
        if (far := parameters.curves.get(f"{name}.{COLD}")) is not None:
            near = parameters.curves[name]
            body, warm = (interpolate(curve, size) - curve.seconds[0] for curve in (far, near))
            total += cold * max(0.0, body - warm)
    factor = _factor(parameters, numbers, cold)
    return total + (factor - 1) * start, min(start, total) * factor


def _cold_share(device: Device, reuse: float) -> float:
    """How much of an operation's code and data must come from main memory when ``reuse`` bytes of weights pass."""
    sizes = level_sizes(device)[:-1]
    return float(missing_share(reuse, sizes[-1][1])) if sizes else 0.0


def _factor(parameters: KernelParameters, numbers: Format, cold: float = 0.0) -> float:
    special = parameters.formats.get(numbers)
    if special is None or special.sequence_factor is None:
        return 1.0
    warm = special.sequence_factor.value
    return warm if special.cold_factor is None else warm + cold * (special.cold_factor.value - warm)
