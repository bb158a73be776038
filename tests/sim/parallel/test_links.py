"""Placement by hand, and messages over one node and several."""

import pytest

from systolith_sim.devices.collective import collective, wire_of
from systolith_sim.devices.library import find_device
from systolith_sim.parallel.layout import Layout
from systolith_sim.parallel.links import Fabric, Message

H100 = find_device("h100-sxm")


@pytest.mark.parametrize(
    ("layout", "axis", "group"),
    [
        (Layout(tp=8), "tp", (8, 1)),
        (Layout(tp=16), "tp", (8, 2)),
        (Layout(tp=4, dp=2), "dp", (2, 1)),
        (Layout(tp=4, dp=4), "dp", (2, 2)),
        (Layout(tp=8, pp=4), "pp", (1, 4)),
        (Layout(tp=2, pp=4, dp=8), "pp", (4, 1)),
        (Layout(tp=2, pp=4, dp=8), "dp", (1, 8)),
        (Layout(tp=2, dp=8, ep=16), "ep", (8, 2)),
    ],
)
def test_groups_on_nodes_of_eight(layout, axis, group):
    assert Fabric.of(H100).group(layout, axis) == group


def test_one_node_uses_its_own_links():
    seconds = Fabric.of(H100).seconds(Message("all_reduce", 1e8, "tp"), Layout(tp=8))
    assert seconds == float(collective("all_reduce", 1e8, 8, wire_of(H100, "nvlink")).total_s[0])


def test_an_engines_own_all_reduce_where_one_was_measured():
    """64 KiB on eight H100 take 6.4 us (custom all-reduce table of ai-dynamo/aiconfigurator@095f58a)."""
    fabric, message = Fabric.of(H100, own_all_reduce=True), Message("all_reduce", 65536, "tp")
    assert fabric.seconds(message, Layout(tp=8)) == pytest.approx(6.4e-6, rel=0.15)
    assert fabric.seconds(message, Layout(tp=8)) < Fabric.of(H100).seconds(message, Layout(tp=8)) / 2
    library = Fabric.of(H100)
    for other, layout in (
        (Message("all_gather", 65536, "tp"), Layout(tp=8)),
        (message, Layout(tp=16)),  # crosses nodes
        (Message("all_reduce", 64e6, "tp"), Layout(tp=8)),  # longer than the kernel takes
        (message, Layout()),
    ):
        assert fabric.seconds(other, layout) == library.seconds(other, layout)
    l40s = find_device("l40s")  # nobody measured one there
    assert Fabric.of(l40s, own_all_reduce=True) == Fabric.of(l40s)


def test_crossing_nodes_costs_more():
    fabric, message = Fabric.of(H100), Message("all_reduce", 1e8, "tp")
    inside, across = fabric.seconds(message, Layout(tp=8)), fabric.seconds(message, Layout(tp=16))
    # At least one share of an eighth crosses the network, there and back.
    assert across - inside > 0.5 * 1e8 / 8 / fabric.outer.bytes_per_s
    alone = fabric.seconds(message, Layout())
    assert alone == 0.0


def test_sends_take_the_link_that_the_stages_are_on():
    fabric, message = Fabric.of(H100), Message("send", 1e8, "pp")
    near, far = fabric.seconds(message, Layout(pp=8)), fabric.seconds(message, Layout(tp=8, pp=8))
    assert near == pytest.approx(1e8 / fabric.inner.bytes_per_s, rel=0.5)
    assert far == pytest.approx(1e8 / fabric.outer.bytes_per_s, rel=0.5)
    assert far > 5 * near


def test_intervals_hold_the_value_and_counts_multiply():
    fabric = Fabric.of(H100)
    one = fabric.total([Message("all_reduce", 1e6, "tp")], Layout(tp=4))
    ten = fabric.total([Message("all_reduce", 1e6, "tp", 10)], Layout(tp=4))
    assert one[0] <= one[1] <= one[2]
    assert ten == pytest.approx([10 * end for end in one])
    assert fabric.total([], Layout()) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("name", ["tpu-v5e", "mi300x", "l40s", "epyc-9654", "raspberry-pi-5"])
def test_every_kind_of_machine_has_a_fabric(name):
    fabric = Fabric.of(find_device(name))
    assert fabric.seconds(Message("all_reduce", 1e6, "tp"), Layout(tp=2)) > 0
