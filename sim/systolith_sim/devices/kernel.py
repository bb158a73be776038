"""Kernel cost: seconds of each operation of a Graph on a Device, with the interval its scored error gives."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, Unpack

import numpy as np
from numpy.typing import NDArray

from systolith_model.formats import BITS, Format
from systolith_model.graph import Graph, MatmulShape, Operation, Tensor, flops, matmul_shape, traffic
from systolith_sim.devices import attention as fused
from systolith_sim.devices.attention_library import LIBRARIES, AttentionLibrary
from systolith_sim.devices.blas import Level, blas_gemm, level_stream_s
from systolith_sim.devices.classes import class_of
from systolith_sim.devices.core import core_terms
from systolith_sim.devices.curves import curve_terms
from systolith_sim.devices.device import (
    AttentionParameters,
    Device,
    Operator,
    Regime,
)
from systolith_sim.devices.gemm import CONSTANTS, Machine, Terms, smooth_maximum
from systolith_sim.devices.grouped import Routing, grouped_gemm, library_on
from systolith_sim.devices.interval import interval_factors
from systolith_sim.devices.products import GemmSizes, gpu_gemm, machine_of, parameters_of, variant_of, weight_heat
from systolith_sim.devices.ragged import RaggedFit, ragged_attention
from systolith_sim.devices.streaming import KERNELS, StreamingKind, streaming
from systolith_sim.devices.systolic import systolic_gemm

Launch = Literal["graph", "eager"]

WIDER: dict[Format, tuple[Format, ...]] = {
    "fp4": ("fp4", "fp8", "bf16", "fp16", "fp32"),
    "int4": ("int4", "int8", "fp8", "bf16", "fp16", "fp32"),
    "int8": ("int8", "bf16", "fp16", "fp32"),
    "fp8": ("fp8", "bf16", "fp16", "fp32"),
    "bf16": ("bf16", "fp16", "fp32"),
    "fp16": ("fp16", "bf16", "fp32"),
    "tf32": ("tf32", "fp32", "bf16", "fp16"),
    "fp32": ("fp32", "bf16", "fp16"),
    "int32": ("int32", "fp32", "bf16"),
}
"""Formats a product may be computed in, in order of choice; a machine without fp32 falls back to bf16."""

ACTIVATION_FLOPS = 4
"""Operations of an element from which elementwise work holds an exponential or the like."""

MATRIX_SPEEDUP = 16.0
"""Peak in bf16 over that of the vector units where a GPU's file states no fp32: 4 (L40S) to 16 (A100)."""

@dataclass(frozen=True)
class KernelTime:
    """Cost of one operation on one device; the interval holds 90 % of measurements where it was scored."""

    seconds: float
    compute_seconds: float
    memory_seconds: float
    launch_seconds: float
    bound_by: Regime
    flops: int
    bytes: int
    low: float
    high: float
    format: Format
    """Format the product is computed in, which may be wider than its operands."""
    error_source: str
    """Where the interval comes from."""
    padding_flops: int = 0
    """Operations beside ``flops`` on rows of a tile that no query fills: they cost energy, and time where compute
    bounds."""


def computed_in(device: Device, wanted: Format) -> Format:
    """The format a device computes in when asked for ``wanted``.

    Raises
    ------
    ValueError
        If the device has no peak rate for any format that could serve.
    """
    for candidate in WIDER[wanted]:
        if candidate in device.peak_ops_per_s:
            return candidate
    known = ", ".join(device.peak_ops_per_s) or "none"
    raise ValueError(f"device {device.id!r} cannot compute {wanted}: its formats are {known}")


def attention_of(device: Device) -> AttentionParameters | None:
    """Fitted parameters of fused attention on a device, or its class's."""
    own = parameters_of(device).attention
    return own if own is not None else class_of(device.kind).parameters(device).attention


def levels_of(device: Device) -> list[Level]:
    """(size, sustained bandwidth) of each level of memory, smallest first, main memory last."""
    efficiency = parameters_of(device).memory_efficiency.value
    caches = [
        (memory.size_bytes.value, memory.bandwidth_bytes_per_s.value)
        for name, memory in device.memories.items()
        if name != "main"
    ]
    main = device.main_memory
    return [*sorted(caches), (main.size_bytes.value, efficiency * main.bandwidth_bytes_per_s.value)]


def weight_bytes(graph: Graph) -> int:
    """Bytes of constants one pass over the graph reads: what passes before the same weight is read again."""
    return sum(
        tensor.bytes * operation.count
        for operation in graph
        if operation.kind != "embedding"
        for tensor in graph.inputs_of(operation)
        if tensor.constant
    )


