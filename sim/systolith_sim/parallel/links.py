"""Placement over nodes with two classes of links, and the seconds of a message between devices.

A group of devices that fits into a node talks over the node's links; a larger one meets in each node first and
then crosses the network with one share a device.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil
from typing import Literal

from systolith_sim.devices.collective import (
    SAME_CLASS,
    SCALE_OUT_CLASSES,
    Collective,
    Wire,
    custom_all_reduce,
    hierarchical,
    link_error_factors,
    wire_of,
)
from systolith_sim.devices.device import Device
from systolith_sim.devices.parameters import CustomParameters
from systolith_sim.parallel.layout import Layout

Axis = Literal["tp", "pp", "dp", "ep"]

NODE_DEVICES = {"gpu": 8, "tpu": 256, "cpu": 2, "fpga": 1}
"""Devices of one node: eight GPUs behind one switch (HGX and DGX boards), a TPU pod slice of one interconnect, two
sockets of a CPU server."""
NETWORK = "network"
Ends = tuple[float, float, float]
"""A figure with its interval: low, value, high."""


@dataclass(frozen=True)
class Message:
    """What a device exchanges: ``bytes`` of the whole tensor that each holds or receives, ``count`` times."""

    kind: Collective
    bytes: float
    axis: Axis
    count: float = 1.0
    name: str = ""


@dataclass(frozen=True)
class Fabric:
    """Links of a device, inside a node and between nodes."""

    device: Device
    inner_name: str
    inner: Wire
    outer_name: str
    outer: Wire
    node_devices: int
    own: CustomParameters | None = None
    """All-reduce kernel of the engine for groups of one node; the library's unless given."""

    @classmethod
    def of(cls, device: Device, *, own_all_reduce: bool = False) -> "Fabric":
        """From a device's file; without links to peers, or to a network, those of the network's class.

        ``own_all_reduce`` takes an engine's kernel where the link has parameters of one.
        """
        far = {name for name in device.links if SAME_CLASS.get(name, name) in SCALE_OUT_CLASSES}
        rates = {name: link.bandwidth_bytes_per_s.value for name, link in device.links.items()}
        inner = max((name for name in rates if name not in far), key=lambda name: rates[name], default=NETWORK)
        outer = max(far, key=lambda name: rates[name], default=NETWORK)
        count = NODE_DEVICES[device.kind]
        own = device.links[inner].custom if own_all_reduce and inner in device.links else None
        return cls(device, inner, wire_of(device, inner), outer, wire_of(device, outer), count, own)

    def group(self, layout: Layout, axis: Axis) -> tuple[int, int]:
        """(devices of one node, nodes) of a group along an axis, with tensor groups placed first."""
        stride = {"tp": 1, "ep": 1, "pp": layout.tp, "dp": layout.tp * layout.pp}[axis]
        size = {"tp": layout.tp, "ep": layout.ep, "pp": layout.pp, "dp": layout.dp}[axis]
        inside = max(1, min(size, self.node_devices // stride))
        return inside, ceil(size / inside)

    def seconds(self, message: Message, layout: Layout) -> float:
        """Seconds of one instance of a message in its group."""
        return self._timed(message, layout)[1]

    def total(self, messages: Iterable[Message], layout: Layout) -> Ends:
        """(low, value, high) seconds of all instances of messages, one after the other."""
        ends = [[message.count * end for end in self._timed(message, layout)] for message in messages]
        low, value, high = (sum(column) for column in zip(*ends, strict=True)) if ends else (0.0, 0.0, 0.0)
        return low, value, high

    def _timed(self, message: Message, layout: Layout) -> Ends:
        """(low, value, high) seconds, by the scored error of the slowest class of links on the way."""
        inside, nodes = self.group(layout, message.axis)
        if message.kind == "send":  # from one device to one other
            inside, nodes = min(inside, 2), min(nodes, 2)
        if message.kind == "all_reduce" and inside > 1 == nodes and self.own is not None:
            terms = custom_all_reduce(message.bytes, inside, self.inner, self.own)
        else:
            terms = hierarchical(message.kind, message.bytes, inside, nodes, self.inner, self.outer)
        seconds = float(terms.total_s[0])
        low, high = link_error_factors(self.device, self.outer_name if nodes > 1 else self.inner_name, terms.regime)
        return seconds * float(low[0]), seconds, seconds * float(high[0])
