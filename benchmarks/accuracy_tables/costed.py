"""What the tables of kernels share: a prediction from the terms of rows, and the bare roofline beside it."""

from collections.abc import Mapping

import numpy as np

from accuracy_tables import Array, Prediction
from systolith_sim.devices.device import Device, Operator
from systolith_sim.devices.gemm import Terms
from systolith_sim.devices.interval import interval_factors
from systolith_sim.devices.kernel import regimes


def costed(
    device: Device, operator: Operator, terms: Terms, rivals: Mapping[str, Array], *, case: str = "", unseen: str = ""
) -> Prediction:
    """Seconds of rows in 16 bits, each with the interval of its regime; the rest as in ``interval_factors``."""
    words, total = regimes(terms), terms.total_s
    low, high = np.array([interval_factors(device, operator, word, "bf16", case, unseen)[:2] for word in words]).T
    return Prediction(total, total * low, total * high, words, rivals)


def bare_roofline(device: Device, work: Array, moved_bytes: Array) -> Array:
    """The longer of operations at the peak in bf16 and bytes at the bandwidth, seconds."""
    bandwidth = device.main_memory.bandwidth_bytes_per_s.value
    return np.maximum(work / device.peak_ops_per_s["bf16"].value, moved_bytes / bandwidth)
