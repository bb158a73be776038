"""Random cases: what they cover, and that the contract is asked, not the RTL."""

import numpy as np
import pytest

from systolith_sim.verify.campaign import LARGEST, draw
from systolith_sim.verify.cases import CAMPAIGN_CORES, campaign_core, expected, random_gemm


def test_cases_depend_on_their_seed_alone():
    first, again, other = (random_gemm(5, 7, 3, seed=seed) for seed in ([1, 2], [1, 2], 3))
    assert all(np.array_equal(getattr(first, name), getattr(again, name)) for name in ("a", "w", "bias", "mantissa"))
    assert not np.array_equal(first.w, other.w)


def test_cases_cover_what_the_core_does():
    cases = [random_gemm(9, 11, 6, seed=seed) for seed in range(60)]
    assert {case.signed for case in cases} == {True, False}
    assert {case.table is None for case in cases} == {True, False}
    outputs = np.concatenate([expected(case).ravel() for case in cases if case.table is None])
    assert outputs.min() == -128
    assert outputs.max() == 127
    assert len(np.unique(outputs)) > 240


def test_expected_by_hand():
    """One output worked out in plain integers (numerics, N1 to N6)."""
    case = random_gemm(1, 3, 1, seed=0)
    total = sum(int(x) * int(y) for x, y in zip(case.a[0], case.w[:, 0], strict=True)) + int(case.bias[0])
    scaled = total * int(case.mantissa[0])
    half = 1 << int(case.shift[0])
    quotient, rest = divmod(scaled, half)
    quotient += 2 * rest > half or (2 * rest == half and quotient % 2)
    value = max(-128, min(127, quotient + case.zero_point))
    assert expected(case)[0, 0] == (value if case.table is None else case.table[value & 255])


@pytest.mark.parametrize(("name", "shape"), [("m", (0, 1, 1)), ("k", (1, 65794, 1)), ("n", (1, 1, -1))])
def test_sizes_are_checked(name, shape):
    with pytest.raises(ValueError, match=f"^{name} must be"):
        random_gemm(*shape, seed=0)


def test_draws_reach_both_ends():
    draws = np.array([draw(0, 0, case) for case in range(400)])
    assert draws.min() == 1
    assert draws.max() > 0.95 * LARGEST


def test_cores_of_the_campaign():
    shapes = {(core.rows, core.cols) for core in map(campaign_core, CAMPAIGN_CORES)}
    assert {(1, 5), (7, 1), (3, 5), (4, 16), (16, 16)} <= shapes
    assert len({core.weight_rows_per_cycle for core in map(campaign_core, CAMPAIGN_CORES)}) >= 4
    assert len({core.port_bytes for core in map(campaign_core, CAMPAIGN_CORES)}) >= 5
