"""How much longer operations start among others than again and again: from layers that were measured."""

from dataclasses import dataclass

import numpy as np

from systolith_model.config import TransformerConfig
from systolith_model.formats import Format
from systolith_sim.devices import workloads
from systolith_sim.devices.device import Device
from systolith_sim.devices.figures import Datum
from systolith_sim.devices.kernel import kernel_time, weight_bytes

TOLD_APART = 0.2
"""Least determinant, over the product of the diagonal, of two layers that tell the factors apart."""


@dataclass(frozen=True)
class MeasuredLayer:
    """A layer over one token behind ``workloads.SMALL_CONTEXT``."""

    config: TransformerConfig
    copies: int
    """Layers that take turns."""
    products: bool
    """Whether the seconds hold its products with weights."""
    seconds: float

    def predicted_s(self, device: Device, numbers: Format) -> float:
        """The same by a device's curves and factors."""
        graph = workloads.layer_graph(self.config, tokens=1, context=workloads.SMALL_CONTEXT, numbers=numbers)
        reuse = float(self.copies * weight_bytes(graph))
        return sum(
            kernel_time(device, graph, operation, reuse_bytes=reuse).seconds
            for operation in graph if self.products or operation.kind != "matmul"
        )  # fmt: skip


def with_factors(
    device: Device, numbers: Format, source: str, small: MeasuredLayer, large: MeasuredLayer | None
) -> Device:
    """The device with the factors on its starts with which both layers take as long as they did.

    Their seconds are linear in the factor where caches hold everything and in the one where they hold nothing; each
    is at least 1, the second at least the first. Without a large layer, or where it differs too little from the
    small ones in what caches hold, there is one factor for both.

    Parameters
    ----------
    device : Device
        Holds the curves, without factors.
    source : str
        Key of its ``sources`` for the factors.
    """
    layers = [small] if large is None else [small, large]
    seconds = {
        factors: np.array([layer.predicted_s(_started(device, numbers, source, *factors), numbers) for layer in layers])
        for factors in ((1.0, 1.0), (2.0, 1.0), (1.0, 2.0))
    }
    bare = seconds[1.0, 1.0]
    columns = np.stack((seconds[2.0, 1.0] - bare, seconds[1.0, 2.0] - bare), axis=1)
    missing = np.array([layer.seconds for layer in layers]) - bare
    alike = max(1.0, 1 + float(missing[0] / columns[0].sum()))
    if large is None or np.linalg.det(columns) < TOLD_APART * columns[0, 0] * columns[1, 1]:
        return _started(device, numbers, source, alike, None)
    warm, cold = (1 + float(more) for more in np.linalg.solve(columns, missing))
    if not 1 <= warm <= cold:  # the nearest that can be: all in the caches as found, or one factor for both
        warm = 1.0 if warm < 1 else alike
        cold = max(warm, 1 + float((missing[1] - columns[1, 0] * (warm - 1)) / columns[1, 1]))
    return _started(device, numbers, source, warm, cold)


def _started(device: Device, numbers: Format, source: str, warm: float, cold: float | None) -> Device:
    assert device.kernel is not None  # it has curves
    found = {"sequence_factor": warm} | ({} if cold is None else {"cold_factor": cold})
    named = {name: Datum(value=float(f"{factor:.4g}"), source=source, confidence="measured")
             for name, factor in found.items()}  # fmt: skip
    formats = {**device.kernel.formats, numbers: device.kernel.formats[numbers].model_copy(update=named)}
    return device.model_copy(update={"kernel": device.kernel.model_copy(update={"formats": formats})})
