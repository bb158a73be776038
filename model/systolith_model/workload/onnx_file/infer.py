"""Shapes of every tensor of a file, and values of those that follow from shapes and constants alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, TypeProto, helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from systolith_model.workload.onnx_file.contrib import contrib_shapes, said
from systolith_model.workload.onnx_file.sizes import Sizes, outside_inputs
from systolith_model.workload.traced.steps import Shape

LARGEST_VALUE = 1 << 12
"""Elements of the largest tensor whose values are worked out: shapes, indices, axes are smaller."""
BRANCHES = ("If", "Loop", "Scan", "SequenceMap")
RANDOM = ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial")
"""Results that follow from nothing."""
STANDARD = ("", "ai.onnx")
CONTRIB = (*STANDARD, "com.microsoft")
"""Domains in which ONNX Runtime has operators of its own."""


@dataclass(frozen=True)
class Known:
    """Shape and element type of a tensor."""

    shape: Shape
    type: int
    """One of ``onnx.TensorProto``'s."""

    @property
    def elements(self) -> int:
        """Number of elements."""
        return prod(self.shape)


@dataclass
class Inferred:
    """What is known of a file's tensors before it runs."""

    model: onnx.ModelProto
    sizes: Sizes
    tensors: dict[str, Known] = field(default_factory=dict)
    constants: set[str] = field(default_factory=set)
    """Tensors that follow from the file and the shapes of its inputs alone."""
    data: dict[str, NDArray[np.generic]] = field(default_factory=dict)
    """Values of small ones of those."""

    def __post_init__(self) -> None:
        self._stated = {info.name: info.type for info in (*self.model.graph.output, *self.model.graph.value_info)}
        for tensor in self.model.graph.initializer:
            self._constant(tensor.name, tensor)
        for info in outside_inputs(self.model):
            self.tensors[info.name] = self._input(info)
        for node in self.model.graph.node:
            self._node(node)

    def _constant(self, name: str, tensor: TensorProto) -> None:
        self.tensors[name] = Known(tuple(tensor.dims), tensor.data_type)
        self.constants.add(name)
        if tensor.data_location != TensorProto.EXTERNAL and prod(tensor.dims) <= LARGEST_VALUE:
            self.data[name] = numpy_helper.to_array(tensor)

    def _input(self, info: onnx.ValueInfoProto) -> Known:
        if info.type.WhichOneof("value") != "tensor_type":
            raise ValueError(f"input {info.name!r} must be a tensor, not {info.type.WhichOneof('value')}")
        if not info.type.tensor_type.HasField("shape"):
            raise ValueError(f"input {info.name!r} must have a shape in the file, which states none")
        found = self._sized(info.type)
        if found is None:
            raise ValueError(self._unknown_input(info))
        return found

    def _unknown_input(self, info: onnx.ValueInfoProto) -> str:
        dims = info.type.tensor_type.shape.dim
        place, dim = next((place, dim) for place, dim in enumerate(dims) if self._size(dim) is None)
        name = f"dimension {dim.dim_param!r}" if dim.dim_param else f"unnamed dimension {place}"
        return (
            f"{name} of input {info.name!r} must be a size in the file, or have a name with 'batch', which --batch "
            "sets, or with 'seq', 'length' or 'token', which --prompt sets"
        )

    def _size(self, dim: onnx.TensorShapeProto.Dimension) -> int | None:
        if dim.HasField("dim_value"):
            return dim.dim_value
        return self.sizes.of(dim.dim_param) if dim.dim_param else None

    def _sized(self, kind: TypeProto) -> Known | None:
        """A tensor's type, None where a size is unknown."""
        tensor = kind.tensor_type
        if kind.WhichOneof("value") != "tensor_type" or not tensor.HasField("shape") or not tensor.elem_type:
            return None
        sizes = [size for dim in tensor.shape.dim if (size := self._size(dim)) is not None]
        return Known(tuple(sizes), tensor.elem_type) if len(sizes) == len(tensor.shape.dim) else None

    def _node(self, node: NodeProto) -> None:
        if node.op_type in BRANCHES:
            raise ValueError(f"{said(node)} must not be in the file: how often and whether it runs depends on values")
        given = [name for name in node.input if name]
        for name in given:
            if name not in self.tensors:
                raise ValueError(f"tensor {name!r} of {said(node)} must be an input, an initializer or made before it")
        if node.op_type == "Constant" and node.domain in STANDARD:
            self._constant_node(node)
            return
        self._shapes(node)
        shape_alone = node.op_type in ("Shape", "Size")
        if shape_alone or (node.op_type not in RANDOM and all(name in self.constants for name in given)):
            self.constants.update(name for name in node.output if name)
            self._evaluate(node, given)

    def _constant_node(self, node: NodeProto) -> None:
        value = helper.get_attribute_value(node.attribute[0])
        if not isinstance(value, TensorProto):
            kind = np.int64 if "int" in node.attribute[0].name else np.float32
            if "string" in node.attribute[0].name:
                raise ValueError(f"{said(node)} must hold numbers, not strings")
            value = numpy_helper.from_array(np.array(value, dtype=kind))
        self._constant(node.output[0], value)

    def _shapes(self, node: NodeProto) -> None:
        """Types of a node's results: inferred, or else stated in the file."""
        found: Mapping[str, TypeProto] = {}
        if node.domain in STANDARD and onnx.defs.has(node.op_type, self._opset):
            found = self._inferred(node)
        elif node.domain in CONTRIB and (shapes := contrib_shapes(node, self.tensors)) is not None:
            self.tensors |= {name: Known(*known) for name, known in shapes.items()}
            return
        for name in filter(None, node.output):
            kinds = (found.get(name), self._stated.get(name))
            known = next((known for kind in kinds if kind is not None and (known := self._sized(kind))), None)
            if known is None:
                raise ValueError(self._unknown_result(node, name, found.get(name)))
            self.tensors[name] = known

    @property
    def _opset(self) -> int:
        return max((one.version for one in self.model.opset_import if one.domain in STANDARD), default=1)

    def _inferred(self, node: NodeProto) -> Mapping[str, TypeProto]:
        schema = onnx.defs.get_schema(node.op_type, self._opset)
        names = {name for name in node.input if name}
        types = {
            name: helper.make_tensor_type_proto(self.tensors[name].type, self.tensors[name].shape) for name in names
        }
        data = {name: numpy_helper.from_array(self.data[name]) for name in names if name in self.data}
        try:
            return shape_inference.infer_node_outputs(
                schema, node, types, data, opset_imports=list(self.model.opset_import), ir_version=self.model.ir_version
            )
        except Exception as error:  # onnx raises several kinds
            words = " ".join(str(error).split())
            raise ValueError(f"{said(node)} must fit its inputs: {words[:300]}") from None

    def _unknown_result(self, node: NodeProto, name: str, kind: TypeProto | None) -> str:
        dims = [] if kind is None else list(kind.tensor_type.shape.dim)
        place = next((str(place) for place, dim in enumerate(dims) if self._size(dim) is None), "")
        what = f"dimension {place} of tensor {name!r}" if place else f"shape of tensor {name!r}"
        return (
            f"{what}, which {said(node)} makes, must follow from shapes, not from values or an unknown operator; "
            "a fixed shape among the file's value_info sets it"
        )

    def _evaluate(self, node: NodeProto, given: list[str]) -> None:
        """Values of a node whose inputs have known ones."""
        if node.op_type in ("Shape", "Size"):
            self._shape_data(node)
            return
        small = all(self.tensors[name].elements <= LARGEST_VALUE for name in node.output if name)
        if not small or not given or any(name not in self.data for name in given) or node.domain not in STANDARD:
            return
        infos = [helper.make_tensor_value_info(name, self.tensors[name].type, None) for name in given]
        made = [name for name in node.output if name]
        outs = [helper.make_tensor_value_info(name, self.tensors[name].type, None) for name in made]
        graph = helper.make_graph([node], "one", list({info.name: info for info in infos}.values()), outs)
        one = helper.make_model(graph, opset_imports=list(self.model.opset_import), ir_version=self.model.ir_version)
        try:
            results = ReferenceEvaluator(one).run(None, {name: self.data[name] for name in given})
        except Exception:  # an operator that onnx does not evaluate has no value, only a shape
            return
        self.data |= {name: np.asarray(value) for name, value in zip(made, results, strict=True)}

    def _shape_data(self, node: NodeProto) -> None:
        shape = self.tensors[node.input[0]].shape
        how = {one.name: one.i for one in node.attribute}
        value = shape[how.get("start", 0) : how.get("end", len(shape))] if node.op_type == "Shape" else prod(shape)
        self.data[node.output[0]] = np.array(value, dtype=np.int64)
