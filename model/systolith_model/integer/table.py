"""N7: any unary function of the saturated byte, as 256 signed bytes."""

from collections.abc import Callable
from math import isfinite

import torch
from torch import Tensor

from systolith_model.integer.exact import INT8, checked, saturate8


def apply_table(q: Tensor, table: Tensor) -> Tensor:
    """``table[q & 255]`` for each int8 of ``q``.

    Parameters
    ----------
    q : Tensor
        Integers of -128..127, any shape.
    table : Tensor
        (256,) integers of -128..127; entries 128..255 belong to q = -128..-1.

    Raises
    ------
    ValueError
        If a value is out of range or the table has not 256 entries.
    """
    if table.shape != (256,):
        raise ValueError(f"table must have shape (256,), not {tuple(table.shape)}")
    return checked("table", table, *INT8).to(torch.int8)[checked("q", q, *INT8) & 255]


def table_of(
    function: Callable[[Tensor], Tensor],
    *,
    in_scale: float,
    in_zero_point: int,
    out_scale: float,
    out_zero_point: int,
) -> Tensor:
    """The table of a real function between two quantized scales, within half a last place of the output.

    Entry ``q & 255`` is ``sat8(RHE(function((q - in_zero_point) * in_scale) / out_scale) + out_zero_point)``,
    computed in float64.

    Parameters
    ----------
    function : callable
        Of a float64 tensor, elementwise. An infinite value saturates.
    in_scale, out_scale : float
        Real size of one step of q and of the output; above 0.
    in_zero_point, out_zero_point : int
        The byte that stands for 0.0, -128..127.

    Returns
    -------
    Tensor
        (256,) int8.

    Raises
    ------
    ValueError
        If a scale or a zero point is out of range, or the function is not a number somewhere.
    """
    for name, scale in (("in_scale", in_scale), ("out_scale", out_scale)):
        if not (isfinite(scale) and scale > 0):
            raise ValueError(f"{name} must be finite and above 0, not {scale}")
    checked("in_zero_point", in_zero_point, *INT8)
    checked("out_zero_point", out_zero_point, *INT8)
    q = torch.arange(256).to(torch.uint8).view(torch.int8)
    x = (q.to(torch.float64) - in_zero_point) * in_scale
    y = function(x)
    if y.shape != x.shape or bool(torch.isnan(y).any()):
        raise ValueError(
            f"function must give 256 numbers, not {tuple(y.shape)} with {int(torch.isnan(y).sum())} NaN"
        )
    # Clamped well outside int8 first, so that infinities stay ordered when they become integers.
    steps = torch.round(y.to(torch.float64) / out_scale).clamp(-1024, 1024).to(torch.int64)
    return saturate8(steps + out_zero_point)
