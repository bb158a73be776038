"""What the operations share: checked ranges, and rounding half to even of a shift to the right."""

import torch
from torch import Tensor

INT8 = (-128, 127)
INT32 = (-(2**31), 2**31 - 1)
INTEGER_TYPES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def checked(name: str, value: Tensor | int, low: int, high: int) -> Tensor:
    """``value`` in 64 bits, once every element is known to be an integer of ``low``..``high``.

    Raises
    ------
    ValueError
        If an element lies outside, or the tensor does not hold integers.
    """
    if not isinstance(value, Tensor):
        if not low <= value <= high:
            raise ValueError(f"{name} must be in {low}..{high}, not {value}")
        return torch.tensor(value, dtype=torch.int64)
    if value.dtype not in INTEGER_TYPES:
        raise ValueError(f"{name} must hold integers of {low}..{high}, not {value.dtype}")
    wide = value.to(torch.int64)
    if wide.numel():
        least, most = (int(end) for end in torch.aminmax(wide))
        if least < low or most > high:
            raise ValueError(f"{name} must be in {low}..{high}, not {least if least < low else most}")
    return wide


def shift_right_half_even(value: Tensor, shift: Tensor) -> Tensor:
    """RHE(value / 2**shift), exact, for int64 ``abs(value) <= 2**62`` and ``0 <= shift <= 63``."""
    floor = value >> shift
    rest = value - (floor << shift)
    # For shift 0 the rest is 0, and any half above it is never reached.
    half = torch.ones_like(shift) << (shift - 1).clamp(min=0)
    up = (rest > half) | ((rest == half) & ((floor & 1) == 1))
    return floor + up.to(torch.int64)


def saturate8(value: Tensor) -> Tensor:
    """N6: sat8 of every element, as int8."""
    return value.clamp(*INT8).to(torch.int8)
