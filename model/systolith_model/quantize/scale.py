"""Scales of activations: what one step of a byte is worth, chosen from real values by three methods."""

from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor

PERCENTILES = (99.0, 99.9, 99.99)
SAMPLE = 100_000
"""Values that a search looks at, drawn from all that were seen."""


@dataclass(frozen=True)
class Scale:
    """``real = (q - zero_point) * step`` for int8 q."""

    step: float
    """Real size of one step; above 0."""
    zero_point: int
    """The byte that stands for 0.0, -128..127."""

    def __post_init__(self) -> None:
        if not (isfinite(self.step) and self.step > 0):
            raise ValueError(f"step must be finite and above 0, not {self.step}")
        if not -128 <= self.zero_point <= 127:
            raise ValueError(f"zero_point must be in -128..127, not {self.zero_point}")

    def quantize(self, real: Tensor) -> Tensor:
        """Nearest int8 of each value, ties to even, saturated.

        Raises
        ------
        ValueError
            If a value is not a number.
        """
        if bool(torch.isnan(real).any()):
            raise ValueError("values to quantize must be numbers, not NaN")
        steps = torch.round(real.double() / self.step) + self.zero_point
        return steps.clamp(-128, 127).to(torch.int8)

    def rounded(self, real: Tensor) -> Tensor:
        """What is left of real values after a round trip through bytes, in float32; for searches."""
        return torch.fake_quantize_per_tensor_affine(real, self.step, self.zero_point, -128, 127)

    def dequantize(self, q: Tensor) -> Tensor:
        """Real values of bytes, float32."""
        return ((q.double() - self.zero_point) * self.step).to(torch.float32)


def scale_of_range(low: float, high: float) -> Scale:
    """The finest scale from ``low`` to ``high``; the range is widened to hold 0, which is exact."""
    low, high = min(low, 0.0), max(high, 0.0)
    step = (high - low) / 255
    if step == 0:
        return Scale(1.0, 0)
    return Scale(step, min(127, max(-128, round(-128 - low / step))))


def candidates(values: Tensor) -> dict[str, Scale]:
    """A scale by each method: whole range, percentiles of both tails, least mean square error.

    Parameters
    ----------
    values : Tensor
        Real values that calibration saw, any shape, at least one.

    Raises
    ------
    ValueError
        If there are no values, or one is not finite.
    """
    flat = values.detach().flatten().to(torch.float32)
    if not len(flat) or not bool(torch.isfinite(flat).all()):
        raise ValueError("calibration values must be finite and at least one")
    low, high = float(flat.min()), float(flat.max())
    drawn = sample(flat)
    ordered = drawn.sort().values
    found = {"min-max": scale_of_range(low, high)}
    for percentile in PERCENTILES:
        cut = round((len(ordered) - 1) * (1 - percentile / 100))
        found[f"percentile {percentile}"] = scale_of_range(float(ordered[cut]), float(ordered[-1 - cut]))
    found["mse"] = _least_square_error(drawn, low, high)
    return found


def sample(values: Tensor) -> Tensor:
    """At most `SAMPLE` of the values, flat; the same ones each time."""
    flat = values.flatten()
    if len(flat) <= SAMPLE:
        return flat
    return flat[torch.randint(len(flat), (SAMPLE,), generator=torch.Generator().manual_seed(0))]


def _least_square_error(values: Tensor, low: float, high: float) -> Scale:
    scales = [scale_of_range(low * part / 32, high * part / 32) for part in range(8, 33)]
    errors = [float((scale.rounded(values) - values).square().mean()) for scale in scales]
    return scales[errors.index(min(errors))]
