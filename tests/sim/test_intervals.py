"""Intervals of fits: what share of fresh draws of known distributions lies inside, and what the files hold."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from fit_files import pooled_errors, regime_errors, widest
from intervals import LEVELS, Scored, folds_of, held_level, interval, mirrored, shortest, within

MEASURED = {"matmul": ("a100-80", "h100-sxm", "h200", "l40s"), "attention": ("a100-80", "h100-sxm", "h200")}


def scored(ratio, groups, cases=None):
    none = np.full(len(ratio), "")
    return Scored(ratio, np.full(len(ratio), "launch"), none if cases is None else cases, groups)


def drawn(rng, groups, rows, between, within):
    """Logarithms of errors: a normal shift of each group, and a normal deviation of each row."""
    shifts = rng.normal(0, between, groups)
    ratio = np.exp(np.repeat(shifts, rows) + rng.normal(0, within, groups * rows))
    return ratio, np.repeat(np.arange(groups).astype(str), rows)


def test_the_shortest_interval_of_a_uniform_draw_is_its_share():
    ratio = np.exp(np.linspace(-1, 1, 2001))
    low, high = shortest(ratio, 0.9)
    assert np.log(high / low) == pytest.approx(0.9 * 2, rel=0.01)


def test_the_shortest_interval_leaves_out_the_longer_tail():
    ratio = np.exp(np.concatenate([np.linspace(-0.1, 0.1, 901), np.linspace(1, 2, 99)]))
    low, high = shortest(ratio, 0.9)
    assert (low, high) == pytest.approx((np.exp(-0.1), np.exp(0.1)), rel=0.01)


def test_few_rows_hold_the_share_of_further_ones():
    """Between the ends of n uniform draws lie (n - 1) / (n + 1) of further ones; 90 % need all of 20 rows."""
    covered = []
    for seed in range(2000):
        ratio = np.exp(np.random.default_rng(seed).uniform(0, 1, 20))
        low, high = within(scored(ratio, np.full(20, "one")))
        covered.append(min(np.log(high), 1) - max(np.log(low), 0))
    # 1 is always inside: the low end is 0, and the high one the largest of 20
    assert np.mean(covered) == pytest.approx(20 / 21, abs=0.003)


def test_an_interval_within_groups_is_narrower_than_one_for_new_groups():
    ratio, groups = drawn(np.random.default_rng(3), 8, 50, 0.1, 0.02)
    alone, new = within(scored(ratio, groups)), interval(scored(ratio, groups))
    assert new[0] <= alone[0] < alone[1] <= new[1]
    inside = (ratio >= alone[0]) & (ratio <= alone[1])
    assert inside.mean() == pytest.approx(0.9, abs=0.01)


def test_a_few_devices_do_not_tell_on_which_side_a_new_one_stands():
    """Three devices shifted up alone: one shifted down by as much lies inside the mirrored interval alone."""
    ends = within(scored(np.exp(np.linspace(0.1, 0.3, 301)), np.full(301, "one")))
    below = np.exp(-np.linspace(0.1, 0.25, 100))
    low, high = mirrored(ends)
    assert ((below >= low) & (below <= high)).all()
    assert not (below >= ends[0]).any()
    assert low * high == pytest.approx(1.0)


def test_pooled_regimes_share_one_interval():
    ratio, groups = drawn(np.random.default_rng(4), 4, 100, 0.05, 0.05)
    regimes = np.tile(["memory", "compute"], 200)
    found = pooled_errors("grouped", Scored(ratio, regimes, np.full(400, ""), groups), "source")
    assert {error.regime for error in found} == {"launch", "memory", "compute"}
    assert len({(error.low, error.high, error.rows) for error in found}) == 1
    assert found[0].rows == 400


@pytest.mark.parametrize(("between", "within"), [(0.0, 0.1), (0.1, 0.1), (0.1, 0.02)])
def test_new_groups_lie_inside_as_often_as_said(between, within):
    """Coverage of rows of a new group under the distribution itself, over many fits: at least 90 %, and not all."""
    covered = []
    for seed in range(60):
        ratio, groups = drawn(np.random.default_rng(seed), 40, 25, between, within)
        low, high = interval(scored(ratio, groups))
        spread = np.hypot(between, within)
        fresh = np.random.default_rng(10_000 + seed).normal(0, spread, 20_000)
        covered.append(np.mean((fresh > np.log(low)) & (fresh < np.log(high))))
    assert np.mean(covered) > 0.9
    assert np.mean(np.array(covered) > 0.9) > 0.7
    assert np.mean(covered) < 0.99


def test_correlated_rows_need_a_higher_level_than_independent_ones():
    alone = [held_level(*drawn(np.random.default_rng(seed), 20, 20, 0.0, 0.1)) for seed in range(10)]
    grouped = [held_level(*drawn(np.random.default_rng(seed), 20, 20, 0.1, 0.02)) for seed in range(10)]
    assert np.mean(grouped) > np.mean(alone)
    assert all(0.9 <= level <= 1.0 for level in alone + grouped)


def test_a_single_group_tells_nothing_of_another():
    assert held_level(np.exp(np.linspace(-1, 1, 100)), np.full(100, "one")) == LEVELS[-1] == 1.0


def test_a_group_is_left_out_as_a_whole():
    groups = np.array(["a", "b", "c"] * 30)
    folds = folds_of(groups)
    assert len({(group, fold) for group, fold in zip(groups, folds, strict=True)}) == 3
    assert len(set(folds)) == 3


def test_a_case_with_few_rows_takes_the_interval_of_its_regime():
    rng = np.random.default_rng(1)
    ratio, groups = np.exp(rng.normal(0, 0.1, 400)), np.tile(np.arange(20).astype(str), 20)
    cases = np.where(np.arange(400) < 390, "cold", "hot")
    found = regime_errors("matmul", scored(ratio, groups, cases=cases), "source")
    assert [(error.regime, error.case, error.rows) for error in found] == [("launch", "cold", 390), ("launch", "", 400)]


def test_the_widest_of_several_devices_holds_each():
    parts = []
    for center in (0.9, 1.2):
        ratio = center * np.exp(np.linspace(-0.1, 0.1, 300))
        whole = scored(ratio, np.tile(np.arange(10).astype(str), 30))
        parts.append(regime_errors("matmul", whole, "source", ends=lambda rows: shortest(rows.ratio, 0.9)))
    (error,) = widest(parts)
    assert error.low == min(part[0].low for part in parts)
    assert error.high == max(part[0].high for part in parts)
    assert error.rows == 600


def test_every_measured_device_has_intervals_of_its_regimes():
    from systolith_sim.devices.library import find_device

    for operator, names in MEASURED.items():
        for name in names:
            errors = [error for error in find_device(name).errors if error.operator == operator]
            assert {error.regime for error in errors} == {"launch", "memory", "compute"}, name
            cases = {error.case for error in errors} - {""}
            assert cases == ({"hot", "cold"} if operator == "matmul" else {"prefill", "decode"}), name
            assert all(error.low < 1 < error.high for error in errors)
