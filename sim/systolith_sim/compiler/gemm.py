"""``gemm``: one matrix product with its data as a Program."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from systolith_hw.config import TABLE_BYTES, CoreConfig
from systolith_hw.program import Program, Region, Segment
from systolith_sim.compiler.packing import pack_matrix, pack_parameters, pack_weights
from systolith_sim.compiler.plan import Plan, plan_gemm

INT8 = (-128, 127)
INT32 = (-(1 << 31), (1 << 31) - 1)


def gemm(core: CoreConfig, a: ArrayLike, w: ArrayLike, *, bias: ArrayLike = 0, mantissa: ArrayLike,
         shift: ArrayLike, zero_point: int = 0, table: ArrayLike | None = None, signed: bool = True,
         plan: Plan | None = None) -> Program:
    """Compile a linear layer of bytes with its data, from DRAM to DRAM.

    Parameters
    ----------
    a : array_like
        (M, K) activations, int8 or uint8; ``signed`` says how the core reads the bytes.
    w : array_like
        (K, N) integers of -128..127.
    bias, mantissa, shift : array_like
        (N,) or one for all channels: 32 bits signed, 0..65535, 0..63. The bias holds the input's zero point
        (``systolith_model.integer.matmul.fold_zero_point``).
    zero_point : int
        Zero point of the results, -128..127.
    table : array_like, optional
        (256,) integers of -128..127, applied to the saturated results.
    plan : Plan, optional
        From ``plan_gemm`` with the same sizes, flags and zero point; made when not given.

    Returns
    -------
    Program
        Its one output is named ``y``: int8 (M, N).

    Raises
    ------
    ValueError
        If shapes do not fit each other or a value is out of range.
    """
    rows, weights = activation_bytes("a", a), matrix("w", w, *INT8).astype(np.int8)
    if rows.shape[1] != weights.shape[0]:
        raise ValueError(f"a and w must be (M, K) and (K, N), not {rows.shape} and {weights.shape}")
    (m, k), n = rows.shape, weights.shape[1]
    if plan is None:
        plan = plan_gemm(core, m, k, n, table=table is not None, signed=signed, zero_point=zero_point)
    _check_plan(plan, core, (m, k, n), table is not None, signed, zero_point)
    places, cut = plan.operands, plan.cut
    image = [Segment(places.a.address, pack_matrix(rows, places.a.stride)),
             Segment(places.weights, pack_weights(cut, weights)),
             Segment(places.parameters, pack_parameters(cut, **channels(n, bias, mantissa, shift)))]
    if table is not None and places.table is not None:
        image.append(Segment(places.table, table_bytes(table)))
    return Program(instructions=plan.instructions, program_address=plan.program_address, image=tuple(image),
                   outputs=(Region(name="y", address=places.y.address, shape=(m, n), stride=places.y.stride),),
                   memory_bytes=plan.memory_bytes)


def activation_bytes(name: str, value: ArrayLike) -> NDArray[np.uint8]:
    """A matrix of int8 or uint8 as bytes."""
    array = np.asarray(value)
    if array.dtype not in (np.int8, np.uint8) or array.ndim != 2 or not array.size:
        raise ValueError(f"{name} must be a matrix of int8 or uint8, not {array.dtype} of shape {array.shape}")
    return np.ascontiguousarray(array).view(np.uint8)


def matrix(name: str, value: ArrayLike, low: int, high: int) -> NDArray[np.int64]:
    """A matrix of integers of low..high."""
    array = np.asarray(value)
    if array.ndim != 2 or not array.size:
        raise ValueError(f"{name} must be a matrix with elements, not of shape {array.shape}")
    return _checked(name, array, low, high)


def channels(n: int, bias: ArrayLike, mantissa: ArrayLike, shift: ArrayLike) -> dict[str, Any]:
    """Parameters of n channels (numerics.md, rules N4 and N5), one for all spread over them."""
    made = {}
    for name, value, low, high in (("bias", bias, *INT32), ("mantissa", mantissa, 0, 65535), ("shift", shift, 0, 63)):
        array = _checked(name, np.asarray(value), low, high)
        if array.shape not in ((), (n,)):
            raise ValueError(f"{name} must be one value or {n} channels, not of shape {array.shape}")
        made[name] = np.broadcast_to(array, (n,))
    return made


def table_bytes(table: ArrayLike) -> bytes:
    """A table of 256 integers of -128..127 as bytes (numerics.md, rule N7)."""
    array = np.asarray(table)
    if array.shape != (TABLE_BYTES,):
        raise ValueError(f"table must have shape ({TABLE_BYTES},), not {array.shape}")
    return _checked("table", array, *INT8).astype(np.int8).tobytes()


def _checked(name: str, array: NDArray[Any], low: int, high: int) -> NDArray[np.int64]:
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name} must hold integers of {low}..{high}, not {array.dtype}")
    if array.size and not low <= int(array.min()) <= int(array.max()) <= high:
        worst = int(array.min()) if int(array.min()) < low else int(array.max())
        raise ValueError(f"{name} must be in {low}..{high}, not {worst}")
    return array.astype(np.int64)


def _check_plan(plan: Plan, core: CoreConfig, sizes: tuple[int, int, int], table: bool, signed: bool,
                zero_point: int) -> None:
    given = (core, sizes, table, signed, zero_point)
    shape, places = plan.shape, plan.operands
    planned = (plan.core, (shape.m, shape.k, shape.n), places.table is not None, places.signed, places.zero_point)
    for name, one, other in zip(("core", "sizes", "table", "signed", "zero_point"), given, planned, strict=True):
        if one != other:
            raise ValueError(f"plan must be made for the same {name}, {one}, not {other}")
