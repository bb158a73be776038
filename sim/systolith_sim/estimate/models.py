"""Models by name, folder or config.json, and what estimates need of them."""

from dataclasses import dataclass, replace
from pathlib import Path

from systolith_model.config import TransformerConfig
from systolith_model.graph import Graph
from systolith_model.workload import decoder_graph
from systolith_model.zoo import config_of
from systolith_sim.estimate.request import Formats


@dataclass(frozen=True)
class Model:
    """A model's shape under the name it was asked for."""

    name: str
    config: TransformerConfig

    @property
    def n_layers(self) -> int:
        """Layers, which pipeline stages share."""
        return self.config.n_layers

    @property
    def n_heads(self) -> int:
        """Query heads, which a tensor parallel group shares."""
        return self.config.n_heads

    def check_length(self, length: int) -> None:
        """Refuse sequences longer than the model's positions.

        Raises
        ------
        ValueError
            Names both.
        """
        if length > self.config.max_positions:
            raise ValueError(
                f"prompt + generate must be <= {self.config.max_positions} positions of {self.name}, not {length}"
            )

    def graph(self, *, batch: int, tokens: int, context: int, formats: Formats) -> Graph:
        """One forward pass."""
        return decoder_graph(
            self.config,
            tokens=tokens,
            batch=batch,
            context=context,
            format=formats.activations,
            weight_format=formats.weights,
        )

    def with_config(self, config: TransformerConfig) -> "Model":
        """Another shape under the same name."""
        return replace(self, config=config)


def find_model(name: str) -> Model:
    """A model of the zoo, a folder with a config.json, or such a file.

    Raises
    ------
    ValueError
        If there is none, or the file is no model.
    OSError
        If a file cannot be read.
    """
    path = Path(name)
    if path.is_dir():
        path = path / "config.json"
    if path.suffix == ".json" or "/" in name:
        return Model(path.parent.name or name, TransformerConfig.read(path))
    return Model(name, config_of(name))
