"""N7: every byte through every kind of table; the table of a real function within half a last place."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch.nn import functional

from systolith_model.integer.linear import linear
from systolith_model.integer.table import apply_table, table_of

EVERY_BYTE = torch.arange(-128, 128).to(torch.int8)


def test_entry_is_the_unsigned_byte():
    table = torch.from_numpy(np.random.default_rng(7).permutation(256).astype(np.uint8).view(np.int8))
    expected = [int(table[q % 256]) for q in range(-128, 128)]  # Python's % is never negative
    assert apply_table(EVERY_BYTE, table).tolist() == expected


def test_table_comes_after_saturation():
    ramp = torch.arange(256).to(torch.uint8).view(torch.int8)  # the identity
    table = -1 - ramp.to(torch.int32)
    a = torch.tensor([[-128, 127, 0, 5]], dtype=torch.int8).T
    out = linear(a, torch.tensor([[127]]), mantissa=1, shift=0, table=table)
    assert out.flatten().tolist() == [127, -128, -1, -128]


@pytest.mark.parametrize(
    "function",
    [torch.sigmoid, torch.tanh, functional.silu, functional.gelu, torch.relu, torch.exp, torch.abs],
)
@pytest.mark.parametrize(("in_zero_point", "out_zero_point"), [(0, 0), (-128, 17), (40, -128)])
def test_table_is_within_half_a_place_of_the_function(function, in_zero_point, out_zero_point):
    in_scale, out_scale = 0.05, 0.04
    table = table_of(
        function,
        in_scale=in_scale, in_zero_point=in_zero_point, out_scale=out_scale, out_zero_point=out_zero_point,
    )  # fmt: skip
    real = function((EVERY_BYTE.double() - in_zero_point) * in_scale) / out_scale + out_zero_point
    error = (apply_table(EVERY_BYTE, table).double() - real.clamp(-128, 127)).abs()
    assert float(error.max()) <= 0.5


def test_table_of_a_square_is_exact():
    table = table_of(torch.square, in_scale=0.25, in_zero_point=3, out_scale=2.0, out_zero_point=-100)
    expected = [round(Fraction((q - 3) ** 2, 16 * 2)) - 100 for q in range(-128, 128)]
    assert apply_table(EVERY_BYTE, table).tolist() == [min(127, value) for value in expected]


def test_infinities_saturate():
    table = table_of(lambda x: 1 / x, in_scale=1e-3, in_zero_point=0, out_scale=1.0, out_zero_point=0)
    assert apply_table(EVERY_BYTE, table).tolist()[126:131] == [-128, -128, 127, 127, 127]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"in_scale": 0.0}, "in_scale must be finite and above 0, not 0.0"),
        ({"out_scale": float("nan")}, "out_scale must be finite and above 0, not nan"),
        ({"in_zero_point": 128}, r"in_zero_point must be in -128\.\.127, not 128"),
        ({"out_zero_point": -129}, r"out_zero_point must be in -128\.\.127, not -129"),
        ({"function": torch.log}, "function must give 256 numbers"),
    ],
)
def test_impossible_table_is_refused(changes, message):
    arguments = {"function": torch.tanh, "in_scale": 1.0, "in_zero_point": 0}
    arguments |= {"out_scale": 1.0, "out_zero_point": 0}
    with pytest.raises(ValueError, match=message):
        table_of(**(arguments | changes))


def test_table_of_the_wrong_size_is_refused():
    with pytest.raises(ValueError, match=r"table must have shape \(256,\), not \(255,\)"):
        apply_table(EVERY_BYTE, torch.zeros(255, dtype=torch.int8))
    with pytest.raises(ValueError, match=r"table must be in -128\.\.127, not 128"):
        apply_table(EVERY_BYTE, torch.full((256,), 128))
