"""Layouts refuse what cannot be, in one sentence that names it."""

import pytest

from systolith_sim.parallel.layout import Layout, divisors


class Shape:
    n_layers, n_heads, n_experts = 32, 32, 8


class Dense:
    n_layers, n_heads = 32, 12


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tp": 0}, "tp must be >= 1, not 0"),
        ({"pp": -1}, "pp must be >= 1, not -1"),
        ({"micro_batch": 0}, "micro_batch must be >= 1, not 0"),
        ({"schedule": "zigzag"}, "schedule must be one of gpipe, 1f1b, interleaved, not 'zigzag'"),
        ({"recompute": "half"}, "recompute must be one of none, selective, full, not 'half'"),
        ({"zero": 4}, r"zero must be in 0\.\.3, not 4"),
        ({"tp": 2, "ep": 3}, r"ep must divide tp \* dp = 2, not 3"),
        ({"interleave": 2}, "interleave must be 1 without an interleaved pipeline, not 2"),
    ],
)
def test_impossible_layouts_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Layout(**options)


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        (Dense(), {"tp": 8}, r"tp must divide the 12 heads \(1, 2, 3, 4, 6, 12\), not be 8"),
        (Shape(), {"pp": 64}, r"pp x interleave must be <= 32 layers, not 64"),
        (Dense(), {"tp": 4, "ep": 2}, "this model has no experts, not 2"),
        (Shape(), {"tp": 16, "ep": 16}, "this model has 8 experts, not 16"),
    ],
)
def test_models_that_do_not_split_are_refused(model, options, words):
    with pytest.raises(ValueError, match=words):
        Layout(**options).check(model)


def test_devices_and_words():
    layout = Layout(tp=4, pp=2, dp=3)
    assert layout.devices == 24
    assert str(layout) == "tp=4 pp=2 dp=3"
    assert str(Layout()) == "one device"
    assert divisors(36) == [1, 2, 3, 4, 6, 9, 12, 18, 36]
