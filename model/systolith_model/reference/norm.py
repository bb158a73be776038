"""RMSNorm in float."""

import torch
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """``x / sqrt(mean(x**2) + eps) * weight`` over the last dimension, the statistic in float32.

    Parameters
    ----------
    size : int
        Elements of the last dimension.
    eps : float
        Added to the mean square; above 0.
    """

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(torch.float32)  # (..., D)
        scale = torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + self.eps)  # (..., 1)
        return (wide * scale).to(x.dtype) * self.weight  # (..., D)
