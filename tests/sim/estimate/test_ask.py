"""What the command's options make of a layout."""

import pytest

from systolith_sim.estimate.ask import Ask, layout_of
from systolith_sim.estimate.models import find_model


@pytest.mark.parametrize(
    ("options", "degrees"),
    [
        ({}, (1, 1, 1)),
        ({"devices": 16}, (16, 1, 1)),
        ({"devices": 24}, (8, 1, 3)),  # 32 heads divide by 8, not by 24
        ({"devices": 16, "tp": 8}, (8, 1, 2)),
        ({"devices": 16, "tp": 2, "pp": 4}, (2, 4, 2)),
        ({"tp": 2, "dp": 3}, (2, 1, 3)),
        ({"devices": 4, "dp": 4}, (1, 1, 4)),
    ],
)
def test_devices_left_over_are_replicas(options, degrees):
    layout = layout_of(Ask(model="llama-2-7b", on=("h100-sxm",), **options), find_model("llama-2-7b"))
    assert (layout.tp, layout.pp, layout.dp) == degrees