def kernel_time(
    device: Device,
    graph: Graph,
    operation: Operation,
    *,
    reuse_bytes: float | None = None,
    launch: Launch = "graph",
) -> KernelTime:
    """Cost of one instance of an operation.

    Parameters
    ----------
    reuse_bytes : float, optional
        Bytes that pass before the same weights are read again; without it, all weights of the graph.
    launch : {"graph", "eager"}
        Kernels replayed without the host, or each launched by a framework (``device.eager_launch_s``).

    Raises
    ------
    ValueError
        If the device is an FPGA core, lacks the format, or states no ``eager_launch_s`` when asked for it.
    """
    reuse = float(weight_bytes(graph)) if reuse_bytes is None else reuse_bytes
    numbers = _numbers(device, graph, operation)
    operator, terms = _terms(device, graph, operation, numbers, reuse)
    total, start, compute, memory = (
        float(np.asarray(part).reshape(-1)[0])
        for part in (terms.total_s, terms.launch_s, terms.compute_s, terms.memory_s)
    )
    if launch == "eager":
        if device.eager_launch_s is None:
            raise ValueError(f"device {device.id!r} states no eager_launch_s; choose launch='graph'")
        total += max(0.0, device.eager_launch_s.value - start)
        start = max(start, device.eager_launch_s.value)
    regime: Regime = "launch" if start > total / 2 else "memory" if memory > compute else "compute"
    variant = variant_of(device, numbers) if operator == "matmul" else numbers
    case = _case(device, graph, operation, reuse)
    unseen = _unseen(device, graph, operation)
    low, high, source = interval_factors(device, operator, regime, variant, case, unseen)
    count, moved, ends = flops(graph, operation), traffic(graph, operation).total, (total * low, total * high)
    padding = max(0, _executed(device, graph, operation) - count)
    return KernelTime(total, compute, memory, start, regime, count, moved, *ends, numbers, source, padding)


def regimes(terms: Terms) -> NDArray[np.str_]:
    """What bounds each row: the launch where it is more than half, else the longer of compute and memory."""
    launch = terms.launch_s > terms.total_s / 2
    return np.where(launch, "launch", np.where(terms.memory_s > terms.compute_s, "memory", "compute"))


def cost(device: Device, graph: Graph, *, launch: Launch = "graph") -> Iterator[tuple[Operation, KernelTime]]:
    """Cost of one instance of every operation, in the graph's order; ``operation.count`` is not applied."""
    reuse = float(weight_bytes(graph))
    for operation in graph:
        yield operation, kernel_time(device, graph, operation, reuse_bytes=reuse, launch=launch)


def _case(device: Device, graph: Graph, operation: Operation, reuse: float) -> str:
    if operation.kind == "attention":
        return "prefill" if graph.inputs_of(operation)[0].shape[2] > 1 else "decode"
    if operation.kind == "matmul":
        return str(weight_heat(device, _passed(graph, operation, reuse))[0])
    return ""


def _unseen(device: Device, graph: Graph, operation: Operation) -> str:
    """What of an operation no scored row was of."""
    parameters = attention_of(device) if operation.kind == "attention" and device.kind == "gpu" else None
    if parameters is None:
        return ""
    sizes, decode = _attention_sizes(graph, operation), graph.inputs_of(operation)[0].shape[2] == 1
    library = LIBRARIES[parameters.library]
    return library.unseen(key_size=sizes.head_size[0], value_size=sizes.value_size[0], decode=decode)


def _passed(graph: Graph, operation: Operation, reuse: float) -> float:
    """Bytes that pass before the same weights are read again, this product's own included."""
    a, w = graph.inputs_of(operation)[:2]
    (out,) = graph.outputs_of(operation)
    return (reuse if w.constant else w.bytes) + a.bytes + out.bytes


def _numbers(device: Device, graph: Graph, operation: Operation) -> Format:
    """Format of the arithmetic: the widest operand's, or the next the device has."""
    operands: tuple[Tensor, ...] = graph.inputs_of(operation)
    if operation.kind == "embedding":
        operands = operands[1:]
    elif operation.kind == "matmul":
        operands = operands[:2]
    widest = max(operands, key=lambda tensor: BITS[tensor.format])
    return computed_in(device, widest.format)


