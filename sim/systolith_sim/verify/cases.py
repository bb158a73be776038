"""GEMMs on random data, and what the integer contract says of them."""

from dataclasses import dataclass
from math import ceil, log2, sqrt
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from systolith_hw.config import CoreConfig


@dataclass(frozen=True, kw_only=True, eq=False)
class GemmCase:
    """One GEMM with everything that the core computes on its way from DRAM to DRAM."""

    a: np.ndarray
    """(M, K) activations, int8, or uint8 where ``signed`` is false."""
    w: np.ndarray
    """(K, N) int8 weights."""
    bias: np.ndarray
    """(N,) int32, the zero point of the activations folded in."""
    mantissa: np.ndarray
    """(N,) 0..65535."""
    shift: np.ndarray
    """(N,) 0..63."""
    zero_point: int
    """Of the output, -128..127."""
    table: np.ndarray | None
    """(256,) int8, or none."""
    signed: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """(M, K, N)."""
        return self.a.shape[0], self.a.shape[1], self.w.shape[1]


def random_gemm(m: int, k: int, n: int, *, seed: "int | Sequence[int]") -> GemmCase:
    """A GEMM on random data; zero points, signedness and the presence of a table are drawn too.

    The factors spread the outputs over the whole range, saturation included.

    Raises
    ------
    ValueError
        If a size is below 1 or K above 65793, where sums no longer fit in 32 bits.
    """
    for name, value, most in (("m", m, None), ("k", k, 65793), ("n", n, None)):
        if value < 1 or (most and value > most):
            raise ValueError(f"{name} must be {f'in 1..{most}' if most else '>= 1'}, not {value}")
    rng = np.random.default_rng(seed)
    signed = bool(rng.random() < 0.75)
    a = rng.integers(-128, 128, (m, k), np.int8) if signed else rng.integers(0, 256, (m, k), np.uint8)
    w = rng.integers(-128, 128, (k, n), np.int8)
    # Sums have a standard deviation of about 74 * (74 or 128) * sqrt(K); bring it to about 50.
    spread = 74 * (74 if signed else 148) * sqrt(k)
    factors = 50 / spread * np.exp2(rng.uniform(-1.5, 1.5, n))
    shift = np.array([min(63, 16 - ceil(log2(factor))) for factor in factors])
    mantissa = np.minimum(np.rint(factors * np.exp2(shift.astype(float))), 65535).astype(np.int64)
    bias = np.rint(rng.normal(0, spread, n)).astype(np.int64)
    input_zero_point = int(rng.integers(-128, 128)) if signed else int(rng.integers(0, 256))
    bias = np.clip(bias - input_zero_point * w.astype(np.int64).sum(0), -(1 << 31), (1 << 31) - 1)
    table = rng.integers(-128, 128, 256, np.int8) if rng.random() < 0.3 else None
    return GemmCase(a=a, w=w, bias=bias, mantissa=mantissa, shift=shift,
                    zero_point=int(rng.integers(-128, 128)), table=table, signed=signed)


def expected(case: GemmCase) -> np.ndarray:
    """What the integer contract gives for ``case``, (M, N) int8."""
    import torch

    from systolith_model.integer.linear import linear

    return linear(
        torch.from_numpy(case.a), torch.from_numpy(case.w), bias=torch.from_numpy(case.bias),
        mantissa=torch.from_numpy(case.mantissa), shift=torch.from_numpy(case.shift), zero_point=case.zero_point,
        table=None if case.table is None else torch.from_numpy(case.table), signed=case.signed).numpy()


CAMPAIGN_CORES = (
    "rows=1 cols=5", "rows=7 cols=1 weight_rows_per_cycle=7 port_bytes=16", "rows=3 cols=5 port_bytes=4",
    "rows=4 cols=16 weight_rows_per_cycle=2 port_bytes=16", "rows=16 cols=16 port_bytes=16",
    "rows=8 cols=8", "rows=5 cols=3 weight_rows_per_cycle=2 port_bytes=1",
    "rows=12 cols=12 weight_rows_per_cycle=3 port_bytes=32",
)
"""The shapes of ``systolith rtl campaign``; scratchpads are kept small so that blocks and rings wrap."""


def campaign_core(text: str) -> "CoreConfig":
    """The core of an entry of ``CAMPAIGN_CORES``."""
    from systolith_hw.config import CoreConfig

    fields = {name: int(value) for name, value in (item.split("=") for item in text.split())}
    return CoreConfig.model_validate({"data_bytes": 8192, "weight_bytes": 8192, "acc_rows": 128, **fields})
