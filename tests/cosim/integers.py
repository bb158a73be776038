"""The operations of docs/contracts/numerics.md in 64-bit torch integers, for the benches."""

import torch
from torch import Tensor


def requantize(acc: Tensor, bias: Tensor, mantissa: Tensor, shift: Tensor, zero_point: Tensor | int
               ) -> Tensor:
    """Rules N4 to N6: products are exact in 64 bits, the remainder decides the rounding, ties go to even."""
    product = (acc + bias) * mantissa
    quotient = product >> shift
    remainder = product - (quotient << shift)
    half = torch.ones_like(product) << (shift - 1).clamp(min=0)
    up = (remainder > half) | ((remainder == half) & (quotient % 2 == 1))
    rounded = torch.where(shift > 0, quotient + up, product)
    return (rounded + zero_point).clamp(-128, 127)
