"""Fitted products on GPUs into device files, the class, and the parameters without each device."""

import json
from collections.abc import Mapping
from dataclasses import asdict

from accuracy_tables.gemm import LEFT_OUT
from fit_files import datum, folder, regime_errors, restate, widest
from fitting import Parameters
from intervals import Scored, mirrored, within
from systolith_sim.devices.classes import UnitParameters, class_of, unit_peak
from systolith_sim.devices.device import FormatParameters, KernelParameters, RegimeError
from systolith_sim.devices.library import find_device
from systolith_sim.devices.quantized import QuantizedLibrary
from systolith_sim.devices.tiles import TileConstants
from systolith_sim.devices.toml import device_toml

QUANTIZED = {
    ("h100-sxm", "fp8"): "vllm-0.14-fp8", ("h100-sxm", "fp8_block"): "vllm-0.14-fp8-block",
    ("h200", "fp8_block"): "vllm-0.22-fp8-block",
}  # fmt: skip
"""Library of each device and format that was measured."""
NEWEST = ("h200", "fp8_block")
"""What a device nobody measured is taken to run in 8 bits."""
LEAST = 250
"""Least rows of an interval: outliers of these tables are one in fifty, and up to four times as long."""
FITTED, SCORED = "fitted_matmul", "scored_matmul"
ORIGIN = "GEMM tables of ai-dynamo/aiconfigurator@095f58a, by benchmarks/fit_gemm.py"
Quantized = tuple[float, QuantizedLibrary]
"""Seconds to quantize an element, and the library."""
Key = tuple[str, str]


def errors(scored: Scored, form: str) -> tuple[RegimeError, ...]:
    """Intervals of a device by regime and heat of the weights, from sites that stand in for others."""
    return regime_errors("matmul", scored, SCORED, form="" if form == "bf16" else form, least=LEAST)


def others(ratios: Mapping[str, Scored], without: str = "") -> tuple[RegimeError, ...]:
    """Intervals of a device that nobody measured: the widest that each of n measured ones needed when left out.

    Both ways, as a few devices do not tell on which side a new one stands, and widened by sqrt(1 + 1 / n), as a new
    draw deviates from the mean of n by so much more than each from the truth.
    """
    known = [item for name, item in ratios.items() if name != without]
    wider = (1 + 1 / len(known)) ** 0.5
    return widest(
        regime_errors("matmul", item, SCORED, widen=wider, least=LEAST, ends=lambda rows: mirrored(within(rows)))
        for item in known
    )


def _formats(device: str, libraries: Mapping[Key, Quantized]) -> dict[str, FormatParameters]:
    return {
        form: FormatParameters(quantize_s_per_element=datum(step, FITTED), library=QUANTIZED[name, form])
        for (name, form), (step, _) in libraries.items()
        if name == device
    }


def write(
    fits: Mapping[str, Parameters],
    libraries: Mapping[Key, Quantized],
    found: Mapping[Key, Scored],
    outs: Mapping[str, tuple[Parameters, TileConstants]],
    ratios: Mapping[str, Scored],
    rule: Mapping[str, Parameters],
) -> None:
    """Update device files, the GPU class and the parameters without each device."""
    sources = {FITTED: ORIGIN, SCORED: f"sites of the fit, {ORIGIN}"}
    for name, fit in fits.items():
        device = find_device(name)
        assert device.kernel is not None  # packaged data
        kept = {field: getattr(device.kernel, field) for field in device.kernel.model_fields_set}
        own = {field: datum(value, FITTED) for field, value in fit.items()}
        kernel = KernelParameters.model_validate({**kept, **own, "formats": _formats(name, libraries)})
        new = [error for (other, form), item in found.items() if other == name for error in errors(item, form)]
        old = [error for error in device.errors if error.operator != "matmul"]
        restate(device, sources, kernel=kernel, errors=(*new, *old))
    _write_class(rule, libraries, ratios)
    _write_left_out(outs, ratios)


def _write_class(
    rule: Mapping[str, Parameters], libraries: Mapping[Key, Quantized], ratios: Mapping[str, Scored]
) -> None:
    """The class: launch and compute efficiency of all, the rest by kind of unit."""
    old = class_of("gpu")
    narrow, wide = rule["narrow"], rule["wide"]
    scored = f"each of four GPUs predicted from the other three, {ORIGIN}"
    changed = {
        "sources": {**old.sources, FITTED: ORIGIN, SCORED: scored},
        "launch_s": datum(narrow["launch_s"], FITTED),
        "compute_efficiency": datum(narrow["compute_efficiency"], FITTED),
        "memory_efficiency": datum(narrow["memory_efficiency"], FITTED),
        "feed_bytes_per_op": datum(narrow["feed_bytes_per_op"], FITTED),
        "k_step_s": datum(narrow["k_step_s"], FITTED),
        "clock_hz": datum(narrow["clock_hz"], FITTED),
        "latency_exponent": datum(narrow["latency_exponent"], FITTED),
        "wide": UnitParameters(
            memory_efficiency=datum(wide["memory_efficiency"], FITTED), k_step_s=datum(wide["k_step_s"], FITTED),
            feed_bytes_per_op=datum(wide["feed_bytes_per_op"], FITTED),
        ),
        "formats": {
            form: FormatParameters(
                quantize_s_per_element=datum(libraries[NEWEST][0], FITTED), library=QUANTIZED[NEWEST]
            )
            for form in ("fp8",)
        },
        "errors": (
            *others(ratios), *(error for error in old.errors if error.operator != "matmul"),
        ),
    }  # fmt: skip
    kept = {name: getattr(old, name) for name in old.model_fields_set}
    family = type(old).model_validate({**kept, **changed})
    (folder() / "classes" / "gpu.toml").write_text(device_toml(family), "utf-8")


def _write_left_out(
    outs: Mapping[str, tuple[Parameters, TileConstants]], ratios: Mapping[str, Scored]
) -> None:
    """What other devices say of each, with the intervals of their own left-out errors."""
    content = {}
    for name, (own, constants) in outs.items():
        content[name] = {
            "machine": own, "constants": asdict(constants),
            "errors": [error.model_dump(exclude_defaults=True) for error in others(ratios, name)],
        }  # fmt: skip
    LEFT_OUT.write_text(json.dumps(_rounded(content), indent=1) + "\n", "utf-8")


def _rounded(item: object) -> object:
    """Figures to five digits."""
    if isinstance(item, dict):
        return {name: _rounded(part) for name, part in item.items()}
    if isinstance(item, list):
        return [_rounded(part) for part in item]
    return float(f"{item:.5g}") if isinstance(item, float) else item


def relative(device: str, fit: Mapping[str, float]) -> Parameters:
    """Parameters with the feed per operation of a unit's peak, as a class states it."""
    return {**fit, "feed_bytes_per_op": fit["feed_bytes_per_s"] / unit_peak(find_device(device))}
