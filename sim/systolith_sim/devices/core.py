"""The FPGA core as a device: cycles, counted by the RTL or its cycle model, at a stated clock."""

from systolith_sim.devices.device import Device
from systolith_sim.devices.figures import Figure, How
from systolith_sim.units import si


def core_latency(device: Device, *, cycles: int, clock: Figure, cycles_from: str) -> Figure:
    """Seconds of a run on the core.

    Parameters
    ----------
    device : Device
        The FPGA part; its kind must be ``fpga``.
    cycles : int
        From start to done, at least 1.
    clock : Figure
        In Hz, with where it comes from: routed and timed, or assumed; its interval carries over.
    cycles_from : str
        Where the cycles come from, such as "RTL simulation".

    Raises
    ------
    ValueError
        If the device is no FPGA, the clock no frequency, or the cycles below 1.
    """
    if device.kind != "fpga":
        raise ValueError(f"device must be an fpga, not {device.id!r} ({device.kind})")
    if cycles < 1:
        raise ValueError(f"cycles must be >= 1, not {cycles}")
    if clock.unit != "Hz" or clock.value <= 0:
        raise ValueError(f"clock must be a positive frequency in Hz, not {clock.value:g} {clock.unit}")
    how: How = "measured" if clock.how == "measured" else "modelled"
    return Figure(
        value=cycles / clock.value,
        unit="s",
        how=how,
        source=f"{cycles} cycles ({cycles_from}) at {si(clock.value, 'Hz')}, {clock.how}: {clock.source}",
        low=None if clock.high is None else cycles / clock.high,
        high=None if not clock.low else cycles / clock.low,
    )
