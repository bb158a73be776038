"""Fitted products on GPUs into device files, the class, and the parameters without each device."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from accuracy_tables import Array, Mask, Words
from accuracy_tables.gemm import LEFT_OUT
from fit_files import LEAST_ROWS, datum, folder, restate, shortest
from fitting import Parameters
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
INSIDE = 0.92
"""Share of the fit's rows inside an interval meant for 90 % of others: sites that a fit has not seen spread more."""
FITTED, SCORED = "fitted_matmul", "scored_matmul"
ORIGIN = "GEMM tables of ai-dynamo/aiconfigurator@095f58a, by benchmarks/fit_gemm.py"
Quantized = tuple[float, QuantizedLibrary]
"""Seconds to quantize an element, and the library."""
Key = tuple[str, str]


@dataclass(frozen=True)
class Scores:
    """Regime and measured over predicted seconds of each row."""

    words: Words
    ratio: Array

    def rows(self, chosen: Mask) -> "Scores":
        """The rows that a mask chooses."""
        return Scores(self.words[chosen], self.ratio[chosen])

    @property
    def mape(self) -> float:
        """Mean of abs(predicted / measured - 1)."""
        return float(np.mean(np.abs(1 / self.ratio - 1)))


def errors(scores: Scores, form: str) -> tuple[RegimeError, ...]:
    """Intervals by regime."""
    found = []
    for word in ("launch", "memory", "compute"):
        chosen = scores.ratio[scores.words == word]
        if len(chosen) >= LEAST_ROWS:
            low, high = shortest(chosen, inside=INSIDE)
            error = {
                "operator": "matmul", "regime": word, "low": low, "high": high, "rows": len(chosen), "source": SCORED,
                "mape": round(float(np.mean(np.abs(1 / chosen - 1))), 4),
            }  # fmt: skip
            found.append(RegimeError.model_validate(error if form == "bf16" else {**error, "format": form}))
    return tuple(found)


def _formats(device: str, libraries: Mapping[Key, Quantized]) -> dict[str, FormatParameters]:
    return {
        form: FormatParameters(quantize_s_per_element=datum(step, FITTED), library=QUANTIZED[name, form])
        for (name, form), (step, _) in libraries.items()
        if name == device
    }


def write(
    fits: Mapping[str, Parameters],
    libraries: Mapping[Key, Quantized],
    found: Mapping[Key, Scores],
    outs: Mapping[str, tuple[Parameters, TileConstants]],
    ratios: Mapping[str, Scores],
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


def _pooled(ratios: Mapping[str, Scores], without: str = "") -> Scores:
    chosen = [item for name, item in ratios.items() if name != without]
    return Scores(np.concatenate([item.words for item in chosen]), np.concatenate([item.ratio for item in chosen]))


def _write_class(
    rule: Mapping[str, Parameters], libraries: Mapping[Key, Quantized], ratios: Mapping[str, Scores]
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
            *errors(_pooled(ratios), "bf16"), *(error for error in old.errors if error.operator != "matmul"),
        ),
    }  # fmt: skip
    kept = {name: getattr(old, name) for name in old.model_fields_set}
    family = type(old).model_validate({**kept, **changed})
    (folder() / "classes" / "gpu.toml").write_text(device_toml(family), "utf-8")


def _write_left_out(
    outs: Mapping[str, tuple[Parameters, TileConstants]], ratios: Mapping[str, Scores]
) -> None:
    """What other devices say of each, with the intervals of their own left-out errors."""
    content = {}
    for name, (own, constants) in outs.items():
        bounds = {error.regime: error for error in errors(_pooled(ratios, name), "bf16")}
        content[name] = {
            "machine": own, "constants": asdict(constants),
            "low": {word: error.low for word, error in bounds.items()},
            "high": {word: error.high for word, error in bounds.items()},
        }  # fmt: skip
    LEFT_OUT.write_text(json.dumps(_rounded(content), indent=1) + "\n", "utf-8")


def _rounded(item: object) -> object:
    """Figures to five digits."""
    if isinstance(item, dict):
        return {name: _rounded(part) for name, part in item.items()}
    return float(f"{item:.5g}") if isinstance(item, float) else item


def relative(device: str, fit: Mapping[str, float]) -> Parameters:
    """Parameters with the feed per operation of a unit's peak, as a class states it."""
    return {**fit, "feed_bytes_per_op": fit["feed_bytes_per_s"] / unit_peak(find_device(device))}
