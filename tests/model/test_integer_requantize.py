"""N4 to N6 against exact fractions, and the choice of mantissa and shift against an exhaustive search."""

from fractions import Fraction

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from systolith_model.integer.requantize import mantissa_shift, mantissas_shifts, requantize

INT32 = st.integers(-(2**31), 2**31 - 1)


def exact(acc, bias, mantissa, shift, zero_point):
    """round() of a Fraction is half to even."""
    return max(-128, min(127, round(Fraction((acc + bias) * mantissa, 2**shift)) + zero_point))


@given(
    channels=st.lists(
        st.tuples(INT32, INT32, st.integers(0, 65535), st.integers(0, 63), st.integers(-128, 127)),
        min_size=1,
        max_size=12,
    )
)
def test_equals_exact_fractions(channels):
    acc, bias, mantissa, shift, zero_point = (torch.tensor(column) for column in zip(*channels, strict=True))
    out = requantize(acc[None], bias=bias, mantissa=mantissa, shift=shift, zero_point=zero_point)
    assert out.dtype == torch.int8
    assert out.tolist() == [[exact(*channel) for channel in channels]]


@given(data=st.data(), factor=st.floats(2**-40, 1), zero_point=st.integers(-128, 127))
def test_results_that_do_not_saturate_equal_exact_fractions(data, factor, zero_point):
    mantissa, shift = mantissa_shift(factor)
    reach = min(2**31 - 1, int(130 / factor))
    values = data.draw(st.lists(st.integers(-reach, reach), min_size=1, max_size=20))
    out = requantize(torch.tensor([values]), mantissa=mantissa, shift=shift, zero_point=zero_point)
    assert out.tolist() == [[exact(value, 0, mantissa, shift, zero_point) for value in values]]


@pytest.mark.parametrize("shift", range(64))
def test_corners_at_every_shift(shift):
    accs = [-(2**31), -(2**31) + 1, -3, -2, -1, 0, 1, 2, 3, 2**31 - 1]
    for mantissa in (0, 1, 2, 3, 32768, 65535):
        for bias in (-(2**31), 0, 2**31 - 1):
            out = requantize(torch.tensor([[acc] for acc in accs]), bias=bias, mantissa=mantissa, shift=shift)
            assert out.flatten().tolist() == [exact(acc, bias, mantissa, shift, 0) for acc in accs]


@pytest.mark.parametrize("shift", [1, 2, 3, 8, 17, 24])
def test_every_tie_goes_to_even(shift):
    odd_halves = torch.arange(-255, 256, 2)[:, None]  # (2 n + 1) / 2
    out = requantize(odd_halves, mantissa=2 ** (shift - 1) if shift <= 16 else 2**15, shift=min(shift, 16))
    assert out.flatten().tolist() == [max(-128, min(127, round(value / 2))) for value in range(-255, 256, 2)]


def test_every_small_accumulator_against_float64():
    acc = torch.arange(-(2**17), 2**17)[:, None]
    out = requantize(acc, mantissa=45875, shift=26, zero_point=-3)
    expected = torch.round(acc.to(torch.float64) * 45875 / 2**26).clamp(-1000, 1000) - 3  # exact: below 2**53
    assert torch.equal(out.to(torch.float64), expected.clamp(-128, 127))


@given(factor=st.floats(2**-48, 65535.0))
def test_mantissa_is_within_two_to_minus_16_of_the_factor(factor):
    mantissa, shift = mantissa_shift(factor)
    assert 0 <= mantissa <= 65535
    assert 0 <= shift <= 63
    assert abs(Fraction(mantissa, 2**shift) - Fraction(factor)) <= Fraction(factor) / 2**16
    # No larger shift will do.
    assert shift == 63 or round(Fraction(factor) * 2 ** (shift + 1)) > 65535


@given(factor=st.floats(2**-48, 0.5), y=st.integers(-(2**31), 2**31 - 1))
def test_error_bound_of_n5(factor, y):
    mantissa, shift = mantissa_shift(factor)
    real = y * Fraction(factor)
    assume(abs(real) < 120)
    out = int(requantize(torch.tensor([[y]]), mantissa=mantissa, shift=shift))
    assert abs(out - real) <= Fraction(1, 2) + abs(real) / 2**16


@pytest.mark.parametrize(
    ("factor", "expected"),
    [(0, (0, 0)), (1, (32768, 15)), (65535.0, (65535, 0)), (2**-48, (32768, 63)), (2**-63, (1, 63)),
     (2**-65, (0, 63)), (0.99999999, (32768, 15))],
)  # fmt: skip
def test_mantissa_at_the_ends(factor, expected):
    assert mantissa_shift(factor) == expected


def test_mantissas_of_channels():
    mantissas, shifts = mantissas_shifts(torch.tensor([0.75, 0.0, 3.0]))
    assert list(zip(mantissas.tolist(), shifts.tolist(), strict=True)) == [(49152, 16), (0, 0), (49152, 14)]


@pytest.mark.parametrize("factor", [-1e-9, 65535.5, 65536.0, float("inf"), float("nan")])
def test_impossible_factor_is_refused(factor):
    with pytest.raises(ValueError, match=r"factor must be in 0\.\.65535\.5, 65535\.5 excluded, not"):
        mantissa_shift(factor)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("mantissa", 65536, r"mantissa must be in 0\.\.65535, not 65536"),
        ("mantissa", -1, r"mantissa must be in 0\.\.65535, not -1"),
        ("shift", 64, r"shift must be in 0\.\.63, not 64"),
        ("zero_point", 128, r"zero_point must be in -128\.\.127, not 128"),
        ("bias", 2**31, r"bias must be in -2147483648\.\.2147483647, not 2147483648"),
        ("bias", torch.zeros(3, dtype=torch.int32), r"bias must be one value or 2 channels, not \(3,\)"),
        ("acc", torch.tensor([[2**31, 0]]), r"acc must be in -2147483648\.\.2147483647, not 2147483648"),
    ],
)
def test_refused_in_one_sentence(field, value, message):
    arguments = {"acc": torch.zeros(1, 2, dtype=torch.int32), "mantissa": 1, "shift": 0} | {field: value}
    with pytest.raises(ValueError, match=message):
        requantize(**arguments)
