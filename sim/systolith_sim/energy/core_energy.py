"""Energy of a run on the FPGA core: counted events times their energies, static power times time."""

from dataclasses import dataclass, fields

from systolith_sim.devices.device import Device
from systolith_sim.devices.figures import Figure, joined

EVENT_FIGURES = {
    "macs": "mac",
    "scratchpad_bytes": "scratchpad_byte",
    "dram_bytes": "dram_byte",
    "cycles": "cycle",
}
"""Each counted event and the figure of ``Device.op_energy_j`` it is multiplied with."""


@dataclass(frozen=True, kw_only=True)
class CoreEvents:
    """What a run of the core did; counted by the RTL or by the cycle model."""

    macs: int
    """Multiply-accumulates, those on padding included."""
    scratchpad_bytes: int
    """Bytes read and written in scratchpads and accumulator."""
    dram_bytes: int
    """Bytes that crossed the memory port."""
    cycles: int
    """Clock cycles from start to done."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 0:
                raise ValueError(f"{field.name} must be >= 0, not {getattr(self, field.name)}")


def core_energy(device: Device, events: CoreEvents, latency: Figure) -> Figure:
    """Joules of a run on the core, FPGA and external memory, without the board's regulators.

    Parameters
    ----------
    device : Device
        An FPGA with ``op_energy_j`` for mac, scratchpad_byte, dram_byte and cycle, and ``power.idle_w``.
    latency : Figure
        From ``core_latency``, in seconds.

    Raises
    ------
    ValueError
        If the device states no such figure, or the latency is not in seconds.
    """
    missing = [name for name in EVENT_FIGURES.values() if name not in device.op_energy_j]
    if missing or device.power.idle_w is None:
        lacking = [f"op_energy_j.{name}" for name in missing] + (
            [] if device.power.idle_w else ["power.idle_w"]
        )
        raise ValueError(f"device {device.id!r} states no {', '.join(lacking)}")
    if latency.unit != "s":
        raise ValueError(f"latency must be in s, not {latency.unit}")
    static = device.power.idle_w
    static_low, static_high = static.interval
    low = static_low * (latency.value if latency.low is None else latency.low)
    high = static_high * (latency.value if latency.high is None else latency.high)
    value = static.value * latency.value
    for event, name in EVENT_FIGURES.items():
        datum, count = device.op_energy_j[name], getattr(events, event)
        each_low, each_high = datum.interval
        low, value, high = low + count * each_low, value + count * datum.value, high + count * each_high
    used = [static, *(device.op_energy_j[name] for name in EVENT_FIGURES.values())]
    return Figure(
        value=value, unit="J", how="modelled", low=low, high=high,
        source=f"events x energies + static power x time: {joined(device.cite(datum) for datum in used)}",
    )  # fmt: skip
