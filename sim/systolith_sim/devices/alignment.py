"""Products on a GPU whose rows do not start at multiples of 16 bytes, such as logits of 50,257 words."""

from systolith_model.formats import BITS
from systolith_model.graph import Graph, Operation, flops
from systolith_sim.devices.device import Device

ALIGNED_BYTES = 16
"""What libraries load at once."""
UNALIGNED_OPS = 470.0
"""Operations a cycle and unit of their kernels that load element by element (``align1``). Four products of GPT-2's
logits on an H100 SXM, cuBLAS of CUDA 13.0, ``benchmarks/gpu_accuracy.py``: 0.7 to 1.3 of it."""


def unaligned_s(device: Device, graph: Graph, operation: Operation) -> float:
    """Least seconds of a product of 16-bit numbers on a GPU, without its start; 0 where all rows can be loaded wide.

    For what calls the library with the shapes as they are: engines pad their vocabularies.
    """
    clock, narrow = device.units.clock_hz, _narrow(graph, operation)
    if device.kind != "gpu" or clock is None or not narrow:
        return 0.0
    return flops(graph, operation) / (UNALIGNED_OPS * device.units.count * clock.value)


def _narrow(graph: Graph, operation: Operation) -> bool:
    """Whether the rows of a matrix, constants in either order, are no multiple of ``ALIGNED_BYTES``."""
    tensors = (*graph.inputs_of(operation)[:2], *graph.outputs_of(operation))
    if any(BITS[tensor.format] != 16 for tensor in tensors):
        return False
    rows = [(size, tensor) for tensor in tensors for size in tensor.shape[-2 if tensor.constant else -1 :]]
    return any(size > 1 and size * BITS[tensor.format] % (8 * ALIGNED_BYTES) for size, tensor in rows)