def _terms(
    device: Device, graph: Graph, operation: Operation, numbers: Format, reuse: float
) -> tuple[Operator, Terms]:
    if device.core is not None:
        return _operator(operation), core_terms(device, graph, operation)
    parameters = parameters_of(device)
    if parameters.curves:
        measured = curve_terms(device, parameters, graph, operation, numbers, reuse)
        if measured is not None:
            return measured
    machine = machine_of(device, numbers)
    if operation.kind == "matmul":
        if _runs_grouped(device, numbers, operation):
            return "grouped", _grouped(device, machine, graph, operation, reuse)
        return "matmul", _matmul(device, machine, numbers, graph, operation, reuse)
    if operation.kind == "attention":
        return "attention", _attention(device, machine, graph, operation, reuse)
    return "streaming", _streaming(device, machine, graph, operation, numbers)


def _streaming(device: Device, machine: Machine, graph: Graph, operation: Operation, numbers: Format) -> Terms:
    moved = traffic(graph, operation).total
    vector = (device.peak_ops_per_s.get("fp32") or device.peak_ops_per_s[numbers]).value
    outputs = graph.outputs_of(operation)
    if device.kind == "gpu":
        share = parameters_of(device).streaming_efficiency
        if share is not None:
            machine = replace(machine, memory_efficiency=share.value)
        return streaming(
            machine, KERNELS[_streaming_kind(operation)], moved_bytes=moved, vector_ops_per_s=vector,
            elements=sum(tensor.elements for tensor in outputs),
            row_bytes=outputs[0].shape[-1] * BITS[outputs[0].format] / 8, row_elements=outputs[0].shape[-1],
        )  # fmt: skip
    memory = level_stream_s(moved, moved, levels_of(device))
    compute = np.asarray(flops(graph, operation) / vector)
    start = np.asarray(machine.launch_s)
    return Terms(start + smooth_maximum(compute, memory, CONSTANTS.sharpness), start, compute, memory)


def _streaming_kind(operation: Operation) -> StreamingKind:
    """Elementwise work that draws is a dropout, with a transcendental function an activation, else an addition."""
    if operation.kind == "elementwise":
        if operation.attributes.get("draws"):
            return "dropout"
        heavy = int(operation.attributes.get("flops_per_element", 1)) >= ACTIVATION_FLOPS
        return "activation" if heavy else "add"
    kinds: dict[str, StreamingKind] = {"norm": "norm", "rope": "rope", "embedding": "gather"}
    return kinds[operation.kind]


def _operator(operation: Operation) -> Operator:
    kinds: dict[str, Operator] = {"matmul": "matmul", "attention": "attention"}
    return kinds.get(operation.kind, "streaming")


def _matmul(
    device: Device, machine: Machine, numbers: Format, graph: Graph, operation: Operation, reuse: float
) -> Terms:
    shape: MatmulShape = matmul_shape(graph, operation)
    a, w = graph.inputs_of(operation)[:2]
    (out,) = graph.outputs_of(operation)
    sizes: GemmSizes = {
        "batch": shape.batch, "m": shape.m, "k": shape.k, "n": shape.n,
        "input_bytes": BITS[a.format] / 8, "weight_bytes": w.bytes / w.elements,
        "output_bytes": BITS[out.format] / 8,
        "reuse_bytes": _passed(graph, operation, reuse),
    }  # fmt: skip
    if device.kind in ("cpu", "fpga"):
        return blas_gemm(machine, levels_of(device), **sizes)
    if device.kind == "tpu":
        rows, cols = device.units.array_rows, device.units.array_cols
        if rows is None or cols is None:
            raise ValueError(
                f"device {device.id!r}: units.array_rows and units.array_cols are needed for a tpu"
            )
        # The scratchpad is no cache: a program reads its weights again each time it runs.
        return systolic_gemm(machine, rows=rows, cols=cols, **{**sizes, "reuse_bytes": None})
    return gpu_gemm(device, numbers, **sizes)


def _runs_grouped(device: Device, numbers: Format, operation: Operation) -> bool:
    """Whether a GPU's grouped kernel runs it: in 16 bits, on matrix units, and not the gradient of weights."""
    attributes, vector = operation.attributes, device.peak_ops_per_s.get("fp32")
    routed = bool(attributes.get("grouped")) and attributes.get("transposed") != "a"
    if not routed or device.kind != "gpu" or BITS[numbers] != 16:
        return False
    # Its tiles are those of matrix units; without any, rows are multiplied one by one.
    return vector is None or device.peak_ops_per_s[numbers].value > vector.value


