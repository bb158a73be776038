"""Error of a quantized tensor against the real one."""

from math import inf, log10

import torch
from torch import Tensor


def sqnr_db(real: Tensor, quantized: Tensor) -> float:
    """Signal to quantization noise, ``10 log10(sum(real**2) / sum((real - quantized)**2))``, in dB."""
    signal = float(real.double().square().sum())
    noise = float((real.double() - quantized.double()).square().sum())
    if noise == 0:
        return inf
    return 10 * log10(signal / noise) if signal else -inf


def cosine(real: Tensor, quantized: Tensor) -> float:
    """Cosine of the angle between the two tensors as vectors; 0 where one of them is zero."""
    a, b = real.double().flatten(), quantized.double().flatten()
    lengths = float(a.norm() * b.norm())
    return float(torch.dot(a, b)) / lengths if lengths else 0.0
