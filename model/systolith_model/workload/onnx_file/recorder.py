"""Recorder: notes the nodes of a file as steps, with what they read and write."""

import ast
from collections.abc import Callable, Iterable, Mapping

from onnx import NodeProto, TensorProto

from systolith_model.formats import BITS, Format
from systolith_model.graph import Kind
from systolith_model.workload.onnx_file.infer import Inferred, Known
from systolith_model.workload.traced.notes import Notes, Storage
from systolith_model.workload.traced.steps import Attribute, Shape, Step, Value

T = TensorProto
FORMATS: Mapping[int, tuple[Format, int]] = {
    T.FLOAT: ("fp32", 1), T.BFLOAT16: ("bf16", 1), T.FLOAT16: ("fp16", 1), T.DOUBLE: ("fp32", 2),
    T.COMPLEX64: ("fp32", 2), T.COMPLEX128: ("fp32", 4), T.INT8: ("int8", 1), T.UINT8: ("int8", 1),
    T.BOOL: ("int8", 1), T.INT16: ("int8", 2), T.UINT16: ("int8", 2), T.INT32: ("int32", 1), T.UINT32: ("int32", 1),
    T.INT64: ("int32", 2), T.UINT64: ("int32", 2), T.INT4: ("int4", 1), T.UINT4: ("int4", 1),
    T.FLOAT8E4M3FN: ("fp8", 1), T.FLOAT8E4M3FNUZ: ("fp8", 1), T.FLOAT8E5M2: ("fp8", 1), T.FLOAT8E5M2FNUZ: ("fp8", 1),
    T.FLOAT4E2M1: ("fp4", 1),
}  # fmt: skip
"""Format of each element type, and how many of it one element takes: a last dimension of that size is added."""
FLOATING = (T.FLOAT, T.BFLOAT16, T.FLOAT16, T.DOUBLE)
STORED = (*FLOATING, T.INT8, T.UINT8, T.INT4, T.UINT4, T.FLOAT8E4M3FN, T.FLOAT8E4M3FNUZ, T.FLOAT8E5M2,
          T.FLOAT8E5M2FNUZ, T.FLOAT4E2M1)  # fmt: skip
"""Types of parameters; other constants are buffers."""
SCOPES = "pkg.torch.onnx.name_scopes"
"""Where torch's exporter says which modules a node comes from."""

Rule = Callable[["Recorder", NodeProto], None]
"""Notes what one node does."""


