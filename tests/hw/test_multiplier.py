"""The multiplier: product and latency, generic twin; the ECP5 twin is compared with it in tests/cosim."""

import numpy as np
import pytest
from bench import play

from systolith_hw.arith.multiplier import Multiplier


@pytest.mark.parametrize("latency", [3, 4, 7])
@pytest.mark.parametrize("widths", [(9, 8), (17, 17), (1, 1), (5, 12)], ids=str)
def test_product_after_exactly_the_latency(widths, latency):
    a_width, b_width = widths
    a_end, b_end = 1 << a_width - 1, 1 << b_width - 1
    pairs = [(a, b) for a in (-a_end, a_end - 1, 0) for b in (-b_end, b_end - 1, 0)]
    rng = np.random.default_rng(a_width)
    pairs += rng.integers((-a_end, -b_end), (a_end, b_end), (200, 2)).tolist()
    cycles = [{"a": a, "b": b} for a, b in pairs] + [{}] * latency
    products = play(Multiplier(a_width=a_width, b_width=b_width, latency=latency), cycles, "p")
    assert products[latency:] == [a * b for a, b in pairs]


@pytest.mark.parametrize(("parameters", "message"), [
    ({"a_width": 0, "b_width": 8, "latency": 4}, "a_width and b_width must be >= 1, not 0 and 8"),
    ({"a_width": 9, "b_width": 8, "latency": 2}, "latency must be >= 3, not 2"),
])
def test_parameters_are_checked(parameters, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Multiplier(**parameters)
