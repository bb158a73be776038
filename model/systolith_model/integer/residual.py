"""N8: the sum of two quantized tensors on a third scale."""

from torch import Tensor

from systolith_model.integer.exact import INT8, checked, saturate8, shift_right_half_even
from systolith_model.integer.requantize import MAX_MANTISSA, MAX_SHIFT


def residual_add(
    a: Tensor,
    b: Tensor,
    *,
    a_zero_point: int = 0,
    b_zero_point: int = 0,
    a_mantissa: int,
    b_mantissa: int,
    shift: int,
    zero_point: int = 0,
) -> Tensor:
    """N8: ``sat8(RHE(((a - za) * ma + (b - zb) * mb) / 2**shift) + zy)``.

    Parameters
    ----------
    a, b : Tensor
        Integers of -128..127, equal shapes.
    a_zero_point, b_zero_point, zero_point : int
        The bytes that stand for 0.0 in a, b and the output, -128..127.
    a_mantissa, b_mantissa : int
        Scale of a and of b over the output's, times 2**shift; 0..65535.
    shift : int
        0..63.

    Returns
    -------
    Tensor
        int8, the shape of a.

    Raises
    ------
    ValueError
        If shapes differ or a value is out of range.
    """
    if a.shape != b.shape:
        raise ValueError(f"a and b must have equal shapes, not {tuple(a.shape)} and {tuple(b.shape)}")
    from_a = checked("a", a, *INT8) - checked("a_zero_point", a_zero_point, *INT8)
    from_b = checked("b", b, *INT8) - checked("b_zero_point", b_zero_point, *INT8)
    total = from_a * checked("a_mantissa", a_mantissa, 0, MAX_MANTISSA)
    total = total + from_b * checked("b_mantissa", b_mantissa, 0, MAX_MANTISSA)
    rounded = shift_right_half_even(total, checked("shift", shift, 0, MAX_SHIFT))
    return saturate8(rounded + checked("zero_point", zero_point, *INT8))
