"""What the kernel models need of a device, and its matrix products where it is a GPU."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Concatenate, ParamSpec, Required, TypedDict, TypeVar, Unpack, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from systolith_model.formats import BITS, Format
from systolith_sim.devices.classes import class_of, is_wide
from systolith_sim.devices.device import Device, KernelParameters
from systolith_sim.devices.gemm import Machine, Terms, tiled_gemm
from systolith_sim.devices.library import find_device
from systolith_sim.devices.quantized import LIBRARIES, quantized_gemm

LIKE: dict[Format, tuple[str, ...]] = {"int8": ("fp8",)}
"""Other formats whose parameters stand for one that nobody measured."""
KEPT = 256
"""Devices whose resolved numbers are kept."""


P = ParamSpec("P")
R = TypeVar("R")


def per_device(resolve: Callable[Concatenate[Device, P], R]) -> Callable[Concatenate[Device, P], R]:
    """Keep what was resolved for a device, which is frozen but, holding tables, has no hash."""
    kept: dict[tuple[object, ...], tuple[Device, R]] = {}

    @wraps(resolve)
    def resolved(device: Device, *args: P.args, **kwargs: P.kwargs) -> R:
        key = (id(device), *args, *kwargs.items())
        if key not in kept or kept[key][0] is not device:
            if len(kept) >= KEPT:
                kept.clear()
            kept[key] = device, resolve(device, *args, **kwargs)
        return kept[key][1]

    return resolved


@per_device
def parameters_of(device: Device) -> KernelParameters:
    """Fitted parameters of a device or of one with the same die, else its class's with the shares others reached."""
    if device.kernel is None and device.same_die:
        return parameters_of(find_device(device.same_die))
    if device.kernel is not None:
        return device.kernel
    parameters = class_of(device.kind).parameters(device)
    if device.achieved is None:
        return parameters
    compute, memory = device.achieved.compute, device.achieved.memory
    known = {"compute_efficiency": compute, "memory_efficiency": memory, "streaming_efficiency": memory}
    return parameters.model_copy(update={name: datum for name, datum in known.items() if datum is not None})


@per_device
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
        split_least_depth=parameters.split_least_depth or 0,
        wide=device.kind == "gpu" and is_wide(device),
    )


def weight_heat(device: Device, reuse_bytes: ArrayLike | None) -> NDArray[np.str_]:
    """``hot`` where what passes between two uses of the weights fits the last cache, else ``cold``; "" off GPUs."""
    reuse = np.atleast_1d(np.asarray(np.inf if reuse_bytes is None else reuse_bytes, float))
    if device.kind != "gpu":
        return np.full(len(reuse), "")
    return np.where(reuse > machine_of(device, next(iter(device.peak_ops_per_s))).cache_bytes, "cold", "hot")


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
    """The key of ``KernelParameters.formats`` for products in ``numbers``: itself, else with scales per block.

    int8 without one of its own goes as fp8 does: inputs are quantized alike, by the same libraries.
    """
    formats = parameters_of(device).formats if device.kind == "gpu" else {}
    alike = (numbers, f"{numbers}_block", *LIKE.get(numbers, ()))
    return next((name for name in alike if name in formats), numbers)


def gpu_gemm(device: Device, numbers: Format, variant: str = "", **sizes: Unpack[GemmSizes]) -> Terms:
    """Products on a GPU: in 8 bits through the library that its parameters name, else by plain tiles.

    ``variant`` is the key of ``KernelParameters.formats``, by default ``variant_of``.
    """
    variant = variant or variant_of(device, numbers)
    machine, special = machine_of(device, numbers, variant), parameters_of(device).formats.get(variant)
    library, step = "", 0.0
    if special is not None and BITS[numbers] <= 8:
        library = special.library
        step = 0.0 if special.quantize_s_per_element is None else special.quantize_s_per_element.value
    if all(isinstance(size, int | float) for size in sizes.values()):
        return _single(machine, library, step, tuple(sizes.items()))  # a model repeats its layers
    return _gemm(machine, library, step, sizes)


def _gemm(machine: Machine, library: str, step: float, sizes: GemmSizes) -> Terms:
    if library:
        return quantized_gemm(machine, LIBRARIES[library], quantize_s_per_element=step, **sizes)
    return tiled_gemm(machine, **sizes)


@lru_cache(maxsize=2**16)
def _single(machine: Machine, library: str, step: float, sizes: tuple[tuple[str, float], ...]) -> Terms:
    return _gemm(machine, library, step, cast(GemmSizes, dict(sizes)))
