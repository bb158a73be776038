"""Models by name, folder or config.json, and the graphs of their passes."""

from dataclasses import dataclass, replace

from systolith_model.architecture import Architecture
from systolith_model.formats import Formats
from systolith_model.graph import Graph
from systolith_model.workload import forward_graph
from systolith_model.zoo import architecture
from systolith_sim.estimate.module_file import names_module
from systolith_sim.estimate.onnx_file import names_onnx


@dataclass(frozen=True)
class Model:
    """A model's shape under the name it was asked for."""

    name: str
    shape: Architecture

    @property
    def n_layers(self) -> int:
        """Layers of all stacks, which pipeline stages share."""
        return self.shape.n_layers + self.shape.n_encoder_layers

    @property
    def n_heads(self) -> int:
        """Query heads, which a tensor parallel group shares."""
        return self.shape.n_heads

    @property
    def n_experts(self) -> int:
        """Routed experts of a layer; 0 for a dense model."""
        return self.shape.experts.n_experts if self.shape.experts else 0

    @property
    def generates(self) -> bool:
        """Whether tokens are generated one by one; an encoder has one pass alone."""
        return self.shape.kind != "encoder"

    def check(self, prompt: int, generate: int) -> None:
        """Refuse a request longer than the model's positions.

        Raises
        ------
        ValueError
            Names both.
        """
        shape = self.shape
        if shape.patches is not None:
            if prompt != shape.patches.count + 1:
                raise ValueError(f"prompt must be the {shape.patches.count + 1} patches of {self.name}, not {prompt}")
            return
        length = {"decoder": prompt + generate, "encoder": prompt, "encoder_decoder": generate}[shape.kind]
        if length > shape.max_positions:
            words = {"decoder": "prompt + generate", "encoder": "prompt", "encoder_decoder": "generate"}[shape.kind]
            raise ValueError(f"{words} must be <= {shape.max_positions} positions of {self.name}, not {length}")

    def prefill(self, *, batch: int, prompt: int, formats: Formats, fused: bool) -> Graph:
        """The pass over the prompts, up to the first token of each."""
        both = self.shape.kind == "encoder_decoder"
        return forward_graph(
            self.shape, tokens=1 if both else prompt, source=prompt if both else 0, batch=batch, formats=formats,
            fused=fused,
        )  # fmt: skip

    def step(self, *, batch: int, prompt: int, done: int, formats: Formats, fused: bool) -> Graph:
        """The pass for one more token of each sequence behind ``done`` generated ones, at least 1."""
        both = self.shape.kind == "encoder_decoder"
        return forward_graph(
            self.shape, tokens=1, context=done if both else prompt + done - 1, source=prompt if both else 0,
            batch=batch, formats=formats, fused=fused,
        )  # fmt: skip

    def with_shape(self, shape: Architecture) -> "Model":
        """Another shape under the same name."""
        return replace(self, shape=shape)


def find_model(name: str) -> Model:
    """A model of the zoo, a repository's name, a folder with a config.json, or such a file.

    Raises
    ------
    ValueError
        If there is none, or the file is no model or cannot be read.
    """
    if names_module(name):
        raise ValueError(f"model must be one that prompts and tokens can be asked of, not the module {name!r}")
    if names_onnx(name):
        raise ValueError(f"model must be one that prompts and tokens can be asked of, not the ONNX file {name!r}")
    try:
        return Model(name, architecture(name))
    except OSError as error:
        raise ValueError(f"model must be a file that can be read, not {name}: {error.strerror}") from None
