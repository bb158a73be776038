"""Model configurations by name, each figure with its source; and the checkpoint that comes with the package.

``kjv-737k`` is a folder with weights, card and texts; the others are shapes for the cost models.
"""

from importlib import import_module
from pathlib import Path

from systolith_model.config import TransformerConfig

DEFAULT = "kjv-737k"
CHECKPOINTS = (DEFAULT,)
SHAPES = {
    "llama-2-7b": "systolith_model.zoo.llama_2_7b",
    "llama-3-8b": "systolith_model.zoo.llama_3_8b",
    "tinyllama-1.1b": "systolith_model.zoo.tinyllama_1_1b",
}


def names() -> tuple[str, ...]:
    """Names that `config_of` knows."""
    return (*CHECKPOINTS, *SHAPES)


def config_of(name: str) -> TransformerConfig:
    """Shape of a model of the zoo.

    Raises
    ------
    ValueError
        If there is no such model.
    """
    if name in CHECKPOINTS:
        return TransformerConfig.read(checkpoint_folder(name) / "config.json")
    if name not in SHAPES:
        raise ValueError(f"model must be one of {', '.join(names())}, not {name!r}")
    return import_module(SHAPES[name]).CONFIG


def checkpoint_folder(name: str = DEFAULT) -> Path:
    """Folder of a checkpoint that the package carries, for `checkpoint.load`.

    Raises
    ------
    ValueError
        If the package carries no weights of that name.
    """
    if name not in CHECKPOINTS:
        raise ValueError(f"model must be one of {', '.join(CHECKPOINTS)}, not {name!r}")
    return Path(__file__).parent / name


def calibration_text(name: str = DEFAULT) -> str:
    """Text that a checkpoint was trained on, to calibrate its quantization."""
    return (checkpoint_folder(name) / "calibration.txt").read_text(encoding="utf-8")


def held_out_text(name: str = DEFAULT) -> str:
    """Text that a checkpoint was not trained on, to measure its quality."""
    return (checkpoint_folder(name) / "heldout.txt").read_text(encoding="utf-8")
