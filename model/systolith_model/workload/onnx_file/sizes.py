"""Sizes of named dimensions: what a batch and a prompt make of a file's inputs."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

import onnx

PROMPT_WORDS = ("seq", "length", "token")
"""Parts of names of dimensions that the prompt sets."""


@dataclass(frozen=True)
class Sizes:
    """Sequences at once, and tokens of each."""

    batch: int
    prompt: int

    def of(self, name: str) -> int | None:
        """Size of a named dimension, or of sums and products of such; None where nothing says it.

        >>> Sizes(batch=2, prompt=16).of("past_sequence_length + sequence_length")
        16
        """
        try:
            return self._value(ast.parse(name.strip(), mode="eval").body)
        except (SyntaxError, ValueError):
            return None if set(name) & set("+*/") else self._word(name)

    def _value(self, term: ast.expr) -> int | None:
        if isinstance(term, ast.Constant) and isinstance(term.value, int):
            return term.value
        if isinstance(term, ast.BinOp) and isinstance(term.op, ast.Add | ast.Mult | ast.Sub | ast.FloorDiv):
            left, right = self._value(term.left), self._value(term.right)
            if left is None or right is None:
                raise ValueError("a part is unknown")
            if isinstance(term.op, ast.Add | ast.Sub):
                return left + right if isinstance(term.op, ast.Add) else left - right
            return left * right if isinstance(term.op, ast.Mult) else left // right
        if isinstance(term, ast.Name):
            return self._word(term.id)
        raise ValueError("no sum of names")

    def _word(self, word: str) -> int | None:
        source = source_of(word)
        return 0 if source == "past" else None if source is None else getattr(self, source)


def source_of(name: str) -> str | None:
    """Which option sets a dimension of that name; ``past`` is what went before the pass: nothing."""
    lower = name.lower()
    if "past" in lower:
        return "past"
    if "batch" in lower:
        return "batch"
    return "prompt" if any(word in lower for word in PROMPT_WORDS) else None


def outside_inputs(model: onnx.ModelProto) -> Iterator[onnx.ValueInfoProto]:
    """Inputs of the graph that are no initializers."""
    stored = {tensor.name for tensor in model.graph.initializer}
    return (info for info in model.graph.input if info.name not in stored)


def options_of(model: onnx.ModelProto) -> set[str]:
    """Options that set a dimension of an input."""
    names = {
        dim.dim_param
        for info in outside_inputs(model)
        for dim in info.type.tensor_type.shape.dim
        if not dim.HasField("dim_value")
    }
    probes = {"batch": Sizes(2, 1), "prompt": Sizes(1, 2)}
    return {
        option for option, probe in probes.items() for name in names if probe.of(name) != Sizes(1, 1).of(name)
    }
