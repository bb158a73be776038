"""Tally: what passes add up to, as one vector, so that sums over steps and stages are sums of vectors."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from systolith_sim.devices.device import Device
from systolith_sim.energy.device_energy import (
    ABOVE_TIME,
    BELOW_TIME,
    TERMS,
    energy_ends,
    energy_terms,
    floor_power,
    missing_power,
    waiting_terms,
)
from systolith_sim.estimate.passes import Pass

KINDS = ("matmul", "attention", "streaming", "link")
BOUNDS = ("launch", "memory", "compute", "link", "engine", "bubble")

SECONDS, FLOPS, BYTES = 0, 1, 2
LOW = slice(3, 7)
HIGH = slice(7, 11)
JOULES = slice(11, 11 + TERMS)
BOUND = slice(JOULES.stop, JOULES.stop + len(BOUNDS))
SIZE = BOUND.stop

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Tally:
    """Sums over kernels, messages and engine; every entry of ``values`` is additive.

    Seconds, operations, bytes, spread of the seconds by kind of work (how far below and above), joules with their
    spread by cause (``energy_terms``) and seconds by what bounds them.
    """

    values: Vector

    @classmethod
    def zero(cls) -> "Tally":
        """Nothing."""
        return cls(np.zeros(SIZE))

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.values + other.values)

    def __mul__(self, factor: float) -> "Tally":
        return Tally(self.values * factor)

    @property
    def seconds(self) -> float:
        """Sum of seconds."""
        return float(self.values[SECONDS])

    @property
    def interval_s(self) -> tuple[float, float]:
        """(low, high) seconds: kinds of work err independently of each other, work of a kind together."""
        below, above = (float(np.linalg.norm(self.values[part])) for part in (LOW, HIGH))
        return self.seconds - below, self.seconds + above

    @property
    def joules(self) -> tuple[float, float, float]:
        """(low, value, high) joules."""
        return energy_ends(self.values[JOULES])

    def limited_joules(
        self, device: Device, devices: int, interval_s: tuple[float, float] | None = None
    ) -> tuple[float, float, float]:
        """(low, value, high) joules, at most what ``devices`` draw at the limit of their power all the time.

        ``interval_s`` is how long that may be: at its limit a board takes the more energy the longer it runs; without
        it, as long as predicted.
        """
        limit, floor = device.power.tdp_w, floor_power(device)
        most_w = np.inf if limit is None else limit.value * devices
        low_s, high_s = interval_s or (self.seconds, self.seconds)
        terms, floor_w = self.values[JOULES].copy(), 0.0 if floor is None else floor.value * devices
        # An engine's error is one of time, which no kernel knows.
        terms[BELOW_TIME] = max(terms[BELOW_TIME], floor_w * (self.seconds - low_s))
        terms[ABOVE_TIME] = max(terms[ABOVE_TIME], floor_w * (high_s - self.seconds))
        ends = zip(energy_ends(terms), (low_s, self.seconds, high_s), strict=True)
        low, value, high = (min(end, most_w * long) for end, long in ends)
        return low, value, high

    @property
    def flops(self) -> float:
        """Operations, two a multiply-accumulate."""
        return float(self.values[FLOPS])

    @property
    def bytes(self) -> float:
        """Bytes between main memory and units, each operand once an operation."""
        return float(self.values[BYTES])

    @property
    def bound_s(self) -> dict[str, float]:
        """Seconds by what bounds them."""
        return dict(zip(BOUNDS, (float(entry) for entry in self.values[BOUND]), strict=True))

    @property
    def bound_by(self) -> str:
        """What bounds most of the time."""
        return max(self.bound_s.items(), key=lambda item: item[1])[0]


def tally_of(device: Device, work: Pass) -> Tally:
    """Kernels of a pass, one after the other; joules are 0 where the device lacks a figure for them."""
    values = np.zeros(SIZE)
    static = floor_power(device)
    per_byte = device.main_memory.energy_j_per_byte
    for kernel in work.kernels:
        time, count = kernel.time, kernel.count
        row = np.zeros(SIZE)
        row[SECONDS], row[FLOPS], row[BYTES] = time.seconds, time.flops, time.bytes
        kind = kernel.operation.kind
        operator = KINDS.index(kind if kind in KINDS else "streaming")
        row[LOW.start + operator] = time.seconds - time.low
        row[HIGH.start + operator] = time.high - time.seconds
        row[BOUND.start + BOUNDS.index(time.bound_by)] = time.seconds
        if static and per_byte and time.format in device.op_energy_j:
            # A board's limit holds for its mean power, not for each kernel: see ``Tally.limited_joules``.
            row[JOULES] = energy_terms(static, per_byte, device.op_energy_j[time.format], time)
        values += count * row
    return Tally(values)


def waiting(seconds: float, cause: str, power_w: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Tally:
    """Time without kernels, for ``engine`` or ``bubble``, at a static power; may be negative."""
    values = np.zeros(SIZE)
    values[SECONDS] = seconds
    values[JOULES] = waiting_terms(power_w, seconds)
    values[BOUND.start + BOUNDS.index(cause)] = seconds
    return Tally(values)


def on_links(seconds: tuple[float, float, float], power_w: tuple[float, float, float]) -> Tally:
    """Time of messages (low, value, high), at a static power."""
    low, value, high = seconds
    one = waiting(value, "link", power_w)
    one.values[LOW.start + KINDS.index("link")] = value - low
    one.values[HIGH.start + KINDS.index("link")] = high - value
    one.values[JOULES] = waiting_terms(power_w, value, value - low, high - value)
    return one


def static_power_w(device: Device) -> tuple[float, float, float]:
    """(low, value, high) of a device that waits while its neighbours or its host work."""
    datum = floor_power(device)
    if datum is None:
        return 0.0, 0.0, 0.0
    return datum.interval[0], datum.value, datum.interval[1]


def lacking_energy(device: Device, work: Pass) -> str:
    """What the device file lacks for the energy of a pass, as a sentence; empty where nothing is missing."""
    return missing_power(device, (kernel.time.format for kernel in work.kernels))
