"""N1 to N4: the bytes an array multiplies, their exact sums, and the zero point folded into the bias."""

import torch
from torch import Tensor

from systolith_model.integer.exact import INT8, INT32, checked

MAX_K = 65793
"""Longest sum that fits in 32 bits: 65793 * 255 * 128 = 2147483520 (numerics.md, bounds)."""


def activation(byte: Tensor, *, signed: bool) -> Tensor:
    """N1: the 9-bit value the array sees of each activation byte.

    Parameters
    ----------
    byte : Tensor
        int8 or uint8, any shape; only the eight bits matter.
    signed : bool
        The instruction's flag: two's complement when set, else 0..255.

    Returns
    -------
    Tensor
        int64, -128..127 or 0..255, same shape.

    Raises
    ------
    ValueError
        If the tensor is not made of bytes.
    """
    if byte.dtype not in (torch.int8, torch.uint8):
        raise ValueError(f"activations must be bytes, int8 or uint8, not {byte.dtype}")
    return byte.view(torch.int8 if signed else torch.uint8).to(torch.int64)


def matmul(a: Tensor, w: Tensor) -> Tensor:
    """N3: exact products of activations by weights.

    Parameters
    ----------
    a : Tensor
        (..., M, K) integers of -128..255: int8, uint8, or what `activation` gives.
    w : Tensor
        (K, N) integers of -128..127.

    Returns
    -------
    Tensor
        (..., M, N) int32 accumulators.

    Raises
    ------
    ValueError
        If shapes do not fit, K is outside 1..65793, or a value is out of range.
    """
    if a.dim() < 2 or w.dim() != 2 or a.shape[-1] != w.shape[0]:
        raise ValueError(f"a by w must be (..., M, K) by (K, N), not {tuple(a.shape)} by {tuple(w.shape)}")
    if not 1 <= w.shape[0] <= MAX_K:
        raise ValueError(f"K must be in 1..{MAX_K}, not {w.shape[0]}")
    # Sums stay below 2**31, far below 2**53: float64 is exact in any order of addition, and fast.
    wide_a = checked("a", a, -128, 255).to(torch.float64)
    wide_w = checked("w", w, *INT8).to(torch.float64)
    return (wide_a @ wide_w).to(torch.int32)


def fold_zero_point(bias: Tensor | int, weights: Tensor, zero_point: int) -> Tensor:
    """N4: the bias that makes up for an activation zero point.

    ``sum((a - za) * w) + bias = sum(a * w) + fold_zero_point(bias, w, za)``.

    Parameters
    ----------
    bias : Tensor or int
        (N,) integers of 32 bits, or one for all channels.
    weights : Tensor
        (K, N) integers of -128..127.
    zero_point : int
        The activation's zero point, -128..255 (signed and unsigned activations).

    Returns
    -------
    Tensor
        (N,) int32.

    Raises
    ------
    ValueError
        If an argument is out of range or a folded bias does not fit in 32 bits.
    """
    column_sums = checked("weights", weights, *INT8).sum(dim=0)
    folded = checked("bias", bias, *INT32) - checked("zero_point", zero_point, -128, 255) * column_sums
    return checked("folded bias", folded, *INT32).to(torch.int32)
