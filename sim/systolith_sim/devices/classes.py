"""Device classes: kernel parameters of machines that nobody measured, from those of their kind.

A class states its parameters relative to the peak rate of one unit, so that they carry over to other sizes:
how many bytes a unit takes in per operation, and how many operations it could do during one step of latency.
"""

import tomllib
from functools import cache
from importlib import resources
from typing import Self

from pydantic import model_validator

from systolith_sim.devices.device import (
    AttentionParameters,
    Device,
    DeviceKind,
    KernelParameters,
    RegimeError,
)
from systolith_sim.devices.figures import Datum, Strict, tuples

LEAST_FEED = 2.0
"""Least ratio of what all units take in to what the main memory gives: 2.1 (A100) to 7 on the measured GPUs."""
SLOWEST_STEP_S = 4e-7
"""Longest latency of one step along K: measured are 0.07 (H100) to 0.32 us (A100), about one memory access."""


class DeviceClass(Strict):
    """What machines of one kind have in common; fitted on some, scored on each with itself left out."""

    kind: DeviceKind
    """Machines it speaks for."""
    sources: dict[str, str]
    """As in ``Device``."""
    launch_s: Datum
    """As in ``KernelParameters``."""
    compute_efficiency: Datum
    """As in ``KernelParameters``."""
    memory_efficiency: Datum
    """As in ``KernelParameters``."""
    feed_bytes_per_op: Datum | None = None
    """Operand bytes a unit takes in while it could do one operation at its peak."""
    feed_bytes_per_s: Datum | None = None
    """As in ``KernelParameters``, where the feed does not grow with the peak rate."""
    k_step_ops: Datum | None = None
    """Operations a unit could do at its peak during one step of latency along K; without it, no latency."""
    streaming_efficiency: Datum | None = None
    """As in ``KernelParameters``."""
    attention: AttentionParameters | None = None
    """As in ``KernelParameters``."""
    errors: tuple[RegimeError, ...] = ()
    """Scored with the device under test left out of the fit."""

    @model_validator(mode="after")
    def _one_feed(self) -> Self:
        if (self.feed_bytes_per_op is None) == (self.feed_bytes_per_s is None):
            raise ValueError("exactly one of feed_bytes_per_op and feed_bytes_per_s must be given")
        return self

    def parameters(self, device: Device) -> KernelParameters:
        """Parameters of a device of this class, from its peak rates."""
        unit_rate = _unit_rate(device)
        feed = self.feed_bytes_per_s
        if self.feed_bytes_per_op is not None:
            memory = device.main_memory.bandwidth_bytes_per_s.value / device.units.count
            ratio = self.feed_bytes_per_op.value * unit_rate / memory
            feed = _scaled(self.feed_bytes_per_op, unit_rate * max(1.0, LEAST_FEED / ratio))
        assert feed is not None  # the validator saw to it
        step = self.k_step_ops
        return KernelParameters(
            launch_s=self.launch_s,
            compute_efficiency=self.compute_efficiency,
            memory_efficiency=self.memory_efficiency,
            feed_bytes_per_s=feed,
            k_step_s=_step(step, unit_rate) if step is not None else _scaled(self.launch_s, 0.0),
            streaming_efficiency=self.streaming_efficiency,
            attention=self.attention,
        )


def _unit_rate(device: Device) -> float:
    """Peak of one unit in bf16 or fp16, or in the fastest format where there is neither."""
    peaks = device.peak_ops_per_s
    fastest = max(peaks.values(), key=lambda datum: datum.value)
    return peaks.get("bf16", peaks.get("fp16", fastest)).value / device.units.count


def _step(operations: Datum, unit_rate: float) -> Datum:
    """Latency of a step, no longer than a slow unit's round trip to memory."""
    return _scaled(operations, min(1 / unit_rate, SLOWEST_STEP_S / operations.value))


def _scaled(datum: Datum, factor: float) -> Datum:
    low, high = datum.interval
    return datum.model_copy(
        update={"value": datum.value * factor, "low": low * factor, "high": high * factor}
    )


@cache
def class_of(kind: DeviceKind) -> DeviceClass:
    """The class of a kind of device."""
    text = (resources.files("systolith_sim.devices") / "data" / "classes" / f"{kind}.toml").read_text("utf-8")
    return DeviceClass.model_validate(tuples(tomllib.loads(text)))
