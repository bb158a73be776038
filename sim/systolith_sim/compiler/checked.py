"""Arrays that users give, checked where they enter."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

INT8 = (-128, 127)
INT32 = (-(1 << 31), (1 << 31) - 1)
MANTISSA = (0, (1 << 16) - 1)
SHIFT = (0, 63)


def array_of(name: str, value: ArrayLike) -> NDArray[Any]:
    """The value as an array."""
    try:
        return np.asarray(value)
    except ValueError:
        raise ValueError(f"{name} must be an array, not rows of different lengths") from None


def activation_bytes(name: str, value: ArrayLike, shape: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Activations (..., M, K), int8 or uint8, as a matrix of bytes, leading sizes folded into the rows."""
    array = array_of(name, value)
    if array.dtype not in (np.int8, np.uint8) or array.ndim < 2 or not array.size:
        raise ValueError(f"{name} must be a matrix of int8 or uint8, "
                         f"not {array.dtype} of shape {array.shape}")
    matrix = np.ascontiguousarray(array).view(np.uint8).reshape(-1, array.shape[-1])
    if shape is not None and matrix.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, not {array.shape}")
    return matrix


def weight_matrix(name: str, value: ArrayLike, shape: tuple[int, int] | None = None) -> NDArray[np.int8]:
    """Weights (K, N), integers of -128..127."""
    array = array_of(name, value)
    if array.ndim != 2 or not array.size:
        raise ValueError(f"{name} must be a matrix with elements, not of shape {array.shape}")
    if shape is not None and array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, not {array.shape}")
    return integers(name, array, *INT8).astype(np.int8)


def channel(name: str, value: ArrayLike, n: int, low: int, high: int) -> NDArray[np.int64]:
    """One value for each of n channels, or one for all, spread over them."""
    array = integers(name, array_of(name, value), low, high)
    if array.shape not in ((), (n,)):
        raise ValueError(f"{name} must be one value or {n} channels, not of shape {array.shape}")
    return np.broadcast_to(array, (n,))


def integers(name: str, array: NDArray[Any], low: int, high: int) -> NDArray[np.int64]:
    """Integers of low..high."""
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name} must hold integers of {low}..{high}, not {array.dtype}")
    least, most = (int(array.min()), int(array.max())) if array.size else (low, high)
    if least < low or most > high:
        raise ValueError(f"{name} must be in {low}..{high}, not {least if least < low else most}")
    return array.astype(np.int64)
