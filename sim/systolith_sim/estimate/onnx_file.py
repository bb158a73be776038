"""``FILE.onnx`` as a model: one pass of inference, its named dimensions sized by the batch and the prompt."""

from pathlib import Path
from typing import TYPE_CHECKING

from systolith_model.formats import Formats

if TYPE_CHECKING:
    from systolith_model.workload.onnx_file import OnnxFile
    from systolith_model.workload.traced.result import ModuleGraph

NAMED = {"batch": "batch", "prompt": "a sequence, a length or tokens"}
"""What names of dimensions speak of, by the option that sets them."""


def names_onnx(text: str) -> bool:
    """Whether a model's name is meant as an ONNX file."""
    return text.endswith(".onnx")


def load_onnx(text: str) -> "OnnxFile":
    """Read the file, without weights that lie beside it.

    Raises
    ------
    ValueError
        In one sentence: if there is no such file, it is not ONNX, or the package onnx is missing.
    """
    try:
        from systolith_model.workload.onnx_file import OnnxFile
    except ImportError as error:
        raise ValueError(f"model {text!r} needs the Python package onnx, which cannot be imported: {error}") from None
    return OnnxFile.read(Path(text))


def check_sizes(file: "OnnxFile", given: dict[str, int]) -> None:
    """Refuse sizes that no dimension of the file takes.

    Raises
    ------
    ValueError
        Names the option and the file.
    """
    for option, size in given.items():
        if option not in file.options:
            words = f"{option} must not be given for {file.path}, none of whose inputs has a dimension named after"
            raise ValueError(f"{words} {NAMED[option]}, not {size}")


def onnx_pass(file: "OnnxFile", formats: Formats | None, *, batch: int, prompt: int) -> "ModuleGraph":
    """The file's graph.

    Raises
    ------
    ValueError
        In one sentence, behind the file's name: see `onnx_graph`.
    """
    from systolith_model.workload.onnx_file import onnx_graph

    try:
        return onnx_graph(file, batch=batch, prompt=prompt, formats=formats)
    except ValueError as error:
        raise ValueError(f"model {str(file.path)!r}: {error}") from None
