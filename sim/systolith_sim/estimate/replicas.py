"""Replicas in a training step: what their messages add to passes that hide them, or do not."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from systolith_model.architecture import Architecture
from systolith_model.formats import BITS, Format
from systolith_model.parameters import outer_parameters, parameter_count
from systolith_sim.parallel.layout import Layout
from systolith_sim.parallel.links import Ends, Fabric, Message
from systolith_sim.parallel.zero import EXCHANGES, Exchange, Unit, When, play_units, step_messages

NOTHING: Ends = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Share:
    """Layers of a device that a pass goes through together, with the ends of the model that stand there."""

    layers: float
    layers_s: float
    """Work of a pass through those layers."""
    ends: tuple[str, ...] = ()
    ends_s: float = 0.0
    """Work of the ends."""


@dataclass(frozen=True)
class Replicas:
    """Messages between replicas of one layout; sizes of one device of a replica."""

    fabric: Fabric
    layout: Layout
    own: Architecture
    """What one device of a tensor parallel group holds, all stages together."""
    weight_format: Format
    gradient_format: Format
    overlaps: bool
    """Messages go on behind the work, layer by layer, instead of after or before it."""
    _known: dict[tuple[When, Share], Ends] = field(default_factory=dict, compare=False, repr=False)

    def bare_s(self, when: When, share: Share) -> Ends:
        """Seconds by which the messages that go with a pass outlast its work; like shares are played once."""
        if (when, share) not in self._known:
            self._known[when, share] = self._bare_s(when, share)
        return self._known[when, share]

    def _bare_s(self, when: When, share: Share) -> Ends:
        exchanges = [one for one in EXCHANGES[self.layout.zero] if one.when == when]
        if self.layout.dp == 1 or not exchanges:
            return NOTHING
        if not self.overlaps:
            whole = sum(self._sizes(share).values())
            return self.fabric.total([self._message(one, whole) for one in exchanges], self.layout)
        work_s = share.layers_s + share.ends_s
        low, value, high = (
            play_units(list(self._units(exchanges, share, end, backward=when != "forward"))) - work_s
            for end in range(3)
        )
        return max(0.0, low), max(0.0, value), max(0.0, high)

    def after_s(self) -> Ends:
        """Seconds of what follows the optimizer, which nothing hides."""
        if self.layout.dp == 1:
            return NOTHING
        count = parameter_count(self.own) / self.layout.pp
        exchanges = [one for one in EXCHANGES[self.layout.zero] if one.when == "optimizer"]
        return self.fabric.total([self._message(one, count) for one in exchanges], self.layout)

    def sent_s(self, micros: int) -> float:
        """Seconds of all messages of a step, hidden or not."""
        count = parameter_count(self.own) / self.layout.pp
        messages = step_messages(
            self.layout.zero, micros=micros, weight_bytes=count * BITS[self.weight_format] / 8,
            gradient_bytes=count * BITS[self.gradient_format] / 8,
        )  # fmt: skip
        return self.fabric.total(messages, self.layout)[1] if self.layout.dp > 1 else 0.0

    def _units(self, exchanges: list[Exchange], share: Share, end: int, *, backward: bool) -> Iterator[Unit]:
        """Layers and ends in the order a pass meets them, with messages at one end of their interval."""
        sizes = self._sizes(share)
        layers = max(1, round(share.layers))
        units = {
            "first": [share.ends_s if "first" in share.ends and "last" not in share.ends else 0.0],
            "layers": [share.layers_s / layers] * layers,
            "last": [share.ends_s if "last" in share.ends else 0.0],
        }
        for name in reversed(units) if backward else units:
            times = {
                one.of: self.fabric.total([self._message(one, sizes[name] / len(units[name]))], self.layout)[end]
                if sizes[name] else 0.0
                for one in exchanges
            }  # fmt: skip
            for work_s in units[name]:
                yield Unit(work_s, times.get("weights", 0.0), times.get("gradients", 0.0))

    def _sizes(self, share: Share) -> dict[str, float]:
        """Parameters at the first end, in the layers and at the last end of a share."""
        outer, own = outer_parameters(self.own), self.own
        inner = (parameter_count(own) - outer.total) / (own.n_layers + own.n_encoder_layers)
        head = outer.embeddings if own.tied_embeddings and "first" not in share.ends else outer.head
        return {
            "first": float(outer.embeddings) if "first" in share.ends else 0.0,
            "layers": inner * share.layers,
            "last": float(head + outer.vectors) if "last" in share.ends else 0.0,
        }

    def _message(self, one: Exchange, parameters: float) -> Message:
        format = self.weight_format if one.of == "weights" else self.gradient_format
        return Message(one.message, parameters * BITS[format] / 8, "dp")
