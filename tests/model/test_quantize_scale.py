"""Scales and int8 weights: what they hold exactly, their bounds, and the methods that choose them."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from systolith_model.quantize.error import cosine, sqnr_db
from systolith_model.quantize.linear import quantize_linear, quantize_weight
from systolith_model.quantize.scale import Scale, candidates, scale_of_range

STEPS = st.floats(1e-6, 1e3)


@given(step=STEPS, zero_point=st.integers(-128, 127), values=st.lists(st.floats(-1e6, 1e6), min_size=1))
def test_nearest_byte_ties_to_even(step, zero_point, values):
    expected = [min(127, max(-128, round(value / step) + zero_point)) for value in values]
    assert Scale(step, zero_point).quantize(torch.tensor(values, dtype=torch.float64)).tolist() == expected


@given(step=STEPS, zero_point=st.integers(-128, 127))
def test_every_byte_survives_the_round_trip(step, zero_point):
    q = torch.arange(-128, 128).to(torch.int8)
    scale = Scale(step, zero_point)
    assert torch.equal(scale.quantize(scale.dequantize(q)), q)
    assert float(scale.dequantize(torch.tensor([zero_point]).to(torch.int8))) == 0


@given(low=st.floats(-1e4, 1e4), width=st.floats(1e-3, 1e4))
def test_range_is_held_within_a_step(low, width):
    scale = scale_of_range(low, low + width)
    ends = torch.tensor([low, low + width], dtype=torch.float64)
    assert float((scale.dequantize(scale.quantize(ends)).double() - ends).abs().max()) <= 1.001 * scale.step


def test_constant_zero_has_a_scale():
    assert scale_of_range(0.0, 0.0) == Scale(1.0, 0)


def test_search_sees_what_bytes_keep():
    real = torch.randn(10_000, generator=torch.Generator().manual_seed(1))
    scale = Scale(0.013, -17)
    torch.testing.assert_close(scale.rounded(real), scale.dequantize(scale.quantize(real)))


def test_methods_reach_as_far_as_they_say():
    values = torch.from_numpy(np.random.default_rng(3).permutation(np.linspace(-1, 3, 50_001)))
    found = candidates(values)
    assert list(found) == ["min-max", "percentile 99.0", "percentile 99.9", "percentile 99.99", "mse"]
    assert found["min-max"].step == pytest.approx(4 / 255)
    for percentile in (99.0, 99.9, 99.99):
        cut = (100 - percentile) / 100
        low, high = np.quantile(values.numpy(), [cut, 1 - cut])
        assert found[f"percentile {percentile}"].step == pytest.approx((high - low) / 255, rel=1e-3)


def test_square_error_cuts_a_long_tail():
    values = torch.randn(50_000, generator=torch.Generator().manual_seed(4)) ** 5
    found = candidates(values)
    errors = {
        name: float((scale.dequantize(scale.quantize(values)) - values).square().mean())
        for name, scale in found.items()
    }
    assert found["mse"].step < found["min-max"].step
    assert errors["mse"] < errors["min-max"]
    assert errors["mse"] < 1.01 * min(errors.values())


@given(seed=st.integers(0, 2**32 - 1))
def test_weights_are_symmetric_and_within_half_a_step(seed):
    weight = torch.from_numpy(np.random.default_rng(seed).normal(size=(5, 9)))
    weight[2] = 0
    q, steps = quantize_weight(weight)
    assert q.shape == (9, 5)
    assert int(q.abs().max()) == 127
    assert float(((q.double() * steps).T - weight).abs().div(steps[:, None]).max()) <= 0.5 + 1e-9
    assert steps[2] == 1
    assert not q[:, 2].any()


def test_layer_equals_its_real_arithmetic():
    """The integer layer against exact fractions of the quantized numbers, within N5's bound."""
    generator = torch.Generator().manual_seed(5)
    weight, bias = torch.randn(4, 7, generator=generator), torch.randn(4, generator=generator)
    x = torch.randint(-128, 128, (20, 7), generator=generator).to(torch.int8)
    source, target = Scale(0.031, 9), Scale(0.05, -20)
    layer = quantize_linear("layer", weight, bias, input=source, output=target)
    q, steps = quantize_weight(weight)
    out = layer(x)
    for row in range(20):
        for n in range(4):
            total = sum((int(x[row, k]) - 9) * int(q[k, n]) for k in range(7))
            step = Fraction(float(steps[n])) * Fraction(0.031)
            real = (total + round(Fraction(float(bias[n])) / step)) * step / Fraction(0.05)
            held = min(Fraction(127), max(Fraction(-128), real - 20))
            assert abs(int(out[row, n]) - held) <= Fraction(1, 2) + abs(real) / 2**16


def test_errors_of_known_vectors():
    real = torch.tensor([3.0, 4.0])
    assert sqnr_db(real, torch.tensor([3.0, 4.5])) == pytest.approx(20.0)
    assert sqnr_db(real, real) == float("inf")
    assert sqnr_db(torch.zeros(2), real) == float("-inf")
    assert cosine(real, torch.tensor([4.0, 3.0])) == pytest.approx(24 / 25)
    assert cosine(real, torch.zeros(2)) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Scale(0.0, 0), "step must be finite and above 0, not 0.0"),
        (lambda: Scale(1.0, 128), r"zero_point must be in -128\.\.127, not 128"),
        (
            lambda: Scale(1.0, 0).quantize(torch.tensor(torch.nan)),
            "values to quantize must be numbers, not NaN",
        ),
        (lambda: candidates(torch.tensor([1.0, torch.inf])), "calibration values must be finite"),
        (lambda: candidates(torch.zeros(0)), "calibration values must be finite and at least one"),
        (
            lambda: quantize_linear(
                "l", torch.ones(1, 1), None, input=Scale(1, 0), output=Scale(1, 0), before=Scale(1, 0)
            ),
            "function and before must be given together, or neither",
        ),
    ],
)
def test_refused_in_one_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()
