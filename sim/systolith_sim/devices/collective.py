"""Collectives between devices: rings, trees, meshes and switches, with protocols for short and long messages.

Form and constants: docs/reference/kernel-cost.md. Sizes are bytes of the whole tensor: what each device holds
before an all-reduce, reduce-scatter or all-to-all, and after an all-gather. Functions take arrays.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from systolith_sim.devices.device import Device
from systolith_sim.devices.figures import tuples
from systolith_sim.devices.gemm import Array, smooth_maximum
from systolith_sim.devices.parameters import CollectiveParameters, CustomParameters, LinkClass, Topology

Collective = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send"]
COLLECTIVES: tuple[Collective, ...] = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send")
LINK_CLASSES = ("nvlink", "xgmi", "ici", "pcie", "network")
"""Classes in order of choice; the first word of a device's link names its class."""
SAME_CLASS = {
    "c2c": "nvlink", "package": "xgmi", "upi": "xgmi", "infiniband": "network", "ethernet": "network",
    "dcn": "network",
}  # fmt: skip
"""Links that take the parameters of another class."""
SCALE_OUT_CLASSES = ("network",)
"""Classes that connect nodes rather than devices of one."""
ONE_STAGE_BYTES = {2: float("inf"), 4: 524288.0, 8: 262144.0}
"""By devices, the size below which an engine's own all-reduce takes one stage (vLLM, custom_all_reduce.cuh)."""
CUSTOM_BYTES = 8.0 * 2**20
"""Largest size an engine reduces itself (vLLM's default); longer ones go to the library."""


PEER_READ_S = 7e-7
"""Reading a few bytes from one peer's memory after the other, as the second stage does, seconds a peer: middle of 0.5
to 0.9 us, which fit A100 and H100 in groups of 8 alike. Long messages hide it."""
PEER_READ_SHARPNESS = 2.0
"""Exponent of the smooth maximum of those reads and of the bytes. Declared, not fitted."""


@dataclass(frozen=True)
class CollectiveConstants:
    """Constants shared by all links, fitted once on A100 and H100 by benchmarks/fit_collective.py."""

    middle_handover: float = 0.1065
    """Hand-over of the protocol for middling messages, relative to that for long ones."""
    middle_share: float = 0.5251
    """Its share of the bandwidth, relative to that for long ones."""
    local: float = 3.302
    """Rate at which a device moves its own share, relative to the link's."""
    peer_share: float = 0.01455
    """Share of the bandwidth that short messages reach between one pair in an all-to-all."""
    peer_handover_s: float = 4.063e-06
    """Hand-over of middling messages there."""
    peer_middle_share: float = 0.4187
    """Their share of the bandwidth, relative to that of long ones."""
    peer_handover: float = 0.7312
    """Hand-over of long messages there, relative to that of the other collectives."""
    peer_start_s: float = 1.816e-06
    """What an all-to-all adds to the launch."""
    peer_steps: float = 0.325
    """Steps to a neighbour that each peer of an all-to-all costs."""
    send_s: float = 9.9e-06
    """Start to end of a send of a few bytes."""
    send_share: float = 1.0
    """Share of the bandwidth that a long send reaches, on NVLink."""


FEW_STEPS = 4
"""Steps below which NCCL's tuner goes from its shortest messages' protocol straight to that of long ones."""
THOUGHT_S, THOUGHT_STEP_S = 1.8e-6, 2.8e-6
"""How much more latency its tuner takes the latter to have, and each step of it (src/graph/tuning.cc, recalled)."""
THOUGHT_SLOWER = 4
"""How much slower it takes the former to be in an all-reduce; one less elsewhere (the same file, recalled)."""
SEND_SHARPNESS = 2.0
"""Exponent of the smooth maximum of a send's start and its bytes. Declared, not fitted."""
RING_DEVICES = 8
"""Most devices that stand in one ring of a torus; more take two axes. Declared: slices of a TPU pod."""
UNSCORED = 2.0
"""Factor below and above where a class of links was never measured. Declared, not measured."""
CONSTANTS = CollectiveConstants()


