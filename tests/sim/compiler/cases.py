"""Cores, layers of random data and expected results for the compiler's tests."""

import numpy as np
import torch

from systolith_hw.config import PRESETS, CoreConfig
from systolith_model.integer.linear import linear
from systolith_sim.compiler import LinearData


def core(**fields: int) -> CoreConfig:
    """A core with these fields."""
    return CoreConfig.model_validate(fields)


MINIMAL = {"data_bytes": 256, "weight_bytes": 256, "acc_rows": 16, "parameter_bytes": 256}
"""The smallest memories that a core of few rows and columns may have."""

CORES = {
    "base": PRESETS["base"],
    "wide": PRESETS["wide"],
    "long": PRESETS["long"],
    "full": PRESETS["full"],
    "1x5": core(rows=1, cols=5, port_bytes=1, data_banks=1, **MINIMAL),
    "7x1": core(rows=7, cols=1, port_bytes=2, data_banks=8, weight_rows_per_cycle=3, **MINIMAL),
    "3x5": core(rows=3, cols=5, port_bytes=4, acc_banks=4, requant_lanes=3, weight_rows_per_cycle=2,
                      queue_depth=2, **MINIMAL),
    "5x3": core(rows=5, cols=3, port_bytes=32, data_bytes=256, data_banks=1, weight_bytes=512),
    "16x16": core(rows=16, cols=16, port_bytes=16, data_bytes=1024, data_banks=4, queue_depth=2,
                        weight_rows_per_cycle=4, weight_bytes=1024, fetch_instructions=1),
    "8x8": core(rows=8, cols=8, port_bytes=8, data_bytes=2048, weight_bytes=1024, acc_rows=64,
                      weight_rows_per_cycle=8, data_banks=1),
    "13x7": core(rows=13, cols=7, port_bytes=8, data_bytes=4096, data_banks=4, weight_bytes=2048,
                       parameter_bytes=512, acc_rows=64, weight_rows_per_cycle=5),
}


def layer(rng: np.random.Generator, k: int, n: int) -> LinearData:
    """Random weights without zeros (so that every byte counts) and parameters that spread the results."""
    w = rng.integers(1, 128, (k, n)) * rng.choice([-1, 1], (k, n))
    shift = rng.integers(12, 18, n) + int(6 + np.log2(k) / 2)
    return LinearData(
        w=w, bias=rng.integers(-10_000, 10_000, n), mantissa=rng.integers(0, 65536, n), shift=shift,
        zero_point=int(rng.integers(-128, 128)), signed=bool(rng.integers(2)),
        table=rng.integers(-128, 128, 256) if rng.integers(2) else None)


def activations(rng: np.random.Generator, m: int, k: int) -> np.ndarray:
    """Random int8."""
    return rng.integers(-128, 128, (m, k), dtype=np.int8)


def expected(a: np.ndarray, layers: list[LinearData]) -> np.ndarray:
    """What the integer contract says."""
    x = torch.from_numpy(a)
    for data in layers:
        x = linear(x, _tensor(data.w), bias=_tensor(data.bias), mantissa=_tensor(data.mantissa),
                   shift=_tensor(data.shift), zero_point=data.zero_point, signed=data.signed,
                   table=None if data.table is None else _tensor(data.table))
    return x.numpy()


def _tensor(value) -> torch.Tensor:
    return torch.from_numpy(np.asarray(value))
