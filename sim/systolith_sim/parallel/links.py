"""Placement over nodes with two classes of links, and the seconds of a message between devices.

A group of devices that fits into a node talks over the node's links; a larger one meets in each node first and
then crosses the network with one share a device.
"""

from dataclasses import dataclass
from math import ceil
from typing import Literal

from systolith_sim.devices.collective import (
    CUSTOM_BYTES,
    SCALE_OUT_CLASSES,
    Collective,
    Wire,
    custom_all_reduce,
    hierarchical,
    link_error_factors,
    wire_of,
)
from systolith_sim.devices.collective import SAME_CLASS as CLASSES
from systolith_sim.devices.device import Device
from systolith_sim.devices.parameters import CustomParameters
from systolith_sim.parallel.layout import Layout

Axis = Literal["tp", "pp", "dp", "ep"]

NODE_DEVICES = {"gpu": 8, "tpu": 256, "cpu": 2, "fpga": 1}
"""Devices of one node: eight GPUs behind one switch (HGX and DGX boards), a TPU pod slice of one interconnect, two
sockets of a CPU server."""
NETWORK = "network"


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
    custom: CustomParameters | None
    """The engine's own all-reduce inside a node, where it was measured."""
    node_devices: int

    @classmethod
    def of(cls, device: Device, *, custom: bool = False) -> "Fabric":
        """From a device's file; without links to peers, or to a network, those of the network's class.

        ``custom`` takes an engine's own all-reduce instead of a library's, where the device states one.
        """
        far = {name for name in device.links if CLASSES.get(name, name) in SCALE_OUT_CLASSES}
        rates = {name: link.bandwidth_bytes_per_s.value for name, link in device.links.items()}
        inner = max((name for name in rates if name not in far), key=lambda name: rates[name], default=NETWORK)
        outer = max(far, key=lambda name: rates[name], default=NETWORK)
        own = device.links[inner].custom if custom and inner in device.links else None
        count = NODE_DEVICES[device.kind]
        return cls(device, inner, wire_of(device, inner), outer, wire_of(device, outer), own, count)

    def group(self, layout: Layout, axis: Axis) -> tuple[int, int]:
        """(devices of one node, nodes) of a group along an axis, with tensor groups placed first."""
        stride = {"tp": 1, "ep": 1, "pp": layout.tp, "dp": layout.tp * layout.pp}[axis]
        size = {"tp": layout.tp, "ep": layout.ep, "pp": layout.pp, "dp": layout.dp}[axis]
        inside = max(1, min(size, self.node_devices // stride))
        return inside, ceil(size / inside)

    def seconds(self, message: Message, layout: Layout) -> float:
        """Seconds of one instance of a message in its group."""
        return self._timed(message, layout)[0]

    def interval(self, message: Message, layout: Layout) -> tuple[float, float, float]:
        """(low, value, high) seconds, by the scored error of the link that matters most."""
        seconds, regime, name = self._timed(message, layout)
        low, high = link_error_factors(self.device, name, regime)
        return seconds * float(low[0]), seconds, seconds * float(high[0])

    def _timed(self, message: Message, layout: Layout):  # noqa: ANN202 -- (seconds, regime as an array, link)
        inside, nodes = self.group(layout, message.axis)
        name = self.outer_name if nodes > 1 else self.inner_name
        small = message.kind == "all_reduce" and nodes == 1 and message.bytes < CUSTOM_BYTES
        if self.custom is not None and small:
            terms = custom_all_reduce(message.bytes, inside, self.inner, self.custom)
        elif message.kind == "send":
            terms = hierarchical("send", message.bytes, min(inside, 2), nodes, self.inner, self.outer)
        else:
            terms = hierarchical(message.kind, message.bytes, inside, nodes, self.inner, self.outer)
        return float(terms.total_s[0]), terms.regime, name
