"""`onnx_graph`: one pass of an ONNX file as a Graph."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx.inliner
from google.protobuf.message import DecodeError
from onnx import TensorProto

from systolith_model.formats import BITS, Format, Formats
from systolith_model.workload.onnx_file.contrib import complete
from systolith_model.workload.onnx_file.infer import Inferred
from systolith_model.workload.onnx_file.recorder import FLOATING, FORMATS, Recorder
from systolith_model.workload.onnx_file.rules import note
from systolith_model.workload.onnx_file.sizes import Sizes, options_of, outside_inputs
from systolith_model.workload.traced.collapse import collapsed
from systolith_model.workload.traced.named import graph_of
from systolith_model.workload.traced.result import ModuleGraph, matrices_of


@dataclass(frozen=True)
class OnnxFile:
    """A file that was read, without the data of its weights where they lie beside it."""

    path: Path
    model: onnx.ModelProto

    @classmethod
    def read(cls, path: Path) -> "OnnxFile":
        """Read a file.

        Raises
        ------
        ValueError
            If there is none, or it is not ONNX.
        """
        if not path.is_file():
            raise ValueError(f"model must be an ONNX file that can be read, not {str(path)!r}")
        try:
            model = onnx.load(path, load_external_data=False)
            if model.functions:
                model = onnx.inliner.inline_local_functions(model)
        except (DecodeError, OSError, onnx.checker.ValidationError) as error:
            words = " ".join(str(error).split())
            raise ValueError(f"model must be an ONNX file, which {str(path)!r} is not: {words}") from None
        if not model.graph.node:
            raise ValueError(f"model must be an ONNX file with nodes, not {str(path)!r}, which has none")
        return cls(path, model)

    @property
    def options(self) -> set[str]:
        """Which of ``batch`` and ``prompt`` set a dimension of an input."""
        return options_of(self.model)


def onnx_graph(file: OnnxFile, *, batch: int = 1, prompt: int = 512, formats: Formats | None = None) -> ModuleGraph:
    """What one pass of a file computes, each node a kernel.

    Dimensions of inputs with names are sized: ``batch`` those named after it, ``prompt`` those named after a
    sequence, a length or tokens, 0 those of a past. Shapes of all else follow. What depends on constants and shapes
    alone is worked out before the pass and costs nothing; so do views. Weights behind ``DequantizeLinear`` keep
    their narrow format.

    Parameters
    ----------
    formats : Formats, optional
        The file's own unless given; see `ModuleGraph.with_formats`.

    Raises
    ------
    ValueError
        In one sentence: if a dimension stays unknown, a node has branches or loops, or a format is none of a Graph.
    """
    known = Inferred(file.model, Sizes(batch, prompt))
    rec = Recorder(known)
    caches = _outside(rec)
    for node in file.model.graph.node:
        with complete(node):
            note(rec, node)
    rec.keep_to_the_end(info.name for info in file.model.graph.output)
    own = _own_format(rec)
    matrices = matrices_of(rec.values, rec.steps, own)
    found = ModuleGraph(
        graph=graph_of(file.path.stem, rec.values, collapsed(rec.values, rec.steps)), own=own,
        formats=Formats.plain(own), training=False, trained=0, **_parameters(rec, own),
        buffer_bytes=rec.buffer_bytes, cache_bytes=_cache_bytes(rec, caches),
        activation_bytes=rec.peak_bytes, state_bytes=0, matrices=matrices, tokens=_tokens(rec),
        approximated=dict(rec.approximated), nodes=True,
    )  # fmt: skip
    return found if formats is None else found.with_formats(formats)


def _outside(rec: Recorder) -> int:
    """Name the inputs; gives the bytes of caches among them."""
    caches = 0
    for info in outside_inputs(rec.known.model):
        cache = info.name.startswith("past") and rec.tensors[info.name].type in FLOATING
        rec.outside(info.name, cache=cache)
        caches += rec.bytes_of(info.name) if cache else 0
    return caches


def _own_format(rec: Recorder) -> Format:
    """The floating format that most bytes of the parameters have; of the inputs where there are none."""
    sizes: Counter[Format] = Counter()
    stored = [tensor.name for tensor in rec.known.model.graph.initializer]
    for names in (stored, [info.name for info in outside_inputs(rec.known.model)]):
        for name in names:
            if rec.tensors[name].type in FLOATING:
                numbers, parts = FORMATS[rec.tensors[name].type]
                sizes[numbers] += rec.tensors[name].elements * parts * BITS[numbers]
        if sizes:
            break
    return max(sizes, key=lambda name: sizes[name]) if sizes else "fp32"


def _parameters(rec: Recorder, own: Format) -> dict[str, int]:
    """Number and bytes of what is stored as parameters, and bytes of those in a format."""
    names = [tensor.name for tensor in rec.known.model.graph.initializer if rec.is_parameter(tensor.name)]
    return {
        "parameters": sum(rec.tensors[name].elements for name in names),
        "parameter_bytes": sum(map(rec.bytes_of, names)),
        "own_bytes": sum(rec.bytes_of(name) for name in names if rec.described(name)[0] == own),
    }


def _cache_bytes(rec: Recorder, given: int) -> int:
    """Bytes of caches: those given, or those made of them where they have grown."""
    grown = sum(
        storage.bytes
        for storage in rec.storages.values()
        if rec.values[storage.value].cache and not rec.values[storage.value].label
    )
    return max(given, grown)


def _tokens(rec: Recorder) -> int | None:
    """Elements of the first input of integers."""
    kinds = (TensorProto.INT64, TensorProto.INT32)
    integers = (info.name for info in outside_inputs(rec.known.model) if rec.tensors[info.name].type in kinds)
    first = next(integers, None)
    return None if first is None else rec.tensors[first].elements
