"""Energy of a Graph on a CPU, GPU or TPU: static power times time, and so much per operation and byte.

Operations on the padding of a tile count too. The figures of GPUs are calibrated top-down, on board power, since sums
of published cell and memory energies come out three to five times too low for them. The interval takes every figure,
and the time, at its low or high end at once.
"""

from collections.abc import Iterable

from systolith_model.graph import Operation
from systolith_sim.devices.classes import class_of
from systolith_sim.devices.device import Device
from systolith_sim.devices.figures import Datum, Figure, joined
from systolith_sim.devices.kernel import KernelTime

Ends = tuple[float, float, float]


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
    seconds = (time.low, time.seconds, time.high)
    ends = zip(_ends(static), _ends(per_byte), _ends(per_op), seconds, _ends(tdp), strict=True)
    low, value, high = (
        min(static_w * long + time.bytes * byte_j + (time.flops + time.padding_flops) * op_j, limit_w * long)
        for static_w, byte_j, op_j, long, limit_w in ends
    )
    return min(low, value), value, max(high, value)


def _ends(datum: Datum | None) -> Ends:
    if datum is None:
        return float("inf"), float("inf"), float("inf")
    low, high = datum.interval
    return low, datum.value, high
