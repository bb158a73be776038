"""Rotary positions in float: pairs of elements turn by an angle that grows with the position."""

import torch
from torch import Tensor


def rotary_angles(positions: Tensor, *, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines of positions (T,): two tensors (T, head_dim / 2)."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device=positions.device) / head_dim
    frequencies = theta**-exponents  # (D/2,)
    angles = positions.to(torch.float32)[:, None] * frequencies  # (T, D/2)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn element i with element i + D/2 (the pairing of Hugging Face checkpoints).

    Parameters
    ----------
    x : Tensor
        (..., T, D), D even.
    cos, sin : Tensor
        (T, D/2), from `rotary_angles`.
    """
    first, second = x.chunk(2, dim=-1)  # 2 x (..., T, D/2)
    turned = (first * cos - second * sin, second * cos + first * sin)
    return torch.cat(turned, dim=-1).to(x.dtype)  # (..., T, D)
