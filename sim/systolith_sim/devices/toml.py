"""Devices as TOML text: one figure a line, legible enough to be corrected by hand."""

import json
from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from systolith_sim.devices.classes import DeviceClass
from systolith_sim.devices.device import Device, RegimeError
from systolith_sim.devices.figures import Datum
from systolith_sim.devices.parameters import LinkClass, LinkError


def device_toml(device: Device | DeviceClass | LinkClass) -> str:
    """The text of a device file; ``parse_device`` reads it back to an equal ``Device``."""
    lines: list[str] = []
    tables: list[tuple[str, Mapping[str, object]]] = []
    _split("", _filled(device), lines, tables)
    text = "\n".join(lines)
    for path, fields in tables:
        own: list[str] = []
        nested: list[tuple[str, Mapping[str, object]]] = []
        _split(path, fields, own, nested)
        if own:
            text += f"\n\n[{path}]\n" + "\n".join(own)
        tables.extend(nested)
    scored = {"errors": device.errors, "link_errors": device.link_errors if isinstance(device, Device) else ()}
    for name, errors in scored.items():
        for error in errors:
            lines = [f"{key} = {_value(item)}" for key, item in _filled(error).items()]
            text += f"\n\n[[{name}]]\n" + "\n".join(lines)
    return text + "\n"


def _filled(model: BaseModel) -> dict[str, object]:
    """Fields that differ from their default, in the order of the class."""
    return {
        name: getattr(model, name)
        for name in type(model).model_fields
        if name in model.model_fields_set and getattr(model, name) is not None
    }


def _split(
    path: str, fields: Mapping[str, object], lines: list[str], tables: list[tuple[str, Mapping[str, object]]]
) -> None:
    """Sort fields into lines of this table and tables below it."""
    for key, item in fields.items():
        name = _key(key)
        below = f"{path}.{name}" if path else name
        if isinstance(item, Datum):
            body = ", ".join(f"{part} = {_value(value)}" for part, value in _filled(item).items())
            lines.append(f"{name} = {{ {body} }}")
        elif isinstance(item, BaseModel):
            tables.append((below, _filled(item)))
        elif isinstance(item, dict):
            tables.append((below, item))
        elif not (isinstance(item, tuple) and item and isinstance(item[0], RegimeError | LinkError)):
            lines.append(f"{name} = {_value(item)}")


def _key(name: str) -> str:
    plain = name.replace("-", "").replace("_", "")
    return name if plain.isascii() and plain.isalnum() else json.dumps(name)


def _value(item: object) -> str:
    if isinstance(item, bool):
        return str(item).lower()
    if isinstance(item, float):
        return _float(item)
    if isinstance(item, tuple | list):
        return "[" + ", ".join(_parts(item)) + "]"
    return json.dumps(item, ensure_ascii=False)


def _parts(items: tuple[object, ...] | list[object]) -> Iterator[str]:
    return (_value(item) for item in items)


def _float(value: float) -> str:
    """Shortest text that reads back exactly, and is a TOML float."""
    text = repr(value)
    if "e" in text:
        mantissa, exponent = text.split("e")
        return f"{mantissa}e{int(exponent)}"
    whole = text.removesuffix(".0")
    if text.endswith(".0") and len(whole) > 6:
        digits = whole.rstrip("0")
        exponent = len(whole) - 1
        mantissa = digits[0] + ("." + digits[1:] if len(digits) > 1 else ".0")
        return f"{mantissa}e{exponent}"
    return text