class Recorder(Notes):
    """Values and steps of a file's nodes; memory by number, under the names of all tensors that lie in it."""

    def __init__(self, known: Inferred) -> None:
        super().__init__()
        self.known = known
        self.tensors = known.tensors
        self.buffer_bytes = 0
        """Of constants that kernels read and that are no parameters: stored ones, and those worked out before."""
        self.ahead: dict[str, str] = {}
        """Constants that are read as another lies in the file, by name."""
        self._keys: dict[str, int] = {}
        self._narrow: dict[str, tuple[Format, int]] = {}
        """Formats in which tensors lie whose elements the file calls wider, by name."""
        self._calls: dict[str, int] = {}
        self._initializers = {tensor.name for tensor in known.model.graph.initializer}

    def described(self, name: str) -> tuple[Format, int]:
        """Format and how many of it one element takes.

        Raises
        ------
        ValueError
            If the format is none that a Graph has.
        """
        kind = self.tensors[name].type
        if kind not in FORMATS:
            allowed = ", ".join(T.DataType.Name(one) for one in FORMATS)
            raise ValueError(f"tensor {name!r} must be of {allowed}, not {T.DataType.Name(kind)}")
        if name in self.ahead and name not in self._narrow:
            self._narrow[name] = self.described(self.ahead[name])
        return self._narrow.get(name, FORMATS[kind])

    def narrows(self, name: str, to: str) -> bool:
        """Whether the file calls a tensor's elements narrower than another's."""
        (old, parts), (new, fewer) = self.described(name), self.described(to)
        return BITS[new] * fewer < BITS[old] * parts

    def bytes_of(self, name: str) -> int:
        """Bytes of a tensor as it lies in memory."""
        numbers, parts = self.described(name)
        return (self.tensors[name].elements * parts * BITS[numbers] + 7) // 8

    def is_constant(self, name: str) -> bool:
        """Whether it follows from the file alone."""
        return name in self.known.constants

    def is_parameter(self, name: str) -> bool:
        """Whether it is stored, as an array of numbers: no truth values, no integers of 32 bits and more."""
        known = self.tensors[name]
        return name in self._initializers and known.type in STORED and known.shape != ()

    def is_small(self, name: str) -> bool:
        """Whether it is one number, or a setting such as axes, that a kernel gets with its launch."""
        setting = name in self.known.data and self.tensors[name].type in (T.INT64, T.INT32)
        return self.is_constant(name) and (setting or self.tensors[name].elements <= 1)

    def outside(self, name: str, *, cache: bool = False) -> None:
        """Name what the pass finds: an input, a cache, a constant."""
        if self.tensors[name].elements == 0:
            return
        constant = self.is_constant(name)
        numbers, _ = self.described(name)
        value = self.number(Value(self._own(name), numbers, label=name, constant=constant, cache=cache))
        self._keys[name] = len(self._keys)
        self.hold(self._keys[name], value, self.bytes_of(name), held=constant or cache)
        if constant and not self.is_parameter(name):
            self.buffer_bytes += self.bytes_of(name)

    def read(
        self, name: str, shape: Shape | None = None, *, offset: int = 0, numbers: Format | None = None
    ) -> int:
        """The value of a tensor as a node reads it, in a shape and format of its own where given."""
        storage = self._storage(name)
        wanted = (numbers or self.described(name)[0]) if shape is not None else self.described(name)[0]
        return self.view(storage, shape or self._own(name), wanted, offset)

    def read_indices(self, name: str) -> int:
        """The value of indices: one element each."""
        return self.view(self._storage(name), self.tensors[name].shape or (1,), "int32")

    def alias(self, name: str, of: str, *, narrow: bool = False) -> None:
        """A tensor that lies where another does; ``narrow`` keeps its format."""
        if self.tensors[of].elements == 0:
            return
        self._storage(of)
        self._keys[name] = self._keys[of]
        if narrow or of in self._narrow:
            self._narrow[name] = self.described(of)

    def add(
        self, node: NodeProto, kind: Kind, inputs: Iterable[int], outputs: Iterable[str | tuple[str, Shape]], *,
        word: str = "", **attributes: Attribute,
    ) -> None:  # fmt: skip
        """Note a step: ``outputs`` are tensors, or with the shape in which the step writes them."""
        places = tuple(inputs)
        made = [self._written(*(out if isinstance(out, tuple) else (out, None))) for out in outputs]
        path = path_of(node)
        call = self._calls.setdefault(path, len(self._calls))
        self.steps.append(Step(path, call, word or node.op_type, kind, places, tuple(made), attributes))

    def make(self, name: str, shape: Shape, like: str) -> str:
        """A tensor that the file has no name for; gives its name."""
        self.tensors[name] = Known(shape, self.tensors[like].type)
        return name

    def keep_to_the_end(self, names: Iterable[str]) -> None:
        """Results of the pass stay to its end."""
        for name in names:
            if name in self._keys:
                self._storage(name).last = len(self.steps)

    def _own(self, name: str) -> Shape:
        shape, (_, parts) = self.tensors[name].shape, self.described(name)
        return ((*shape, parts) if parts > 1 else shape) or (1,)

    def _storage(self, name: str) -> Storage:
        if name in self.ahead and name not in self._keys:
            self.alias(name, self.ahead[name], narrow=True)
        elif name not in self._keys:
            self.outside(name)
        found = self.storages[self._keys[name]]
        found.last = max(found.last, len(self.steps))
        return found

    def _written(self, name: str, shape: Shape | None) -> int:
        self._keys[name] = len(self._keys)
        cache = name.startswith("present")
        numbers = self.described(name)[0]
        return self.write(self._keys[name], shape or self._own(name), numbers, self.bytes_of(name), cache=cache)


def path_of(node: NodeProto) -> str:
    """Module that a node comes from, as its exporter says or its name does (``/layers.3/mlp/MatMul``)."""
    scopes = next((one.value for one in node.metadata_props if one.key == SCOPES), None)
    if scopes is not None:
        try:
            return str(ast.literal_eval(scopes)[-2])
        except (ValueError, SyntaxError, IndexError, TypeError):
            return ""
    return ".".join(part for part in node.name.split("/")[:-1] if part)


def operands(rec: Recorder, node: NodeProto) -> list[str]:
    """Inputs with elements, without single numbers and settings."""
    return [name for name in node.input if name and rec.tensors[name].elements and not rec.is_small(name)]


def results(rec: Recorder, node: NodeProto) -> list[str]:
    """Outputs with elements."""
    return [name for name in node.output if name in rec.tensors and rec.tensors[name].elements]
