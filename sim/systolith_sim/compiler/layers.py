"""Linear layers with their data as Programs: one product, a chain of layers, a graph of matmuls."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from systolith_hw.config import TABLE_BYTES, CoreConfig
from systolith_hw.program import Program, Region, Segment
from systolith_sim.compiler.checked import (
    INT8,
    INT32,
    MANTISSA,
    SHIFT,
    activation_bytes,
    array_of,
    channel,
    integers,
    weight_matrix,
)
from systolith_sim.compiler.packing import pack_matrix, pack_parameters, pack_weights
from systolith_sim.compiler.plan import Layer, Linear, Plan, plan_layers
from systolith_sim.compiler.tiling import Shape


@dataclass(frozen=True, kw_only=True)
class LinearData:
    """Weights and parameters of a linear layer."""

    w: ArrayLike
    """(K, N) integers of -128..127."""
    mantissa: ArrayLike
    """(N,) or one for all channels, 0..65535."""
    shift: ArrayLike
    """(N,) or one for all channels, 0..63."""
    bias: ArrayLike = 0
    """(N,) or one for all channels, 32 bits signed; holds the input's zero point
    (``systolith_model.integer.matmul.fold_zero_point``)."""
    zero_point: int = 0
    """Zero point of the results, -128..127."""
    table: ArrayLike | None = None
    """(256,) integers of -128..127, applied to the saturated results."""
    signed: bool = True
    """Activations are int8, not uint8."""


def gemm(core: CoreConfig, a: ArrayLike, w: ArrayLike, *, bias: ArrayLike = 0, mantissa: ArrayLike,
         shift: ArrayLike, zero_point: int = 0, table: ArrayLike | None = None, signed: bool = True,
         plan: Plan | None = None) -> Program:
    """Compile one linear layer with its data, from DRAM to DRAM.

    Parameters
    ----------
    a : array_like
        (..., M, K) activations, int8 or uint8; ``signed`` says how the core reads the bytes.
    w, bias, mantissa, shift, zero_point, table, signed
        As in LinearData.
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
    layer = LinearData(w=w, bias=bias, mantissa=mantissa, shift=shift, zero_point=zero_point, table=table,
                       signed=signed)
    return chain(core, a, [layer], plan=plan)


def chain(core: CoreConfig, a: ArrayLike, layers: Sequence[LinearData], *,
          plan: Plan | None = None) -> Program:
    """Compile layers of which each reads the results of the one before; they stay on chip where they fit.

    Parameters
    ----------
    a : array_like
        (..., M, K) activations of the first layer, int8 or uint8.
    layers : sequence of LinearData
        From the first to the last.
    plan : Plan, optional
        For the same layers; made when not given.

    Returns
    -------
    Program
        Its one output is named ``y``: int8 (M, N).

    Raises
    ------
    ValueError
        If shapes do not fit each other or a value is out of range.
    """
    rows = activation_bytes("a", a)
    linears = _linears(rows.shape, layers)
    if plan is None:
        plan = plan_layers(core, linears)
    shapes, planned = [each.shape for each in linears], [layer.linear.shape for layer in plan.layers]
    if plan.core != core:
        name = next(name for name in CoreConfig.model_fields if getattr(core, name) != getattr(plan.core, name))
        raise ValueError(f"plan must be made for the core it is used on, with {name} = {getattr(core, name)}, "
                         f"not {getattr(plan.core, name)}")
    if shapes != planned:
        raise ValueError(f"plan must be made for {shapes}, not {planned}")
    return program_of(plan, {"a": rows}, list(layers))


def _linears(shape: tuple[int, ...], layers: Sequence[LinearData]) -> list[Linear]:
    linears: list[Linear] = []
    for number, data in enumerate(layers):
        w = weight_matrix(_name("w", number, len(layers)), data.w)
        k = linears[-1].shape.n if linears else shape[1]
        if w.shape[0] != k:
            raise ValueError(f"{_name('w', number, len(layers))} must be ({k}, N), as its activations are "
                             f"({shape[0]}, {k}), not {w.shape}")
        y = "y" if number == len(layers) - 1 else f"y{number}"
        a_name = linears[-1].y if linears else "a"
        sizes = Shape(m=shape[0], k=k, n=w.shape[1])
        linears.append(linear_of(data, f"layer {number}", a_name, y, sizes))
    return linears


def linear_of(data: LinearData, name: str, a: str, y: str, shape: Shape) -> Linear:
    """What the planner must know of a layer."""
    return Linear(name=name, a=a, y=y, shape=shape, table=data.table is not None, signed=data.signed,
                  zero_point=data.zero_point)


def program_of(plan: Plan, inputs: Mapping[str, ArrayLike], layers: Sequence[LinearData]) -> Program:
    """A plan filled with data.

    Parameters
    ----------
    inputs : mapping
        Activations that no layer makes, by name.
    layers : sequence of LinearData
        In the plan's order.

    Raises
    ------
    ValueError
        If data does not fit the plan or a value is out of range.
    """
    image, made = [], set[str]()
    shapes = {}
    for layer, data in zip(plan.layers, layers, strict=True):
        linear, shape = layer.linear, layer.linear.shape
        if linear.a not in made:
            if linear.a not in inputs:
                raise ValueError(f"inputs must hold {linear.a}, not only {', '.join(inputs) or 'nothing'}")
            place = plan.tensors[linear.a]
            rows = activation_bytes(linear.a, inputs[linear.a], (shape.m, shape.k))
            image.append(Segment(place.address, pack_matrix(rows, place.stride)))
            made.add(linear.a)
        image += _constants(layer, data)
        made.add(linear.y)
        shapes[linear.y] = (shape.m, shape.n)
    outputs = tuple(Region(name=name, address=plan.tensors[name].address, shape=shapes[name],
                           stride=plan.tensors[name].stride) for name in plan.outputs)
    return Program(instructions=plan.instructions, program_address=plan.program_address, image=tuple(image),
                   outputs=outputs, memory_bytes=plan.memory_bytes)


def _constants(layer: Layer, data: LinearData) -> list[Segment]:
    linear, places, n = layer.linear, layer.operands, layer.linear.shape.n
    given = (data.table is not None, data.signed, data.zero_point)
    planned = (linear.table, linear.signed, linear.zero_point)
    for name, one, other in zip(("table", "signed", "zero_point"), given, planned, strict=True):
        if one != other:
            raise ValueError(f"{name} of {linear.name} must be as planned, {other}, not {one}")
    w = weight_matrix(f"w of {linear.name}", data.w, (linear.shape.k, n))
    bias, mantissa, shift = (channel(name, value, n, *limits) for name, value, limits in (
        ("bias", data.bias, INT32), ("mantissa", data.mantissa, MANTISSA), ("shift", data.shift, SHIFT)))
    made = [Segment(places.weights, pack_weights(layer.cut, w)),
            Segment(places.parameters, pack_parameters(layer.cut, bias=bias, mantissa=mantissa, shift=shift))]
    if data.table is not None and places.table is not None:
        table = integers("table", array_of("table", data.table), *INT8)
        if table.shape != (TABLE_BYTES,):
            raise ValueError(f"table must have shape ({TABLE_BYTES},), not {table.shape}")
        made.append(Segment(places.table, table.astype(np.int8).tobytes()))
    return made


def _name(field: str, number: int, count: int) -> str:
    return field if count == 1 else f"{field} of layer {number}"