def _grouped(device: Device, machine: Machine, graph: Graph, operation: Operation, reuse: float) -> Terms:
    """Routed rows, each expert in use with the same share of them."""
    shape, attributes = matmul_shape(graph, operation), operation.attributes
    a, w = graph.inputs_of(operation)[:2]
    (out,) = graph.outputs_of(operation)
    tokens, width = int(attributes["tokens"]), int(attributes["width"])
    routing = Routing.even(rows=a.shape[0], active=shape.batch, tokens=tokens, held=int(attributes["experts"]))
    # The first product picks its rows from the tokens, the second from the rows of the first.
    picked_from = a.shape[0] if shape.k == width else min(tokens, a.shape[0])
    return grouped_gemm(
        machine, library_on(device.id), routing, k=shape.k, n=shape.n, width=width,
        gathered_bytes=picked_from * shape.k * BITS[a.format] / 8, weight_bytes=w.bytes / w.elements,
        reuse_bytes=(reuse if w.constant else w.bytes) + a.bytes + out.bytes,
    )  # fmt: skip


def fused_attention(
    device: Device,
    sizes: fused.AttentionSizes,
    parameters: AttentionParameters,
    *,
    constants: fused.AttentionConstants = fused.ATTENTION,
    library: AttentionLibrary | None = None,
    **how: Unpack[fused.AttentionUse],
) -> Terms:
    """Seconds of fused attention on a GPU, products in bf16; ``how`` as in ``attention.attention``."""
    peaks = device.peak_ops_per_s
    machine = machine_of(device, computed_in(device, "bf16"))
    quantized = parameters.quantized_launch_s
    fit = fused.AttentionFit(
        parameters.launch_s.value, parameters.efficiency.value, parameters.start_s.value,
        0.0 if quantized is None else quantized.value,
    )  # fmt: skip
    vector = peaks["fp32"].value if "fp32" in peaks else machine.peak_ops_per_s / MATRIX_SPEEDUP
    return fused.attention(
        machine, sizes, fit=fit, library=library or LIBRARIES[parameters.library],
        vector_ops_per_s=vector, constants=constants, **how,
    )  # fmt: skip


def ragged_fit(parameters: AttentionParameters) -> RaggedFit:
    """What a TPU's kernel needs of the parameters in a file."""
    share = parameters.stream_share
    return RaggedFit(
        parameters.launch_s.value, parameters.efficiency.value, parameters.start_s.value,
        1.0 if share is None else share.value,
    )  # fmt: skip


def _attention_sizes(graph: Graph, operation: Operation) -> fused.AttentionSizes:
    q, k, v = graph.inputs_of(operation)[:3]
    attributes = operation.attributes
    batch, heads, queries, size = q.shape
    return fused.AttentionSizes.of(
        batch, heads, k.shape[1], queries, k.shape[2], size,
        int(attributes.get("value_size", v.shape[-1])), int(attributes.get("window", 0)) or np.inf,
    )  # fmt: skip


def _executed(device: Device, graph: Graph, operation: Operation) -> int:
    """Operations with those on padding, where a fused attention has one query a sequence; else 0."""
    if device.kind != "gpu" or operation.kind != "attention" or graph.inputs_of(operation)[0].shape[2] > 1:
        return 0
    parameters = attention_of(device)
    if parameters is None:
        return 0
    library = LIBRARIES[parameters.library]
    return int(fused.decode_operations(_attention_sizes(graph, operation), library)[0])


def _attention(device: Device, machine: Machine, graph: Graph, operation: Operation, reuse: float) -> Terms:
    q, k = graph.inputs_of(operation)[:2]
    attributes = operation.attributes
    parameters, causal = attention_of(device), bool(attributes.get("causal"))
    kv_bytes, shared = BITS[k.format] / 8, "value_size" in attributes
    sizes = _attention_sizes(graph, operation)
    if device.kind == "gpu" and parameters is not None:
        return fused_attention(
            device, sizes, parameters, causal=causal, element_bytes=BITS[q.format] / 8, kv_bytes=kv_bytes,
            shared_values=shared, reuse_bytes=reuse, writes_cache=False,  # the graph's own operations do
        )  # fmt: skip
    if device.kind == "tpu" and parameters is not None and k.cache:  # an engine's kernel, none of training
        bf16 = machine_of(device, computed_in(device, "bf16"))
        return ragged_attention(
            bf16, sizes, ragged_fit(parameters), causal=causal, kv_bytes=kv_bytes, shared_values=shared
        )
    moved = traffic(graph, operation).total
    compute = flops(graph, operation) / (machine.compute_efficiency * machine.peak_ops_per_s)
    compute = np.asarray(compute + moved / (machine.feed_bytes_per_s * machine.units))
    memory = level_stream_s(moved, moved, levels_of(device))
    start = np.asarray(machine.launch_s)
    return Terms(start + smooth_maximum(compute, memory, CONSTANTS.sharpness), start, compute, memory)
