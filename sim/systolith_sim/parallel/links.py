"""Placement over nodes with two classes of links, and the seconds of a message between devices.

A group of devices that fits into a node talks over the node's links; a larger one meets in each node first and
then crosses the network with one share a device.
"""

from dataclasses import dataclass
from math import ceil
from typing import Literal

from systolith_sim.devices.device import Device
from systolith_sim.parallel.layout import Layout

Collective = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send"]
Axis = Literal["tp", "pp", "dp", "ep"]

NODE_DEVICES = {"gpu": 8, "tpu": 256, "cpu": 2, "fpga": 1}
"""Devices of one node unless told otherwise: eight GPUs behind one switch (HGX and DGX boards), a TPU pod slice of
one interconnect, two sockets of a CPU server."""
NETWORK_BYTES_PER_S = 2.5e10
"""Network of one device between nodes: 200 Gb/s each way, the DGX A100's (ai-dynamo/aiconfigurator@095f58a,
systems/a100_sxm.yaml, inter_node_bw)."""
NETWORK_LATENCY_S = 5e-6
"""Smallest message between nodes; recalled, not read in a source."""
LINK_LATENCY_S = 1e-5
"""Smallest message where a device states no latency of its link (aiconfigurator@095f58a, p2p_latency)."""


@dataclass(frozen=True)
class Link:
    """One class of links: bytes per second in one direction, seconds of the smallest message."""

    bytes_per_s: float
    latency_s: float


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
    """Links of a device and how many devices stand in one node."""

    inner: Link
    outer: Link
    node_devices: int

    @classmethod
    def of(cls, device: Device) -> "Fabric":
        """From a device's file; a machine without links to its peers talks over the network alone."""
        stated = {
            name: Link(
                link.bandwidth_bytes_per_s.value, link.latency_s.value if link.latency_s else LINK_LATENCY_S
            )
            for name, link in device.links.items()
        }
        networks = [link for name, link in stated.items() if name in ("network", "infiniband", "ethernet", "dcn")]
        peers = [link for name, link in stated.items() if name not in ("network", "infiniband", "ethernet", "dcn")]
        outer = max(networks, key=_rate, default=Link(NETWORK_BYTES_PER_S, NETWORK_LATENCY_S))
        return cls(max(peers, key=_rate, default=outer), outer, NODE_DEVICES[device.kind])

    def group(self, layout: Layout, axis: Axis) -> tuple[int, int]:
        """(devices of one node, nodes) of a group along an axis, with tensor groups placed first."""
        stride = {"tp": 1, "ep": 1, "pp": layout.tp, "dp": layout.tp * layout.pp}[axis]
        size = {"tp": layout.tp, "ep": layout.ep, "pp": layout.pp, "dp": layout.dp}[axis]
        inside = max(1, min(size, self.node_devices // stride))
        return inside, ceil(size / inside)

    def seconds(self, message: Message, layout: Layout) -> float:
        """Seconds of one instance of a message in its group."""
        inside, nodes = self.group(layout, message.axis)
        if message.kind == "send":
            link = self.outer if nodes > 1 else self.inner
            return link.latency_s + message.bytes / link.bytes_per_s
        if message.kind == "all_reduce":
            return 2 * self._exchange(message.bytes, inside, nodes)
        return self._exchange(message.bytes, inside, nodes)

    def _exchange(self, size_bytes: float, inside: int, nodes: int) -> float:
        """A reduce-scatter, an all-gather or an all-to-all: each device passes on all shares but its own."""
        total = 0.0
        if inside > 1:
            total += self.inner.latency_s / 2 + size_bytes * (inside - 1) / inside / self.inner.bytes_per_s
        if nodes > 1:
            share = size_bytes / inside
            total += self.outer.latency_s * (nodes - 1) + share * (nodes - 1) / nodes / self.outer.bytes_per_s
        return total


def _rate(link: Link) -> float:
    return link.bytes_per_s