@dataclass(frozen=True)
class Wire:
    """A link as the models see it: bytes per second in one direction, and a library's parameters on it."""

    bytes_per_s: float
    topology: Topology
    launch_s: float
    step_s: float
    low_latency_share: float
    handover_s: float
    bandwidth_share: float
    switch_share: float | None = None

    @classmethod
    def of(cls, bytes_per_s: float, topology: Topology, parameters: CollectiveParameters) -> "Wire":
        """From a datasheet's bandwidth and fitted or class parameters."""
        switch = parameters.switch_share
        return cls(
            bytes_per_s, topology, parameters.launch_s.value, parameters.step_s.value,
            parameters.low_latency_share.value, parameters.handover_s.value, parameters.bandwidth_share.value,
            None if switch is None else switch.value,
        )  # fmt: skip


@dataclass(frozen=True)
class LinkTerms:
    """Seconds of a collective: latency of launch and steps, and the rest on the links."""

    total_s: Array
    latency_s: Array
    link_s: Array

    def plus(self, other: "LinkTerms") -> "LinkTerms":
        """One after the other."""
        return LinkTerms(self.total_s + other.total_s, self.latency_s + other.latency_s, self.link_s + other.link_s)

    @property
    def regime(self) -> NDArray[np.str_]:
        """What is more than half: ``launch`` for latency, or ``link``."""
        return np.where(self.latency_s > self.total_s / 2, "launch", "link")


def collective(
    kind: Collective,
    size_bytes: ArrayLike,
    devices: ArrayLike,
    wire: Wire,
    *,
    reduces_in_switch: ArrayLike = True,
    constants: CollectiveConstants = CONSTANTS,
) -> LinkTerms:
    """Seconds of one collective among ``devices`` that all share one class of links.

    Parameters
    ----------
    size_bytes, devices : array_like
        Bytes of the whole tensor, and devices that take part; one device takes no time.
    reduces_in_switch : array_like of bool
        The format is one that the switch can add (floating point, not int8).

    Raises
    ------
    ValueError
        If ``kind`` is unknown, a size is negative or there is no device.
    """
    if kind not in COLLECTIVES:
        raise ValueError(f"collective must be one of {', '.join(COLLECTIVES)}, not {kind!r}")
    size, n, switched = np.broadcast_arrays(
        np.atleast_1d(np.asarray(size_bytes, float)), np.asarray(devices, float), np.asarray(reduces_in_switch)
    )
    if (size < 0).any() or (n < 1).any():
        raise ValueError(f"size_bytes must be >= 0 and devices >= 1, not {size.min():g} and {n.min():g}")
    if kind in ("all_to_all", "send"):
        latency, link = _peers(kind, size, n, wire, constants)
    else:
        latency, link = _rings(kind, size, n, wire, switched, constants)
    idle = n == 1
    latency, link = np.where(idle, 0.0, latency), np.where(idle, 0.0, link)
    return LinkTerms(latency + link, latency, link)


def _rate(wire: Wire, n: Array) -> Array:
    """Bytes per second that leave one device, over all links it can use at once."""
    neighbours = np.where(n <= RING_DEVICES, 2.0, 4.0)
    links = {"mesh": n - 1, "torus": np.minimum(n - 1, neighbours)}.get(wire.topology, np.ones_like(n))
    return wire.bytes_per_s * np.maximum(links, 1.0)


def _steps(wire: Wire, n: Array) -> Array:
    """Steps of one pass around: a mesh takes one; a torus goes both ways, along one axis and then two."""
    if wire.topology == "mesh":
        return np.ones_like(n)
    if wire.topology == "torus":
        return np.where(n <= RING_DEVICES, np.ceil((n - 1) / 2), np.ceil(np.sqrt(n)))
    return n - 1


