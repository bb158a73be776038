"""What the kernel models need of a device, and its matrix products where it is a GPU."""

from typing import Required, TypedDict, Unpack

from numpy.typing import ArrayLike

from systolith_model.graph import BITS, Format
from systolith_sim.devices.classes import class_of, is_wide
from systolith_sim.devices.device import Device, KernelParameters
from systolith_sim.devices.gemm import Machine, Terms, tiled_gemm
from systolith_sim.devices.quantized import LIBRARIES, quantized_gemm


def parameters_of(device: Device) -> KernelParameters:
    """Fitted parameters of a device, or its class's."""
    return device.kernel if device.kernel is not None else class_of(device.kind).parameters(device)


def machine_of(device: Device, numbers: Format, variant: str = "") -> Machine:
    """The numbers the kernel models need, for products computed in ``numbers``.

    ``variant`` is the key of ``KernelParameters.formats`` to use where it is not the format itself.
    """
    parameters = parameters_of(device)
    special = parameters.formats.get(variant or numbers)
    launch, efficiency, feed = (
        getattr(special, name, None) or getattr(parameters, name)
        for name in ("launch_s", "compute_efficiency", "feed_bytes_per_s")
    )
    caches = [memory for name, memory in device.memories.items() if name != "main"]
    last = max(caches, key=lambda memory: memory.size_bytes.value, default=None)
    return Machine(
        units=device.units.count,
        peak_ops_per_s=device.peak_ops_per_s[numbers].value,
        bandwidth_bytes_per_s=device.main_memory.bandwidth_bytes_per_s.value,
        cache_bytes=0.0 if last is None else last.size_bytes.value,
        launch_s=launch.value,
        compute_efficiency=efficiency.value,
        memory_efficiency=parameters.memory_efficiency.value,
        feed_bytes_per_s=feed.value,
        k_step_s=parameters.k_step_s.value,
        cache_parts=1 if last is None else last.parts,
        split_least=parameters.split_least_products or 0,
        wide=device.kind == "gpu" and is_wide(device),
    )


class GemmSizes(TypedDict, total=False):
    """Sizes and bytes of an element, as in ``gemm.tiled_gemm``."""

    batch: ArrayLike
    m: Required[ArrayLike]
    k: Required[ArrayLike]
    n: Required[ArrayLike]
    input_bytes: Required[float]
    weight_bytes: Required[float]
    output_bytes: Required[float]
    reuse_bytes: ArrayLike | None


def variant_of(device: Device, numbers: Format) -> str:
    """The key of ``KernelParameters.formats`` for products in ``numbers``: itself, else with scales per block."""
    formats = parameters_of(device).formats if device.kind == "gpu" else {}
    return next((name for name in (numbers, f"{numbers}_block") if name in formats), numbers)


def gpu_gemm(device: Device, numbers: Format, variant: str = "", **sizes: Unpack[GemmSizes]) -> Terms:
    """Products on a GPU: in 8 bits through the library that its parameters name, else by plain tiles.

    ``variant`` is the key of ``KernelParameters.formats``, by default ``variant_of``.
    """
    variant = variant or variant_of(device, numbers)
    machine, special = machine_of(device, numbers, variant), parameters_of(device).formats.get(variant)
    if special is None or not special.library or BITS[numbers] > 8:
        return tiled_gemm(machine, **sizes)
    step = special.quantize_s_per_element
    given = {name: size for name, size in sizes.items() if name != "input_bytes"}
    return quantized_gemm(
        machine, LIBRARIES[special.library], quantize_s_per_element=0.0 if step is None else step.value, **given
    )
