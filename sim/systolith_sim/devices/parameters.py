"""Parameters of collectives on a link: of one device where measured, else of the class of links."""

from typing import Annotated, Literal

from pydantic import Field

from systolith_sim.devices.figures import Datum, Strict

Topology = Literal["switch", "mesh", "torus", "bridge"]


class CollectiveParameters(Strict):
    """One library's collectives over one link; shares are of the link's bandwidth in one direction."""

    launch_s: Datum
    """Start to end of a collective of a few bytes, before its steps."""
    step_s: Datum
    """One step to a neighbour."""
    low_latency_share: Datum
    """Share the protocol for short messages reaches, whose words carry their own flags."""
    handover_s: Datum
    """What the protocol for long messages adds to set up its buffers."""
    bandwidth_share: Datum
    """Share the protocol for long messages reaches."""
    switch_share: Datum | None = None
    """Share that reductions inside the switch reach; without it, the switch does not reduce."""


class CustomParameters(Strict):
    """An engine's own all-reduce, which reads peers' memory directly."""

    launch_s: Datum
    """Start to end of a reduction of a few bytes, before its steps."""
    step_s: Datum
    """Each further device."""
    share: Datum
    """Share of the link's bandwidth that reads of peers reach."""
    second_s: Datum
    """Barrier between reducing shares and gathering them, for messages that take two stages."""
    eager_s: Datum
    """Shortest call where a framework launches it and copies its operand first."""


class LinkError(Strict):
    """Scored error of collectives over a link: interval of measured over predicted seconds."""

    regime: Literal["launch", "link"]
    """Whether latency or bandwidth is more than half of the prediction."""
    low: Annotated[float, Field(gt=0, le=1)]
    """Lower end of what 90 % of other measurements over predictions lie in, at most 1."""
    high: Annotated[float, Field(ge=1)]
    """Upper end, at least 1."""
    rows: Annotated[int, Field(gt=0)]
    """Rows the interval was set on."""
    source: str
    """Key of ``sources``."""


class LinkClass(Strict):
    """Links of one kind: how they connect, and parameters for a link that nobody measured."""

    name: str
    """What the links of this class are called."""
    topology: Topology
    """Switch: any pair at full rate. Mesh: a link to each peer. Torus: neighbours both ways. Bridge: over a host."""
    sources: dict[str, str]
    """As in ``Device``."""
    bandwidth_bytes_per_s: Datum | None = None
    """One direction, where a device states no link of this class."""
    collective: CollectiveParameters
    """Of a library as the sources say."""
    errors: tuple[LinkError, ...] = ()
    """Scored with the device under test left out; without them, a factor of 2."""
