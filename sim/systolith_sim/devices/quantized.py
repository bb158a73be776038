"""Matrix products in 8 bits on a GPU, with the kernels that quantize the activations first.

What a library does about it is a fact of that library and its version, shared by every GPU it runs on; a GPU adds
one figure, the seconds to quantize an element. Fitted by benchmarks/fit_gemm.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from systolith_sim.devices.gemm import Machine, Terms, tiled_gemm


@dataclass(frozen=True)
class QuantizedLibrary:
    """Products of one library in one format."""

    launch_s: float
    """Starts and ends of the kernels before the product, with the gaps between them."""
    rate_share: float
    """Share of the rate that 16-bit products sustain, beside the higher peak."""
    step_share: float
    """Latency of a step along K, against 16-bit products."""
    splits: bool
    """Splits K over units."""


LIBRARIES: Mapping[str, QuantizedLibrary] = MappingProxyType(
    {
        "vllm-0.14-fp8": QuantizedLibrary(7.5e-6, 0.8, 1.0, False),
        "vllm-0.14-fp8-block": QuantizedLibrary(19e-6, 0.8, 1.0, False),
        "vllm-0.22-fp8-block": QuantizedLibrary(0.0, 0.8, 1.0, False),
    }
)
"""By engine, its version and format; vLLM runs CUTLASS and DeepGEMM kernels, A100 and L40S were not measured."""


def quantized_gemm(
    machine: Machine,
    library: QuantizedLibrary,
    *,
    quantize_s_per_element: float,
    batch: ArrayLike = 1,
    m: ArrayLike,
    k: ArrayLike,
    n: ArrayLike,
    weight_bytes: float,
    output_bytes: float,
    reuse_bytes: ArrayLike | None = None,
    precision: DTypeLike = np.float64,
) -> Terms:
    """Seconds of ``batch`` products (m, k) by (k, n) whose activations arrive in 16 bits.

    Sizes and bytes as in ``gemm.tiled_gemm``; quantizing counts as memory.
    """
    own = replace(
        machine,
        compute_efficiency=machine.compute_efficiency * library.rate_share,
        k_step_s=machine.k_step_s * library.step_share,
    )
    product = tiled_gemm(
        own, batch=batch, m=m, k=k, n=n, input_bytes=1, weight_bytes=weight_bytes, output_bytes=output_bytes,
        reuse_bytes=reuse_bytes, splits=library.splits, precision=precision,
    )  # fmt: skip
    elements = np.asarray(batch, float) * np.asarray(m, float) * np.asarray(k, float)
    quantizing = quantize_s_per_element * elements
    return Terms(
        product.total_s + library.launch_s + quantizing,
        product.launch_s + library.launch_s,
        product.compute_s,
        product.memory_s + quantizing,
    )
