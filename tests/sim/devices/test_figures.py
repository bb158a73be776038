"""Figures: intervals from confidence, order of their ends."""

import pytest
from pydantic import ValidationError

from systolith_sim.devices.figures import Datum, Figure


@pytest.mark.parametrize(
    ("confidence", "low", "high"),
    [("read", 10 / 1.1, 11.0), ("derived", 10 / 1.5, 15.0), ("recalled", 5.0, 20.0)],
)
def test_confidence_gives_the_interval(confidence, low, high):
    assert Datum(value=10.0, source="s", confidence=confidence).interval == pytest.approx((low, high))


def test_a_stated_interval_wins():
    datum = Datum(value=10.0, source="s", confidence="recalled", low=9.0, high=30.0)
    assert datum.interval == (9.0, 30.0)


@pytest.mark.parametrize(("low", "high"), [(11.0, 12.0), (1.0, 9.0)])
def test_ends_enclose_the_value(low, high):
    with pytest.raises(ValidationError, match="low <= value <= high"):
        Datum(value=10.0, source="s", confidence="read", low=low, high=high)
    with pytest.raises(ValidationError, match="low <= value <= high"):
        Figure(value=10.0, unit="s", how="modelled", source="s", low=low, high=high)


def test_scaling_keeps_the_provenance():
    figure = Figure(value=2.0, unit="s", how="measured", source="bench", low=1.0, high=4.0)
    assert figure.scaled(1000, "ms") == Figure(
        value=2000.0, unit="ms", how="measured", source="bench", low=1000.0, high=4000.0
    )
