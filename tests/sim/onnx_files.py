"""ONNX files in the making, and their graphs."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from systolith_model.graph import Graph, flops
from systolith_model.workload.onnx_file import OnnxFile, onnx_graph
from systolith_model.workload.traced.result import ModuleGraph

FP32 = np.float32


class File:
    """A file in the making: nodes are named after the module they stand in."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.stored: list[TensorProto] = []
        self.place = ""
        self.used = 0

    def store(self, *shape: int, kind: type = FP32) -> str:
        """A parameter."""
        self.stored.append(numpy_helper.from_array(np.zeros(shape, kind), f"stored.{len(self.stored)}"))
        return self.stored[-1].name

    def ints(self, *values: int) -> str:
        """A setting."""
        self.stored.append(numpy_helper.from_array(np.array(values), f"stored.{len(self.stored)}"))
        return self.stored[-1].name

    def number(self, value: float) -> str:
        return self("Constant", value=numpy_helper.from_array(np.array(value, FP32)))

    def __call__(self, op: str, *inputs: str, outputs: int = 1, domain: str = "", **how: Any) -> Any:
        made = [f"t{self.used + place}" for place in range(outputs)]
        name = f"{self.place}/{op}_{self.used}"
        self.used += outputs
        self.nodes.append(helper.make_node(op, list(inputs), made, name, domain=domain, **how))
        return made[0] if outputs == 1 else made

    def model(self, inputs: dict[str, tuple[int, list[Any]]], *outputs: str, opset: int = 20) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes, "file",
            [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
            [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in outputs], self.stored,
        )  # fmt: skip
        versions = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=versions)


def graph_of(model: onnx.ModelProto, **how: Any) -> ModuleGraph:
    return onnx_graph(OnnxFile(Path("file.onnx"), model), **how)


def products(graph: Graph) -> int:
    return sum(one.count * flops(graph, one) for one in graph if one.kind in ("matmul", "attention"))


def by_word(graph: Graph, word: str) -> list[Any]:
    return [one for one in graph if one.name.rpartition(".")[2].partition("_")[0] == word]


def floats(*shape: Any) -> tuple[int, list[Any]]:
    return TensorProto.FLOAT, list(shape)
