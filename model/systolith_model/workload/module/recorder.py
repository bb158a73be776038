"""Recorder: watches every operation that torch dispatches and notes it as a step, with what it reads and writes."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from systolith_model.formats import Format
from systolith_model.graph import Kind
from systolith_model.workload.traced.notes import Notes, Storage
from systolith_model.workload.traced.steps import Attribute, Shape, Step, Value

FORMATS: Mapping[torch.dtype, tuple[Format, int]] = {
    torch.float32: ("fp32", 1), torch.bfloat16: ("bf16", 1), torch.float16: ("fp16", 1), torch.float64: ("fp32", 2),
    torch.complex64: ("fp32", 2), torch.complex128: ("fp32", 4), torch.float8_e4m3fn: ("fp8", 1),
    torch.float8_e5m2: ("fp8", 1), torch.int8: ("int8", 1), torch.uint8: ("int8", 1), torch.bool: ("int8", 1),
    torch.int16: ("int8", 2), torch.int32: ("int32", 1), torch.int64: ("int32", 2),
}  # fmt: skip
"""Format of each of torch's, and how many of it one element takes: a last dimension of that size is added."""

Rule = Callable[["Recorder", Any, tuple[Any, ...], dict[str, Any], Any], None]
"""Notes what one call of an operation does, from its overload, arguments and result."""


class Recorder(TorchDispatchMode, Notes):
    """Values and steps of what torch dispatches; memory by its storage's identity.

    Parameters
    ----------
    rules : mapping
        What to note of each operation, by name without overload; ``fallback`` for all others.
    results : mapping
        Results of operations that torch itself gives none for on stand-ins, by name.
    """

    def __init__(
        self, module: nn.Module, rules: Mapping[str, Rule], fallback: Rule, results: Mapping[str, Callable[..., Tensor]]
    ) -> None:
        TorchDispatchMode.__init__(self)
        Notes.__init__(self)
        self.rules, self.fallback, self.results = rules, fallback, results
        self._names = {id(part): name for name, part in module.named_modules()}
        self._calls: list[tuple[str, int]] = [("", 0)]
        self._made_calls = 0
        self._forward_of: dict[int, tuple[str, int]] = {}
        """Module and call by the sequence number that autograd gives a forward operation."""

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation on stand-ins and note it."""
        kwargs = kwargs or {}
        if getattr(func, "namespace", "") == "prim":
            return func(*args, **kwargs)
        name = func._schema.name.partition("::")[2]
        if name not in self.rules and func.namespace == "aten":  # composite ones arrive whole in inference mode
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        if kwargs.get("device") is not None:
            kwargs = {**kwargs, "device": torch.device("cpu")}
        out = self.results.get(name, func)(*args, **kwargs)
        if not self._moves_nothing(func, args, out):
            self.rules.get(name, self.fallback)(self, func, args, kwargs, out)
        return out

    def _moves_nothing(self, func: Any, args: tuple[Any, ...], out: Any) -> bool:
        """Whether every result is a view of an argument, or empty."""
        results = list(tensors_in(out))
        if func._schema.is_mutable:
            return all(tensor.numel() == 0 for tensor in (*results, *tensors_in(args))) and bool(results)
        known = {identity(tensor) for tensor in tensors_in(args)}
        return all(identity(tensor) in known or tensor.numel() == 0 for tensor in results)

    def outside(self, name: str, tensor: Tensor, *, constant: bool = False, cache: bool = False) -> None:
        """Name what the pass finds: a parameter, a buffer, an input, a cache."""
        if identity(tensor) in self.storages or tensor.numel() == 0:
            return
        shape, numbers = described(tensor)
        value = self.number(Value(shape, numbers, label=name, constant=constant, cache=cache))
        self._hold(tensor, value, held=constant or cache)

    def read(self, tensor: Tensor, shape: Shape | None = None, *, whole_elements: bool = False) -> int:
        """The value of a tensor as an operation reads it: repeated elements once.

        ``shape`` has it read as that many elements; ``whole_elements`` keeps 64-bit integers, such as indices, as
        one element each.
        """
        storage = self._storage(tensor)
        own, numbers = described(tensor, whole_elements=whole_elements)
        if shape is None:
            shape = tuple(1 if step == 0 else size for size, step in zip(tensor.shape, tensor.stride(), strict=True))
            shape = (*shape, *own[tensor.dim() :]) or (1,)
        return self.view(storage, shape, numbers, int(tensor.storage_offset()))

    def is_constant(self, tensor: Tensor) -> bool:
        """Whether it is a parameter or a buffer, or a view of one."""
        return self.values[self._storage(tensor).value].constant

    def is_cache(self, tensor: Tensor) -> bool:
        """Whether it is a cache, or a view of one."""
        return self.values[self._storage(tensor).value].cache

    def add(
        self, word: str, kind: Kind, inputs: Iterable[int], outputs: Iterable[Tensor | tuple[Tensor, Shape]],
        *, cache: bool = False, **attributes: Attribute,
    ) -> None:  # fmt: skip
        """Note a step: ``outputs`` are tensors, or with the shape in which the step writes them."""
        made = [self._written(out, cache=cache) for out in outputs if _tensor_of(out).numel()]
        if not made:
            return
        path, call = self._where()
        self.steps.append(Step(path, call, word, kind, tuple(inputs), tuple(made), attributes))

    def make(self, tensor: Tensor) -> None:
        """Memory that is taken without a kernel."""
        if tensor.numel():
            self._storage(tensor)

    def keep_to_the_end(self, tensors: Iterable[Tensor]) -> None:
        """Results of the pass stay to its end."""
        for tensor in tensors:
            if tensor.numel():
                self._storage(tensor).last = len(self.steps)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Follow which module runs."""
        before = nn.modules.module.register_module_forward_pre_hook(self._enter)
        behind = nn.modules.module.register_module_forward_hook(self._leave, always_call=True)
        try:
            yield
        finally:
            before.remove()
            behind.remove()

    def _enter(self, module: nn.Module, *_: object) -> None:
        self._made_calls += 1
        self._calls.append((self._names.get(id(module), self._calls[-1][0]), self._made_calls))

    def _leave(self, *_: object) -> None:
        self._calls.pop()

    def _where(self) -> tuple[str, int]:
        """Module and call of the operation that runs; in the backward pass those of its forward operation."""
        node = torch._C._current_autograd_node()
        if node is not None:
            path, call = self._forward_of.get(node._sequence_nr(), ("", -1))
            return f"backward.{path}" if path else "backward", call
        self._forward_of[_sequence_number() - 1] = self._calls[-1]
        return self._calls[-1]

    def _written(self, out: Tensor | tuple[Tensor, Shape], *, cache: bool) -> int:
        """A new value in an output's memory."""
        tensor = _tensor_of(out)
        shape, numbers = described(tensor)
        if isinstance(out, tuple):
            shape = out[1]
        memory = tensor.untyped_storage()
        return self.write(identity(tensor), shape, numbers, memory.nbytes(), cache=cache, keep=memory)

    def _storage(self, tensor: Tensor) -> Storage:
        found = self.storages.get(identity(tensor))
        if found is None:  # a tensor that the module kept somewhere, or memory taken without a kernel
            shape, numbers = described(tensor)
            self.values.append(Value(shape, numbers, label=f"made.{len(self.values)}"))
            found = self._hold(tensor, len(self.values) - 1, held=False)
        found.last = max(found.last, len(self.steps))
        return found

    def _hold(self, tensor: Tensor, value: int, *, held: bool) -> Storage:
        # A real tensor that a module made before it became a stand-in has the same size.
        memory = tensor.untyped_storage()
        return self.hold(identity(tensor), value, memory.nbytes(), held=held, keep=memory)