def _rings(
    kind: Collective, size: Array, n: Array, wire: Wire, switched: NDArray[np.bool_], c: CollectiveConstants
) -> tuple[Array, Array]:
    """Latency and link seconds of an all-reduce, all-gather or reduce-scatter: the fastest protocol.

    Where a ring over a switch has few steps, NCCL's tuner leaves the protocols for short messages earlier than that.
    """
    passes = 2.0 if kind == "all_reduce" else 1.0
    rate = _rate(wire, n)
    traffic = passes * (n - 1) / n * size
    long_rate = wire.bandwidth_share * rate
    short = traffic / (wire.low_latency_share * rate)
    middle = c.middle_handover * wire.handover_s + traffic / (c.middle_share * long_rate)
    long = wire.handover_s + traffic / long_rate + size / n / (c.local * wire.bandwidth_share * wire.bytes_per_s)
    steps = passes * _steps(wire, n)
    early = np.minimum(short, middle)
    link = np.minimum(early, long)
    if wire.topology == "switch":
        slower = THOUGHT_SLOWER if kind == "all_reduce" else THOUGHT_SLOWER - 1
        leaves = traffic * (slower - 1) / rate > THOUGHT_S + THOUGHT_STEP_S * steps
        link = np.where(steps < FEW_STEPS, np.where(leaves, long, early), link)
    latency = wire.launch_s + wire.step_s * steps
    if kind != "all_reduce":
        return latency, link
    if wire.switch_share is not None:
        inside = wire.handover_s + (1 + 1 / n) * size / (wire.switch_share * wire.bytes_per_s)
        link = np.where((n > 2) & switched, np.minimum(link, inside), link)
    # A pipelined double tree moves every byte up and down once, in steps of its depth.
    tree_steps = 2 * np.ceil(np.log2(np.maximum(n, 2)))
    tree_link = np.minimum(2 * size / (wire.low_latency_share * rate), wire.handover_s + 2 * size / long_rate)
    tree = (n > 8) & (wire.step_s * tree_steps + tree_link < wire.step_s * steps + link)
    return (
        np.where(tree, wire.launch_s + wire.step_s * tree_steps, latency),
        np.where(tree, tree_link, link),
    )


def _peers(kind: Collective, size: Array, n: Array, wire: Wire, c: CollectiveConstants) -> tuple[Array, Array]:
    """Latency and link seconds where each pair exchanges a message of its own."""
    if kind == "send":
        link = size / (max(c.send_share, wire.bandwidth_share) * wire.bytes_per_s)
        # The first bytes are under way while the call still starts.
        total = smooth_maximum(max(c.send_s, wire.step_s), link, SEND_SHARPNESS)
        return total - link, link
    latency = wire.launch_s + c.peer_start_s + c.peer_steps * wire.step_s * (n - 1)
    each = size / n
    hops = n / 8 if wire.topology == "torus" else 1.0  # half the ring's shares cross its middle, both ways
    moved = each * (n - 1) / (wire.bandwidth_share * _rate(wire, n)) * np.maximum(hops, 1.0)
    short = each / (c.peer_share * wire.bytes_per_s)
    middle = c.peer_handover_s + moved / c.peer_middle_share
    long = c.peer_handover * wire.handover_s + moved + each / (c.local * wire.bandwidth_share * wire.bytes_per_s)
    return latency, np.minimum(np.minimum(short, middle), long)


def hierarchical(kind: Collective, size_bytes: float, inside: int, nodes: int, inner: Wire, outer: Wire) -> LinkTerms:
    """Seconds of a collective among ``inside`` devices in each of ``nodes`` nodes.

    Each node reduces to shares, the shares cross the network side by side, and each node gathers them again.
    A send crosses the network where there are several nodes.
    """
    if nodes == 1:
        return collective(kind, size_bytes, inside, inner)
    share = size_bytes / inside
    if kind == "send":
        return collective(kind, size_bytes, 2, outer)
    if kind == "all_reduce":
        within = collective("reduce_scatter", size_bytes, inside, inner).plus(
            collective("all_gather", size_bytes, inside, inner)
        )
        return within.plus(collective(kind, share, nodes, outer))
    if kind == "all_to_all":  # each device's shares for other nodes, all of them over its own port
        return collective(kind, share, inside, inner).plus(collective(kind, size_bytes, nodes, outer))
    return collective(kind, size_bytes, inside, inner).plus(collective(kind, share, nodes, outer))


def custom_all_reduce(
    size_bytes: ArrayLike,
    devices: ArrayLike,
    wire: Wire,
    parameters: CustomParameters,
    *,
    eager: ArrayLike = False,
    copy_bytes_per_s: float = np.inf,
) -> LinkTerms:
    """Seconds of an engine's own all-reduce; longer messages than it takes go to the library.

    One stage reads all peers at once. The second of two stages waits for all devices, then reads one peer after the
    other. Launched by a framework (``eager``), it copies its operand first, at ``copy_bytes_per_s`` of main memory.
    """
    size, n, host = np.broadcast_arrays(
        np.atleast_1d(np.asarray(size_bytes, float)), np.asarray(devices, float), np.asarray(eager)
    )
    limit = np.select([n <= 2, n <= 4], [ONE_STAGE_BYTES[2], ONE_STAGE_BYTES[4]], ONE_STAGE_BYTES[8])
    two = size >= limit
    traffic = np.where(two, 2 * (n - 1) / n, n - 1) * size
    latency = parameters.launch_s.value + parameters.step_s.value * (n - 1) + two * parameters.second_s.value
    library = collective("all_reduce", size, n, wire)
    own = size < CUSTOM_BYTES
    latency = np.where(own, latency, library.latency_s)
    bytes_s = traffic / (parameters.share.value * wire.bytes_per_s)
    reads_s = np.where(two, PEER_READ_S * (n - 1), 0.0)
    link = np.where(own, smooth_maximum(reads_s, bytes_s, PEER_READ_SHARPNESS), library.link_s)
    link = link + host * 2 * size / copy_bytes_per_s
    latency = np.where(host, np.maximum(latency, parameters.eager_s.value - link), latency)
    return LinkTerms(latency + link, latency, link)


