"""The devices there are: packaged files, a user's own folder, or a file by its path."""

import os
import tomllib
from functools import cache
from importlib import resources
from pathlib import Path

from pydantic import ValidationError

from systolith_sim.devices.device import Device
from systolith_sim.devices.figures import tuples
from systolith_sim.devices.toml import device_toml


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
    return sorted({*(path.stem for path in user_folder().glob("*.toml")), *_packaged()})


def find_device(name: str) -> Device:
    """A device by id, alias, or path of its file; a user's own file comes before a packaged one.

    Raises
    ------
    DeviceError
        If there is none: the sentence lists the names there are.
    """
    if name.endswith(".toml") or "/" in name:
        return load_device(Path(name))
    own = user_folder() / f"{name}.toml"
    if own.is_file():
        return load_device(own)
    packaged = _packaged()
    if name in packaged:
        return packaged[name]
    for device in packaged.values():
        if name in device.aliases:
            return device
    hint = "; `systolith calibrate` makes local-cpu" if name.startswith("local") else ""
    raise DeviceError(
        f"device {name!r} is unknown: allowed are {', '.join(device_names())}, or a .toml file{hint}"
    )


@cache
def _packaged() -> dict[str, Device]:
    folder = resources.files("systolith_sim.devices") / "data"
    files = sorted(
        (item for item in folder.iterdir() if item.name.endswith(".toml")), key=lambda item: item.name
    )
    devices = (parse_device(item.read_text("utf-8"), item.name) for item in files)
    return {device.id: device for device in devices}


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
