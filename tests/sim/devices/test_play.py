"""Play against closed forms."""

from itertools import pairwise

import pytest

from systolith_model.graph import Operation
from systolith_sim.devices.kernel import KernelTime, cost
from systolith_sim.devices.library import find_device
from systolith_sim.devices.play import play, played
from systolith_sim.devices.timeline import busy_s, end_s


def one(name, count, *, launch, compute, memory):
    operation = Operation(name=name, kind="matmul", inputs=(), outputs=(), count=count)
    total = launch + max(compute, memory)
    return operation, KernelTime(
        total, compute, memory, launch, "compute", 1, 1, total, total, "bf16", "given"
    )


def test_in_order_is_the_sum(decoder):
    device = find_device("h100-sxm")
    total = sum(operation.count * time.seconds for operation, time in cost(device, decoder))
    result = play(device, decoder)
    assert result.total_s == pytest.approx(total, rel=1e-9)
    assert end_s(result.spans) <= result.total_s * (1 + 1e-9)


@pytest.mark.parametrize(("compute", "memory"), [(3.0, 2.0), (2.0, 3.0), (2.0, 2.0)])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_double_buffering_has_a_closed_form(count, compute, memory):
    costs = [one("layer", count, launch=0.5, compute=compute, memory=memory)]
    busy = 0.5 + compute
    result = played(costs, prefetch=True)
    assert result.total_s == pytest.approx(memory + (count - 1) * max(memory, busy) + busy)
    assert busy_s(result.spans) == pytest.approx(
        {"memory": count * memory, "launch": count * 0.5, "compute": count * compute}
    )


def test_counts_repeat_and_tracks_do_not_overlap():
    costs = [
        one("a", 3, launch=1.0, compute=2.0, memory=5.0),
        one("b", 1, launch=1.0, compute=4.0, memory=1.0),
    ]
    result = played(costs)
    assert result.total_s == 3 * 6 + 5
    for track in ("launch", "compute", "memory"):
        own = [span for span in result.spans if span.track == track]
        assert len(own) == 4
        assert all(left.end_s <= right.start_s for left, right in pairwise(own))
