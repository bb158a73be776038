"""QuantizedLinear: one linear layer as the core runs it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from systolith_model.integer.linear import linear
from systolith_model.integer.matmul import activation, fold_zero_point, matmul
from systolith_model.integer.requantize import mantissas_shifts
from systolith_model.integer.table import table_of
from systolith_model.quantize.scale import Scale


@dataclass(frozen=True, kw_only=True)
class QuantizedLinear:
    """Everything rules N1 to N7 need for one layer, and the scales that give its bytes a meaning."""

    name: str
    """Its path in the model, ``model.layers.0.self_attn.q_proj``."""
    weight: Tensor
    """(K, N) int8, symmetric, a scale a channel."""
    bias: Tensor
    """(N,) int32, the input's zero point folded in."""
    mantissa: Tensor
    """(N,) int32, 0..65535."""
    shift: Tensor
    """(N,) int32, 0..63."""
    zero_point: int
    """Added by the requantizer; the output's, or with a table that of the table's input."""
    table: Tensor | None
    """(256,) int8 of the function behind the layer, or none."""
    input: Scale
    """Of the activations, signed bytes."""
    output: Scale
    """Of the layer's last bytes, behind the table where there is one."""
    signed: bool = True
    """How activation bytes are read."""

    def accumulators(self, q: Tensor) -> Tensor:
        """N1 to N3: (..., M, N) int32 of (..., M, K) int8."""
        return matmul(activation(q, signed=self.signed), self.weight)

    def __call__(self, q: Tensor) -> Tensor:
        """N1 to N7: (..., M, N) int8 of (..., M, K) int8."""
        return linear(
            q, self.weight,
            bias=self.bias, mantissa=self.mantissa, shift=self.shift, zero_point=self.zero_point,
            table=self.table, signed=self.signed,
        )  # fmt: skip


def quantize_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Symmetric int8 per output channel.

    Parameters
    ----------
    weight : Tensor
        (N, K) real, as ``nn.Linear`` keeps it.

    Returns
    -------
    tuple of Tensor
        (K, N) int8 of -127..127, and (N,) float64 steps; a channel of zeros has step 1.
    """
    wide = weight.detach().double()
    steps = wide.abs().amax(dim=1) / 127  # (N,)
    steps = torch.where(steps > 0, steps, 1.0)
    q = torch.round(wide / steps[:, None]).clamp(-127, 127)
    return q.T.contiguous().to(torch.int8), steps


def quantize_linear(
    name: str,
    weight: Tensor,
    bias: Tensor | None,
    *,
    input: Scale,
    output: Scale,
    function: Callable[[Tensor], Tensor] | None = None,
    before: Scale | None = None,
) -> QuantizedLinear:
    """One layer, optionally with a function behind it as a table.

    Parameters
    ----------
    weight, bias : Tensor
        (N, K) and (N,) or None, real.
    input, output : Scale
        Of the layer's input, and of its output behind the function.
    function, before : callable and Scale, optional
        An elementwise function of float64, and the scale of its input; both or neither.

    Raises
    ------
    ValueError
        If only one of function and before is given, or a derived value leaves its range in the contract.
    """
    if (function is None) != (before is None):
        raise ValueError("function and before must be given together, or neither")
    target = output if before is None else before
    q, steps = quantize_weight(weight)
    accumulator_steps = steps * input.step  # (N,) real size of one accumulator step
    real_bias = torch.zeros_like(steps) if bias is None else bias.detach().double()
    integer_bias = torch.round(real_bias / accumulator_steps).to(torch.int64)
    mantissa, shift = mantissas_shifts(accumulator_steps / target.step)
    table = None
    if function is not None:
        table = table_of(
            function,
            in_scale=target.step, in_zero_point=target.zero_point,
            out_scale=output.step, out_zero_point=output.zero_point,
        )  # fmt: skip
    return QuantizedLinear(
        name=name, weight=q, bias=fold_zero_point(integer_bias, q, input.zero_point),
        mantissa=mantissa, shift=shift, zero_point=target.zero_point, table=table, input=input, output=output,
    )  # fmt: skip
