"""Power of the machine around the devices: processors, memory, adapters, switches, fans, losses of the supply."""

from systolith_sim.devices.device import Device
from systolith_sim.devices.figures import Datum

Ends = tuple[float, float, float]


def host_power_w(device: Device, devices: int) -> Ends | None:
    """(low, value, high) watts of the share of their machines that ``devices`` have while they work.

    None where the file states no host: nothing is assumed in its place.
    """
    return None if device.host is None else _share(device.host.load_w, devices / device.host.devices)


def idle_host_power_w(device: Device, devices: int) -> Ends | None:
    """The same while they wait for work; at ``load_w`` where the file does not tell them apart."""
    host = device.host
    return None if host is None else _share(host.idle_w or host.load_w, devices / host.devices)


def host_words(device: Device) -> str:
    """Where the power of the host comes from, or why there is none."""
    host = device.host
    if host is None:
        return f"device {device.id!r} states no host: what is around it is not known"
    share = f"1 of {host.devices} shares of" if host.devices > 1 else "all of"
    note = f": {host.load_w.note}" if host.load_w.note else ""
    return f"{share} {host.name} a device, under load: {device.cite(host.load_w)}{note}"


def _share(watts: Datum, machines: float) -> Ends:
    low, high = watts.interval
    return machines * low, machines * watts.value, machines * high
