"""N4 to N6: bias, scaling by mantissa / 2**shift with rounding half to even, zero point, saturation."""

from math import frexp, isfinite, ldexp

import torch
from torch import Tensor

from systolith_model.integer.exact import INT8, INT32, checked, saturate8, shift_right_half_even

MAX_MANTISSA = 2**16 - 1
MAX_SHIFT = 63


def requantize(
    acc: Tensor,
    *,
    bias: Tensor | int = 0,
    mantissa: Tensor | int,
    shift: Tensor | int,
    zero_point: Tensor | int = 0,
) -> Tensor:
    """N4, N5, N6: ``sat8(RHE((acc + bias) * mantissa / 2**shift) + zero_point)``.

    Parameters
    ----------
    acc : Tensor
        (..., N) integers of 32 bits.
    bias, mantissa, shift, zero_point : Tensor or int
        (N,) or one for all channels: 32 bits signed, 0..65535, 0..63, -128..127.

    Returns
    -------
    Tensor
        (..., N) int8.

    Raises
    ------
    ValueError
        If a value is out of range or a parameter's length is not N.

    >>> requantize(torch.tensor([[5, 7, -5]]), mantissa=1, shift=1)  # 2.5, 3.5, -2.5
    tensor([[ 2,  4, -2]], dtype=torch.int8)
    """
    y = checked("acc", acc, *INT32) + _per_channel("bias", bias, *INT32, acc)
    scale = _per_channel("mantissa", mantissa, 0, MAX_MANTISSA, acc)
    places = _per_channel("shift", shift, 0, MAX_SHIFT, acc)
    offset = _per_channel("zero_point", zero_point, *INT8, acc)
    # abs(y * scale) < 2**49: exact in 64 bits.
    return saturate8(shift_right_half_even(y * scale, places) + offset)


def mantissa_shift(factor: float) -> tuple[int, int]:
    """The (mantissa, shift) nearest to a real factor: the largest shift <= 63 whose mantissa has 16 bits.

    Raises
    ------
    ValueError
        If ``factor`` is negative, not finite, or too large for a 16-bit mantissa (65535.5 and above).

    >>> mantissa_shift(0.75)
    (49152, 16)
    """
    # A double times a power of two is exact here, and round() is half to even.
    if not isfinite(factor) or factor < 0 or round(factor) > MAX_MANTISSA:
        raise ValueError(f"factor must be in 0..65535.5, 65535.5 excluded, not {factor}")
    if factor == 0:
        return 0, 0
    shift = min(MAX_SHIFT, 16 - frexp(factor)[1])  # 2**15 <= factor * 2**shift < 2**16, or less at shift 63
    if round(ldexp(factor, shift)) > MAX_MANTISSA:
        shift -= 1
    return round(ldexp(factor, shift)), shift


def mantissas_shifts(factors: Tensor) -> tuple[Tensor, Tensor]:
    """`mantissa_shift` of each of (N,) real factors: (N,) int32 mantissas and (N,) int32 shifts."""
    pairs = [mantissa_shift(factor) for factor in factors.to(torch.float64).tolist()]
    mantissas, shifts = zip(*pairs, strict=True)
    return torch.tensor(mantissas, dtype=torch.int32), torch.tensor(shifts, dtype=torch.int32)


def _per_channel(name: str, value: Tensor | int, low: int, high: int, acc: Tensor) -> Tensor:
    wide = checked(name, value, low, high)
    if wide.dim() > 1 or (wide.dim() == 1 and wide.shape[0] != acc.shape[-1]):
        raise ValueError(f"{name} must be one value or {acc.shape[-1]} channels, not {tuple(wide.shape)}")
    return wide