def _sequence_number() -> int:
    """What autograd numbers the next forward operation with; torch says it nowhere else."""
    return torch.autograd._get_sequence_nr()  # pyright: ignore[reportPrivateImportUsage]


def identity(tensor: Tensor) -> int:
    """The same for all views of a tensor."""
    return tensor.untyped_storage()._cdata


def described(tensor: Tensor, *, whole_elements: bool = False) -> tuple[Shape, Format]:
    """Shape and format; elements of 64 bits and more are several of 32 (or, for indices, one).

    Raises
    ------
    ValueError
        If the format is none that a Graph has.
    """
    if tensor.dtype not in FORMATS:
        raise ValueError(f"tensors must be of {', '.join(str(kind) for kind in FORMATS)}, not {tensor.dtype}")
    numbers, parts = FORMATS[tensor.dtype]
    shape = tuple(tensor.shape)
    if parts > 1 and not whole_elements:
        shape = (*shape, parts)
    return shape or (1,), numbers


def tensors_in(thing: object) -> Iterator[Tensor]:
    """Tensors among the arguments or results of an operation."""
    if isinstance(thing, Tensor):
        yield thing
    elif isinstance(thing, list | tuple):
        for part in thing:
            yield from tensors_in(part)


def _tensor_of(out: Tensor | tuple[Tensor, Shape]) -> Tensor:
    return out[0] if isinstance(out, tuple) else out
