"""N1 to N7 in order: what one matmul instruction and its read-out compute."""

from torch import Tensor

from systolith_model.integer.matmul import activation, matmul
from systolith_model.integer.requantize import requantize
from systolith_model.integer.table import apply_table


def linear(
    a: Tensor,
    w: Tensor,
    *,
    bias: Tensor | int = 0,
    mantissa: Tensor | int,
    shift: Tensor | int,
    zero_point: Tensor | int = 0,
    table: Tensor | None = None,
    signed: bool = True,
) -> Tensor:
    """A linear layer of bytes: matmul, bias, requantization, saturation, and a table where there is one.

    Parameters
    ----------
    a : Tensor
        (..., M, K) activation bytes, int8 or uint8; ``signed`` says how they are read.
    w : Tensor
        (K, N) integers of -128..127.
    bias, mantissa, shift, zero_point : Tensor or int
        (N,) or one for all channels, as in `requantize`; the bias holds the input's zero point.
    table : Tensor, optional
        (256,) integers of -128..127.
    signed : bool
        Whether activation bytes are two's complement.

    Returns
    -------
    Tensor
        (..., M, N) int8.

    Raises
    ------
    ValueError
        If shapes do not fit or a value is out of range.
    """
    acc = matmul(activation(a, signed=signed), w)
    q = requantize(acc, bias=bias, mantissa=mantissa, shift=shift, zero_point=zero_point)
    return q if table is None else apply_table(q, table)
