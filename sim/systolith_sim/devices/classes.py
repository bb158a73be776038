"""Device classes: kernel parameters of machines that nobody measured, from those of their kind.

A class states its parameters relative to the peak rate of one unit, so that they carry over to other sizes:
how many bytes a unit takes in per operation, and how many operations it could do during one step of latency.
"""

import tomllib
from functools import cache
from importlib import resources
from typing import Self

from pydantic import Field, model_validator

from systolith_sim.devices.device import (
    AttentionParameters,
    Device,
    DeviceKind,
    FormatParameters,
    KernelParameters,
    RegimeError,
)
from systolith_sim.devices.figures import Datum, Strict, tuples

LEAST_FEED = 2.0
"""Least ratio of what all units take in to what the main memory gives: 2.1 (A100) to 7 on the measured GPUs."""
WIDE_UNIT_OPS_PER_S = 6e12
"""Peak of a unit in bf16 that asynchronous products and copies go with, on which FlashAttention 3 rests: 7.5e12 on
Hopper, 15e12 on Blackwell, at most 4.3e12 (MI300X) before and elsewhere."""


class UnitParameters(Strict):
    """What the kind of unit decides, where a class holds two kinds."""

    memory_efficiency: Datum
    """As in ``KernelParameters``."""
    feed_bytes_per_op: Datum
    """As in ``DeviceClass``."""
    k_step_s: Datum
    """As in ``KernelParameters``."""


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
    k_step_s: Datum | None = None
    """As in ``KernelParameters``: about one memory access; without it, no latency."""
    wide: UnitParameters | None = None
    """In place of the three above where one unit's peak is ``WIDE_UNIT_OPS_PER_S`` or more."""
    formats: dict[str, FormatParameters] = Field(default_factory=dict)
    """As in ``KernelParameters``."""
    streaming_efficiency: Datum | None = None
    """As in ``KernelParameters``."""
    attention: AttentionParameters | None = None
    """As in ``KernelParameters``."""
    attention_wide: AttentionParameters | None = None
    """The same where one unit's peak is ``WIDE_UNIT_OPS_PER_S`` or more."""
    active_over_idle: Datum | None = None
    """Floor of the power while kernels run over that without work, where a file states only the latter."""
    clock_hz: Datum | None = None
    """Clock at which the latencies of this class hold."""
    latency_exponent: Datum | None = None
    """Latencies go with the clock to minus this power: 1 for cycles alone, 0 for time alone."""
    errors: tuple[RegimeError, ...] = ()
    """Scored with the device under test left out of the fit."""

    @model_validator(mode="after")
    def _one_feed(self) -> Self:
        if (self.feed_bytes_per_op is None) == (self.feed_bytes_per_s is None):
            raise ValueError("exactly one of feed_bytes_per_op and feed_bytes_per_s must be given")
        return self

    def parameters(self, device: Device) -> KernelParameters:
        """Parameters of a device of this class, from its peak rates."""
        unit_rate, wide = unit_peak(device), is_wide(device)
        unit = self.wide if wide and self.wide is not None else self
        feed = self.feed_bytes_per_s
        if unit.feed_bytes_per_op is not None:
            memory = device.main_memory.bandwidth_bytes_per_s.value / device.units.count
            ratio = unit.feed_bytes_per_op.value * unit_rate / memory
            feed = _scaled(unit.feed_bytes_per_op, unit_rate * max(1.0, LEAST_FEED / ratio))
        assert feed is not None  # the validator saw to it
        slower = self.latency_factor(device)
        step = _scaled(self.launch_s, 0.0) if unit.k_step_s is None else _scaled(unit.k_step_s, slower)
        attention = self.attention_wide if wide and self.attention_wide is not None else self.attention
        return KernelParameters(
            launch_s=_scaled(self.launch_s, slower),
            compute_efficiency=self.compute_efficiency,
            memory_efficiency=unit.memory_efficiency,
            feed_bytes_per_s=feed,
            k_step_s=step,
            streaming_efficiency=self.streaming_efficiency,
            formats={name: item for name, item in self.formats.items() if name.split("_")[0] in device.peak_ops_per_s},
            attention=None if attention is None else attention.model_copy(
                update={
                    name: _scaled(figure, slower)
                    for name in ("launch_s", "start_s", "quantized_launch_s")
                    if (figure := getattr(attention, name)) is not None
                }
            ),
        )  # fmt: skip

    def latency_factor(self, device: Device) -> float:
        """How much longer than on the class's machines a latency is on a device, by its clock."""
        if self.clock_hz is None or self.latency_exponent is None or device.units.clock_hz is None:
            return 1.0
        return (self.clock_hz.value / device.units.clock_hz.value) ** self.latency_exponent.value


def is_wide(device: Device) -> bool:
    """Whether products and copies go on their own in a unit, which shows in its peak rate."""
    return unit_peak(device) >= WIDE_UNIT_OPS_PER_S


def unit_peak(device: Device) -> float:
    """Peak of one unit in bf16 or fp16, or in the fastest format where there is neither."""
    peaks = device.peak_ops_per_s
    fastest = max(peaks.values(), key=lambda datum: datum.value)
    return peaks.get("bf16", peaks.get("fp16", fastest)).value / device.units.count


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
