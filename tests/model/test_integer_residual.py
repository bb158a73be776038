"""N8 against exact fractions: every pair of bytes, and every field at its ends."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from systolith_model.integer.requantize import mantissa_shift
from systolith_model.integer.residual import residual_add

BYTE = st.integers(-128, 127)
MANTISSA = st.integers(0, 65535)


def exact(a, b, za, zb, ma, mb, shift, zy):
    return max(-128, min(127, round(Fraction((a - za) * ma + (b - zb) * mb, 2**shift)) + zy))


@pytest.mark.parametrize("shift", [0, 1, 2, 9, 63])
def test_every_pair_of_bytes(shift):
    a, b = torch.meshgrid(torch.arange(-128, 128), torch.arange(-128, 128), indexing="ij")
    za, zb, ma, mb, zy = 5, -7, 3, 2, 11
    out = residual_add(
        a, b, a_zero_point=za, b_zero_point=zb, a_mantissa=ma, b_mantissa=mb, shift=shift, zero_point=zy
    )
    assert out.dtype == torch.int8
    assert out.flatten().tolist() == [
        exact(x, y, za, zb, ma, mb, shift, zy) for x in range(-128, 128) for y in range(-128, 128)
    ]


@given(a=BYTE, b=BYTE, za=BYTE, zb=BYTE, ma=MANTISSA, mb=MANTISSA, shift=st.integers(0, 63), zy=BYTE)
def test_equals_exact_fractions(a, b, za, zb, ma, mb, shift, zy):
    out = residual_add(
        torch.tensor([a]), torch.tensor([b]),
        a_zero_point=za, b_zero_point=zb, a_mantissa=ma, b_mantissa=mb, shift=shift, zero_point=zy,
    )  # fmt: skip
    assert out.tolist() == [exact(a, b, za, zb, ma, mb, shift, zy)]


def test_error_against_the_real_sum():
    """Half a place of rounding, and the mantissa of the smaller scale rounded at the larger one's shift."""
    generator = torch.Generator().manual_seed(2)
    a, b = torch.randint(-128, 128, (2, 4096), generator=generator)
    scale_a, scale_b = 0.61, 0.23
    mantissa, shift = mantissa_shift(scale_a)
    out = residual_add(a, b, a_mantissa=mantissa, b_mantissa=round(scale_b * 2**shift), shift=shift)
    real = (a * scale_a + b * scale_b).clamp(-128, 127)
    assert float((out - real).abs().max()) <= 0.5 + 2 * 128 * 0.5 / 2**shift


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"a_mantissa": 65536}, r"a_mantissa must be in 0\.\.65535, not 65536"),
        ({"b_mantissa": -1}, r"b_mantissa must be in 0\.\.65535, not -1"),
        ({"shift": 64}, r"shift must be in 0\.\.63, not 64"),
        ({"zero_point": 200}, r"zero_point must be in -128\.\.127, not 200"),
        ({"b": torch.full((2,), 128)}, r"b must be in -128\.\.127, not 128"),
        ({"b": torch.zeros(3, dtype=torch.int8)}, r"equal shapes, not \(2,\) and \(3,\)"),
    ],
)
def test_refused_in_one_sentence(changes, message):
    zeros = torch.zeros(2, dtype=torch.int8)
    arguments = {"a": zeros, "b": zeros, "a_mantissa": 1, "b_mantissa": 1, "shift": 0} | changes
    with pytest.raises(ValueError, match=message):
        residual_add(**arguments)
