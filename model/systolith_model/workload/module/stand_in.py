"""Stand-ins: a copy of a module and its inputs whose tensors have shapes and no data, on one device.

The copy is what runs, so nothing that a forward pass keeps in the module or in a cache reaches the caller's.
"""

import copy
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

WIDE = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
"""Formats of torch that a cast changes; narrower ones are stored like that on purpose."""
DEVICE = "cpu"
"""Where stand-ins pretend to be: tensors that a module makes without naming a device meet them there."""
CLOSED = (
    str, bytes, int, float, complex, bool, type(None), torch.dtype, torch.device, type, types.ModuleType,
    types.FunctionType, types.BuiltinFunctionType,
)  # fmt: skip
"""What holds no tensors of a module's own."""


@dataclass(frozen=True)
class StandIns:
    """What runs, and what its tensors stand for."""

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    parameters: dict[str, Tensor]
    """By name; a shared one under its first."""
    buffers: dict[str, Tensor]
    inputs: dict[str, Tensor]
    """Tensors among the arguments, in lists, tuples and dictionaries."""
    caches: dict[str, Tensor]
    """Tensors inside other objects among the arguments, such as a cache of keys and values."""


def stand_ins(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], *, mode: FakeTensorMode, dtype: torch.dtype | None
) -> StandIns:
    """Copies of a module and its arguments, each tensor replaced; floating ones in ``dtype`` where given.

    Raises
    ------
    ValueError
        If a part cannot be copied.
    """
    memo: dict[int, Any] = {}
    originals = {id(tensor): tensor for tensor in held_tensors((module, args, kwargs))}
    with mode:
        for key, tensor in originals.items():
            memo[key] = _stand_in(tensor, dtype)
    named = {name: memo[id(tensor)] for name, tensor in module.named_parameters()}
    buffers = {name: memo[id(tensor)] for name, tensor in module.named_buffers()}
    given = {name: memo[id(tensor)] for name, tensor in _plain_inputs(args, kwargs)}
    held = {id(tensor) for tensor in held_tensors(module)} | {id(tensor) for _, tensor in _plain_inputs(args, kwargs)}
    inside = [memo[id(tensor)] for tensor in held_tensors((args, kwargs)) if id(tensor) not in held]
    caches = {f"cache.{place}": tensor for place, tensor in enumerate(inside) if tensor.is_floating_point()}
    try:
        copied, args, kwargs = copy.deepcopy((module, args, kwargs), memo)
    except Exception as error:  # whatever a module's parts say when copied
        raise ValueError(f"module and inputs must be such that copy.deepcopy copies them: {error}") from None
    return StandIns(copied, args, kwargs, named, buffers, given, caches)


def _stand_in(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """A tensor like another, with the same strides where they are dense, on ``DEVICE``."""
    if tensor.layout is not torch.strided:
        raise ValueError(f"tensors must be dense, not {tensor.layout}")
    wanted = dtype if dtype is not None and tensor.dtype in WIDE else tensor.dtype
    fake = torch.empty_strided(tensor.shape, tensor.stride(), dtype=wanted, device=DEVICE)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(fake, requires_grad=tensor.requires_grad)
    return fake.requires_grad_(tensor.requires_grad)


def held_tensors(thing: object, seen: set[int] | None = None) -> Iterator[Tensor]:
    """Tensors that an object holds, however deep, each once."""
    seen = set() if seen is None else seen
    if isinstance(thing, CLOSED) or id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, Tensor):
        yield thing
        return
    parts: list[object] = []
    if isinstance(thing, dict):
        parts += thing.values()
    elif isinstance(thing, list | tuple | set | frozenset):
        parts += thing
    if isinstance(held := getattr(thing, "__dict__", None), dict):
        parts += held.values()
    for part in parts:
        yield from held_tensors(part, seen)


def _plain_inputs(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Tensors among arguments by name: ``input.0``, ``input.mask``, ``input.1.0``."""
    for name, value in [*((str(place), arg) for place, arg in enumerate(args)), *kwargs.items()]:
        yield from _leaves(f"input.{name}", value)


def _leaves(name: str, value: object) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, list | tuple) and type(value) in (list, tuple):  # others, such as caches, are no inputs
        for place, part in enumerate(value):
            yield from _leaves(f"{name}.{place}", part)
    elif isinstance(value, dict) and type(value) is dict:
        for key, part in value.items():
            yield from _leaves(f"{name}.{key}", part)
