"""The devices there are: packaged files, a user's own folder, or a file by its path."""

import os
import tomllib
from difflib import SequenceMatcher
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from pydantic import ValidationError

from systolith_sim.devices.device import Device
from systolith_sim.devices.figures import tuples
from systolith_sim.devices.toml import device_toml

LIKE = 0.8
"""Least likeness of a name that is offered for one that is unknown: common letters, and a tenth a common first one."""


class DeviceError(ValueError):
    """A device that does not exist or cannot be read; the message is one sentence for the user."""


def user_folder() -> Path:
    """Where calibration writes and where a user's own device files are found, besides the packaged ones.

    ``SYSTOLITH_DEVICES``, else ``systolith/devices`` in ``XDG_CACHE_HOME`` or ``~/.cache``.
    """
    if chosen := os.environ.get("SYSTOLITH_DEVICES"):
        return Path(chosen)
    cache_home = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache_home) if cache_home else Path.home() / ".cache") / "systolith" / "devices"


def use_folder(folder: Path | None) -> None:
    """Take a user's own device files from ``folder``, in this process and those it starts.

    Raises
    ------
    DeviceError
        If it is not a folder.
    """
    if folder is None:
        return
    if not folder.is_dir():
        raise DeviceError(f"devices-dir must be a folder that exists, not {folder}")
    os.environ["SYSTOLITH_DEVICES"] = str(folder)


def load_device(path: Path) -> Device:
    """A device from a file.

    Raises
    ------
    DeviceError
        If the file cannot be read, is no TOML, or holds a wrong field: names field, value, what is allowed.
    """
    try:
        return parse_device(path.read_text("utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise DeviceError(f"device file {path}: {error}") from None


def parse_device(text: str, origin: str) -> Device:
    """A device from the text of its file; ``origin`` names it in errors (see ``load_device``)."""
    try:
        return Device.model_validate(tuples(tomllib.loads(text)))
    except tomllib.TOMLDecodeError as error:
        raise DeviceError(f"device file {origin}: not TOML: {error}") from None
    except ValidationError as error:
        raise DeviceError(f"device file {origin}: {_sentence(error)}") from None


def write_device(device: Device, path: Path) -> None:
    """Write a device file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(device_toml(device), "utf-8")
    partial.replace(path)


def device_names() -> list[str]:
    """Ids of the packaged devices and of those in the user's folder, sorted."""
    return sorted({*(path.stem for path in user_folder().glob("*.toml")), *_packaged_names()})


def find_device(name: str) -> Device:
    """A device by id, alias, or path of its file; a user's own file comes before a packaged one.

    Raises
    ------
    DeviceError
        If there is none: the sentence names the ones that are spelled like it.
    """
    if name.endswith(".toml") or "/" in name:
        return load_device(Path(name))
    wanted = name.lower()
    own = sorted(user_folder().glob("*.toml"))
    for path in own:
        if path.stem.lower() == wanted:
            return load_device(path)
    if (device := _packaged(wanted)) is not None:
        return device
    for path in own:
        if wanted in (alias.lower() for alias in load_device(path).aliases):
            return load_device(path)
    raise DeviceError(_unknown(name))


def _unknown(name: str) -> str:
    known = device_names()
    given, every = name.lower(), [*known, *_aliases()]

    def likeness(other: str) -> float:
        common = next((place for place, pair in enumerate(zip(given, other, strict=False)) if len(set(pair)) > 1),
                      min(len(given), len(other)))  # fmt: skip
        return SequenceMatcher(None, given, other).ratio() + common / 10

    matches = sorted((other for other in every if likeness(other) > LIKE), key=likeness, reverse=True)
    close = list(dict.fromkeys(_aliases().get(match, match) for match in matches))
    near = f"spelled like it: {', '.join(close[:4])}; " if close else ""
    hint = "; `systolith calibrate` makes local-cpu" if name.startswith("local") else ""
    listed = f"`systolith devices` lists all {len(known)}, and a .toml file of your own will do"
    return f"device {name!r} is unknown: {near}{listed}{hint}"


def _folder() -> Traversable:
    return resources.files("systolith_sim.devices") / "data"


@cache
def _packaged_names() -> tuple[str, ...]:
    return tuple(sorted(item.name[:-5] for item in _folder().iterdir() if item.name.endswith(".toml")))


@cache
def _aliases() -> dict[str, str]:
    """Alias -> id of the packaged devices."""
    files = {name: tomllib.loads(_text(name)) for name in _packaged_names()}
    return {alias: name for name, fields in files.items() for alias in fields.get("aliases", ())}


def _text(name: str) -> str:
    return (_folder() / f"{name}.toml").read_text("utf-8")


@cache
def _packaged(name: str) -> Device | None:
    """By id or alias; only the file that is asked for is checked, which takes a few milliseconds."""
    if name in _packaged_names():
        return parse_device(_text(name), f"{name}.toml")
    return _packaged(_aliases()[name]) if name in _aliases() else None


def _sentence(error: ValidationError) -> str:
    """The first problem: field, what is allowed, what was given."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or "file"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "missing":
        return f"{field}: missing, but required{more}"
    if first["type"] == "extra_forbidden":
        return f"{field}: no such field{more}"
    given = "" if isinstance(first["input"], dict) else f", not {first['input']!r}"
    message = first["msg"].removeprefix("Value error, ")
    return f"{field}: {message}{given}{more}"
