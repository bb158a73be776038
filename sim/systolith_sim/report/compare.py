"""The same graph on other machines: one DeviceResult each, every figure with its provenance."""

from systolith_model.graph import Graph, Operation
from systolith_sim.devices.core import core_latency
from systolith_sim.devices.device import Device, published_figures
from systolith_sim.devices.figures import Figure, joined
from systolith_sim.devices.kernel import KernelTime, Launch, cost
from systolith_sim.energy.core_energy import CoreEvents, core_energy
from systolith_sim.energy.device_energy import graph_energy, missing_power
from systolith_sim.report.results import DeviceResult, LayerResult, OperationResult


def device_result(device: Device, graph: Graph, *, launch: Launch = "graph") -> DeviceResult:
    """Latency and energy of a graph on a CPU, GPU or TPU, by the kernel cost model.

    Raises
    ------
    ValueError
        As ``kernel_time``.
    """
    costs = list(cost(device, graph, launch=launch))
    lacking = missing_power(device, (time.format for _, time in costs))
    return DeviceResult(
        id=device.id,
        name=device.name,
        kind=device.kind,
        format=joined(time.format for _, time in costs),
        latency_s=_total_latency(costs, launch),
        energy_j=None if lacking else graph_energy(device, costs),
        energy_note=lacking,
        operations=tuple(_operation(operation, time) for operation, time in costs),
        figures=published_figures(device),
        sources=device.sources,
        note=device.note,
    )


def _operation(operation: Operation, time: KernelTime) -> OperationResult:
    latency = Figure(
        value=time.seconds,
        unit="s",
        how="modelled",
        source=f"kernel cost model; interval: {time.error_source}",
        low=time.low,
        high=time.high,
    )
    return OperationResult(
        name=operation.name,
        count=operation.count,
        latency_s=latency,
        bound_by=time.bound_by,
        flops=time.flops,
        bytes=time.bytes,
    )


def _total_latency(costs: list[tuple[Operation, KernelTime]], launch: Launch) -> Figure:
    """One operation after the other; the interval takes all of them at the same end."""
    low, value, high = (
        sum(operation.count * getattr(time, name) for operation, time in costs)
        for name in ("low", "seconds", "high")
    )
    how = "replayed without the host" if launch == "graph" else "each launched by a framework"
    intervals = joined(time.error_source for _, time in costs)
    source = f"kernel cost model, kernels {how}; interval: {intervals}"
    return Figure(value=value, unit="s", how="modelled", source=source, low=low, high=high)


def core_result(
    device: Device, layers: tuple[LayerResult, ...], events: CoreEvents, *, clock: Figure, cycles_from: str
) -> DeviceResult:
    """Latency and energy of the layers that ran on the core.

    Parameters
    ----------
    events : CoreEvents
        Of all layers together; its cycles are the latency's.
    clock, cycles_from
        As in ``core_latency``.
    """
    latency = core_latency(device, cycles=events.cycles, clock=clock, cycles_from=cycles_from)
    operations = tuple(
        OperationResult(
            name=layer.name,
            bound_by="cycles",
            flops=2 * layer.macs,
            bytes=layer.m * layer.k + layer.k * layer.n + layer.m * layer.n,
            latency_s=core_latency(device, cycles=layer.cycles, clock=clock, cycles_from=cycles_from),
        )
        for layer in layers
    )
    return DeviceResult(
        id=device.id,
        name=device.name,
        kind=device.kind,
        format="int8",
        latency_s=latency,
        operations=operations,
        energy_j=core_energy(device, events, latency),
        figures=published_figures(device),
        sources=device.sources,
        note=device.note,
    )