@cache
def link_class(name: str) -> LinkClass:
    """The class of links that a device's link named ``name`` belongs to.

    Raises
    ------
    ValueError
        If no class has the name.
    """
    kind = SAME_CLASS.get(name, name)
    if kind not in LINK_CLASSES:
        known = ", ".join(sorted((*LINK_CLASSES, *SAME_CLASS)))
        raise ValueError(f"link must be one of {known}, not {name!r}")
    text = (resources.files("systolith_sim.devices") / "data" / "links" / f"{kind}.toml").read_text("utf-8")
    return LinkClass.model_validate(tuples(tomllib.loads(text)))


def wire_of(device: Device, name: str) -> Wire:
    """A device's link: its own parameters where they were fitted, else its class's.

    Raises
    ------
    ValueError
        If the device has no such link and its class states no bandwidth.
    """
    family = link_class(name)
    link = device.links.get(name)
    bandwidth = link.bandwidth_bytes_per_s if link is not None else family.bandwidth_bytes_per_s
    if bandwidth is None:
        known = ", ".join(device.links) or "none"
        raise ValueError(f"device {device.id!r} has no link {name!r}: its links are {known}")
    own = link.collective if link is not None else None
    return Wire.of(bandwidth.value, family.topology, own or family.collective)


def link_error_factors(
    device: Device, name: str, regime: NDArray[np.str_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(low, high) factors of the 90 % interval by regime: the device's, its link class's, else ``UNSCORED``."""
    link = device.links.get(name)
    own = link is not None and link.collective is not None
    errors = device.link_errors if own and device.link_errors else link_class(name).errors
    known = {error.regime: (error.low, error.high) for error in errors}
    factors = np.array([known.get(str(word), (1 / UNSCORED, UNSCORED)) for word in regime])
    return factors[:, 0], factors[:, 1]


@dataclass(frozen=True)
class CollectiveTime:
    """Cost of one collective; the interval holds 90 % of measurements where its links were scored."""

    seconds: float
    latency_seconds: float
    link_seconds: float
    bound_by: str
    """``launch`` for latency, or ``link``."""
    low: float
    high: float


def peer_link(device: Device) -> str:
    """The device's fastest link to its peers; the network where it has none."""
    peers = {name: link for name, link in device.links.items() if SAME_CLASS.get(name, name) not in SCALE_OUT_CLASSES}
    known = {name: link.bandwidth_bytes_per_s.value for name, link in peers.items() if _known(name)}
    return max(known, key=lambda name: known[name], default="network")


def _known(name: str) -> bool:
    return SAME_CLASS.get(name, name) in LINK_CLASSES


def collective_time(
    device: Device, kind: Collective, size_bytes: float, *, inside: int, nodes: int = 1, network: str = "network"
) -> CollectiveTime:
    """Cost of a collective among ``inside`` devices in each of ``nodes`` nodes.

    Raises
    ------
    ValueError
        As ``collective`` and ``wire_of`` say.
    """
    name = peer_link(device)
    terms = hierarchical(kind, size_bytes, inside, nodes, wire_of(device, name), wire_of(device, network))
    regime = terms.regime
    ends = [link_error_factors(device, one, regime) for one in ((name,) if nodes == 1 else (name, network))]
    low, high = min(float(low[0]) for low, _ in ends), max(float(high[0]) for _, high in ends)
    total = float(terms.total_s[0])
    return CollectiveTime(
        total, float(terms.latency_s[0]), float(terms.link_s[0]), str(regime[0]), total * low, total * high
    )
