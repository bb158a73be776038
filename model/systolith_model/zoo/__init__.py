"""Architectures by name, each with its source; and the checkpoint that comes with the package.

``kjv-737k`` is a folder with weights, card and texts; the others are shapes for the cost models, in
``models.json``. ``parameters`` there is the exact count in the safetensors metadata of the repository, or what
the paper counts; ``rounded_parameters`` what the publisher rounds it to. A chunk of Llama 4 is described as a
window of the same length.
"""

import json
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from systolith_model.architecture import Architecture
from systolith_model.huggingface import read_architecture

DEFAULT = "kjv-737k"
CHECKPOINTS = (DEFAULT,)

VARIANTS = ("-hf", "-instruct", "-chat", "-it", "-base")
"""Endings of repository names that do not change the shape."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A model of the zoo, and where its figures come from."""

    name: str
    hf_id: str | None
    """Repository on Hugging Face."""
    source: str
    """Where the sizes come from."""
    confidence: str
    """``read`` in the source, or ``recalled``; an exact count that agrees confirms either."""
    parameters: int | None
    """Published count, exact."""
    rounded_parameters: int | None
    """Published count, rounded."""
    rounded_active_parameters: int | None
    """Published count of the parameters a token uses, rounded."""
    architecture: Architecture


@cache
def _file() -> dict[str, Any]:
    return json.loads((Path(__file__).parent / "models.json").read_bytes())


@cache
def _index() -> dict[str, int]:
    """Lower-case name, repository, or the repository's last part -> place in the file; names go first."""
    index: dict[str, int] = {}
    models = _file()["models"]
    for place, record in enumerate(models):
        index[record["name"]] = place
    for place, record in enumerate(models):
        repository = record.get("hf_id", "").lower()
        for alias in (repository, repository.rpartition("/")[2]):
            if alias:
                index.setdefault(alias, place)
    return index


def names() -> tuple[str, ...]:
    """Names of all models, the checkpoint's first."""
    return (*CHECKPOINTS, *(record["name"] for record in _file()["models"]))


def entry(name: str) -> Entry:
    """A model of ``models.json`` by its name or its repository, upper or lower case.

    Raises
    ------
    ValueError
        If there is no such model.
    """
    wanted, index = name.lower(), _index()
    if wanted not in index:
        for ending in VARIANTS:
            wanted = wanted.removesuffix(ending)
    if wanted not in index:
        near = [known for known in names() if wanted in known][:3] or get_close_matches(wanted, names(), n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"model must be one of {', '.join(names())}, a folder, or a config.json, not {name!r}{hint}")
    record = _file()["models"][index[wanted]]
    return Entry(
        name=record["name"],
        hf_id=record.get("hf_id"),
        source=_file()["sources"][record["source"]],
        confidence=record["confidence"],
        parameters=record.get("parameters"),
        rounded_parameters=record.get("rounded_parameters"),
        rounded_active_parameters=record.get("rounded_active_parameters"),
        architecture=Architecture.model_validate_json(json.dumps(record["architecture"])),
    )


def architecture(model: str) -> Architecture:
    """Shape of a model: a name of the zoo, a repository, a Hugging Face folder, or a config.json.

    Raises
    ------
    ValueError
        If there is no such model, or the file describes none.
    OSError
        If the file cannot be read.
    """
    if model in CHECKPOINTS:
        return read_architecture(checkpoint_folder(model))
    if model.lower() not in _index() and (path := Path(model)).exists():
        return read_architecture(path)
    return entry(model).architecture


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
