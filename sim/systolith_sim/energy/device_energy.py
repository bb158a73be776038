"""Energy of a Graph on a CPU, GPU or TPU: static power times time, and so much per operation and byte.

Operations on the padding of a tile count too. The figures of GPUs are calibrated top-down, on board power, since sums
of published cell and memory energies come out three to five times too low for them. The interval takes the time, the
static power, and what bytes and operations need, as independent of each other: the last two were fitted against each
other, so that where one is too high the other is too low. Bytes and operations are at their low or high end at once.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from systolith_model.graph import Operation
from systolith_sim.devices.classes import class_of
from systolith_sim.devices.device import Device
from systolith_sim.devices.figures import Datum, Figure, joined
from systolith_sim.devices.kernel import KernelTime

Ends = tuple[float, float, float]
Vector = NDArray[np.float64]


def floor_power(device: Device) -> Datum | None:
    """Power while kernels run or neighbours are waited for, before bytes and operations; None where none is known.

    The file's ``active_w``, else its ``idle_w`` times the ratio of its class, where that states one.
    """
    idle, ratio = device.power.idle_w, class_of(device.kind).active_over_idle
    if device.power.active_w is not None or idle is None or ratio is None:
        return device.power.active_w or idle
    (low, high), (least, most) = idle.interval, ratio.interval
    return idle.model_copy(
        update={"value": idle.value * ratio.value, "low": low * least, "high": high * most, "confidence": "derived"}
    )


def missing_power(device: Device, formats: Iterable[str]) -> str:
    """What the device file lacks for an energy, as a sentence; empty where nothing is missing."""
    missing = [] if floor_power(device) else ["power.idle_w"]
    if device.main_memory.energy_j_per_byte is None:
        missing.append("memories.main.energy_j_per_byte")
    missing += [f"op_energy_j.{name}" for name in dict.fromkeys(formats) if name not in device.op_energy_j]
    return f"device {device.id!r} states no {', '.join(missing)}" if missing else ""


def graph_energy(device: Device, costs: Iterable[tuple[Operation, KernelTime]]) -> Figure:
    """Joules of all instances of all operations.

    Average power is capped at the device's TDP, where it states one.

    Raises
    ------
    ValueError
        If the device file lacks a figure, as ``missing_power`` says.
    """
    work = list(costs)
    if sentence := missing_power(device, (time.format for _, time in work)):
        raise ValueError(sentence)
    static = floor_power(device)
    per_byte = device.main_memory.energy_j_per_byte
    assert static is not None  # missing_power saw to both
    assert per_byte is not None
    total: Ends = (0.0, 0.0, 0.0)
    for operation, time in work:
        one = operation_energy(static, per_byte, device.op_energy_j[time.format], device.power.tdp_w, time)
        low, value, high = (have + operation.count * more for have, more in zip(total, one, strict=True))
        total = (low, value, high)
    used = [static, per_byte, *(device.op_energy_j[time.format] for _, time in work)]
    return Figure(
        value=total[1], unit="J", how="modelled", low=total[0], high=total[2],
        source=f"static power x time + operations + bytes: {joined(device.cite(datum) for datum in used)}",
    )  # fmt: skip


def operation_energy(
    static: Datum, per_byte: Datum, per_op: Datum, tdp: Datum | None, time: KernelTime
) -> Ends:
    """(low, value, high) joules of one operation; ``tdp`` caps its average power."""
    joules = energy_terms(static, per_byte, per_op, time)
    low, value, high = (
        min(end, limit_w * long)
        for end, limit_w, long in zip(
            energy_ends(joules), _ends(tdp), (time.low, time.seconds, time.high), strict=True
        )
    )
    return min(low, value), value, max(high, value)


TERMS = 1 + 2 * 3
"""Entries of ``energy_terms``."""
BELOW_TIME, ABOVE_TIME = 1, 4
"""Of these, what the time does."""


def energy_terms(static: Datum, per_byte: Datum, per_op: Datum, time: KernelTime) -> Vector:
    """Joules, how far below them by cause and how far above: time, static power, bytes with operations; additive."""
    (least_w, watts, most_w), executed = _ends(static), time.flops + time.padding_flops
    less, work, more = (
        time.bytes * byte_j + executed * op_j for byte_j, op_j in zip(_ends(per_byte), _ends(per_op), strict=True)
    )
    below = (watts * (time.seconds - time.low), (watts - least_w) * time.seconds, work - less)
    above = (watts * (time.high - time.seconds), (most_w - watts) * time.seconds, more - work)
    return np.array([watts * time.seconds + work, *below, *above])


def waiting_terms(power_w: Ends, seconds: float, below_s: float = 0.0, above_s: float = 0.0) -> Vector:
    """The same of time without kernels, at a static power; seconds may be negative."""
    low, watts, high = power_w
    return np.array(
        [watts * seconds, watts * below_s, (watts - low) * seconds, 0.0, watts * above_s, (high - watts) * seconds, 0.0]
    )


def energy_ends(terms: Vector) -> Ends:
    """(low, value, high) of a sum of such terms: causes err independently of each other."""
    value, below, above = float(terms[0]), np.linalg.norm(terms[1:4]), np.linalg.norm(terms[4:7])
    return value - float(below), value, value + float(above)


def _ends(datum: Datum | None) -> Ends:
    if datum is None:
        return float("inf"), float("inf"), float("inf")
    low, high = datum.interval
    return low, datum.value, high
