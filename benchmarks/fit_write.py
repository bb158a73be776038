"""Write fitted parameters and scored errors into the device files, the classes and the docs table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from systolith_sim.devices.classes import DeviceClass, class_of
from systolith_sim.devices.device import (
    Device,
    KernelParameters,
    Operator,
    Regime,
    RegimeError,
)
from systolith_sim.devices.figures import Datum
from systolith_sim.devices.library import find_device, write_device
from systolith_sim.devices.toml import device_toml

if TYPE_CHECKING:
    from fit_devices import Parameters, Scored

FITTED = "fitted"
ORIGIN = {
    "matmul": "GEMM tables of ai-dynamo/aiconfigurator@095f58a",
    "tpu": "TPU v6e layers of casys-kaist/LLMServingSim@5daddb2",
}
REGIMES: tuple[Regime, ...] = ("launch", "memory", "compute")
LEAST_ROWS = 20
"""A regime with fewer scored rows takes the interval of its operator as a whole."""
FEED = "not separable in these rows; stands for the scratchpad's bandwidth of one array"
DOCS = Path(__file__).resolve().parents[1] / "docs" / "reference" / "kernel-cost-accuracy.md"


def table(scores: Sequence[Scored]) -> str:
    """Accuracy as a Markdown table, one line a device, operation and regime."""
    head = (
        "| device | operation | fitted on | regime | rows "
        "| MAPE | median | bias | 5 % .. 95 % | roofline MAPE |\n"
        "|---|---|---|---|---|---|---|---|---|---|\n"
    )
    return head + "\n".join(line for score in scores for line in _lines(score))


def _lines(score: Scored) -> list[str]:
    lines = []
    for regime in ("all", *REGIMES):
        chosen = np.ones(len(score.measured), bool) if regime == "all" else score.regimes == regime
        if not chosen.any():
            continue
        off = score.ratio[chosen] - 1
        bare = score.roofline[chosen] / score.measured[chosen] - 1
        low, high = np.quantile(score.ratio[chosen], (0.05, 0.95))
        lines.append(
            f"| {score.device} | {score.operator} | {score.fitted_on} | {regime} | {chosen.sum()} "
            f"| {np.mean(np.abs(off)):.1%} | {np.median(np.abs(off)):.1%} | {np.median(off):+.1%} "
            f"| {low:.2f} .. {high:.2f} | {np.mean(np.abs(bare)):.0%} |"
        )
    return lines


def errors(scores: Sequence[Scored], *, widen: float = 1.0) -> tuple[RegimeError, ...]:
    """Quantiles of measured over predicted per operator and regime; ``widen`` is an exponent."""
    found: list[RegimeError] = []
    groups: dict[str, list[Scored]] = {}
    for score in scores:
        groups.setdefault(score.operator.split()[0], []).append(score)
    for operator, group in groups.items():
        truth = np.concatenate([1 / score.ratio for score in group])
        regimes = np.concatenate([score.regimes for score in group])
        for regime in REGIMES:
            chosen = truth[regimes == regime]
            if len(chosen) < LEAST_ROWS:
                continue
            low, high = np.quantile(chosen, (0.05, 0.95)) ** widen
            found.append(
                RegimeError(
                    operator=cast(Operator, operator), regime=regime, rows=len(chosen),
                    source=f"scored_{operator}",
                    low=round(float(min(low, 1.0)), 3), high=round(float(max(high, 1.0)), 3),
                    mape=round(float(np.mean(np.abs(1 / chosen - 1))), 4),
                )
            )  # fmt: skip
    return tuple(found)


def _datum(value: float, confidence: Literal["derived", "recalled"] = "derived", note: str = "") -> Datum:
    fields = {"value": float(f"{value:.4g}"), "source": FITTED, "confidence": confidence}
    return Datum.model_validate({**fields, "note": note} if note else fields)


def _kernel(gemm: Parameters, old: KernelParameters | None) -> KernelParameters:
    """Fitted parameters; what other scripts fitted (attention, streaming) stays."""
    kept = {} if old is None else {name: getattr(old, name) for name in old.model_fields_set}
    return KernelParameters.model_validate({**kept, **{name: _datum(value) for name, value in gemm.items()}})


def _sources(old: Mapping[str, str], origins: Sequence[str]) -> dict[str, str]:
    rows = "; ".join(ORIGIN[name] for name in origins)
    kept = {key: text for key, text in old.items() if key not in (FITTED, "scored_matmul")}
    scored = {
        f"scored_{'matmul' if name == 'tpu' else name}": f"scored on unseen rows of {ORIGIN[name]}" for name in origins
    }
    return {**kept, FITTED: f"benchmarks/fit_devices.py on {rows}", **scored}


def _folder() -> Path:
    return Path(str(resources.files("systolith_sim.devices") / "data"))


def _update(device: Device, kernel: KernelParameters, found: tuple[RegimeError, ...], origins: Sequence[str]) -> None:
    others = tuple(error for error in device.errors if error.operator != "matmul")
    sources = _sources(device.sources, origins)
    fields = {"kernel": kernel, "errors": (*found, *others), "sources": sources}
    changed = Device.model_validate({**{name: getattr(device, name) for name in device.model_fields_set}, **fields})
    write_device(changed, _folder() / f"{device.id}.toml")


def write(
    gemms: Mapping[str, Parameters],
    tpu: Parameters,
    family: Parameters,
    scores: Sequence[Scored],
    left_out: Sequence[Scored],
) -> None:
    """Update every device file that was fitted, the GPU and TPU classes, and the docs table."""
    by_device = {name: [score for score in scores if score.device == name] for name in (*gemms, "tpu-v6e")}
    for name, gemm in gemms.items():
        device = find_device(name)
        _update(device, _kernel(gemm, device.kernel), errors(by_device[name]), ["matmul"])
    v6e = {**tpu, "feed_bytes_per_s": 22 * 1.64e12 / 2, "k_step_s": 0.0}
    _update(find_device("tpu-v6e"), _kernel(v6e, None), errors(by_device["tpu-v6e"]), ["tpu"])
    _write_class("gpu", _gpu_class(family, errors(left_out)))
    _write_class("tpu", _tpu_class(tpu, errors(by_device["tpu-v6e"], widen=2.0)))
    _write_docs(scores, left_out)


def _gpu_class(family: Parameters, found: tuple[RegimeError, ...]) -> DeviceClass:
    """The class with its products fitted anew; what other scripts fitted stays."""
    old = class_of("gpu")
    others = tuple(error for error in old.errors if error.operator != "matmul")
    scored = {"scored_matmul": f"each of four GPUs predicted from the other three, {ORIGIN['matmul']}"}
    changed = {
        "sources": _sources(old.sources, ["matmul"]) | scored,
        "launch_s": _datum(family["launch_s"]), "compute_efficiency": _datum(family["compute_efficiency"]),
        "memory_efficiency": _datum(family["memory_efficiency"]),
        "feed_bytes_per_op": _datum(family["feed_bytes_per_s"]), "k_step_ops": _datum(family["k_step_s"]),
        "errors": (*found, *others),
    }  # fmt: skip
    kept = {name: getattr(old, name) for name in old.model_fields_set}
    return DeviceClass.model_validate({**kept, **changed})


def _tpu_class(tpu: Parameters, found: tuple[RegimeError, ...]) -> DeviceClass:
    return DeviceClass(
        kind="tpu",
        sources=_sources({}, ("tpu",))
        | {"scored_matmul": f"twice the spread, in logarithm, of the one TPU measured, {ORIGIN['tpu']}"},
        launch_s=_datum(tpu["launch_s"]), compute_efficiency=_datum(tpu["compute_efficiency"]),
        memory_efficiency=_datum(tpu["memory_efficiency"]),
        feed_bytes_per_op=_datum(0.04, note=FEED), errors=found,
    )  # fmt: skip


def _write_class(kind: str, family: DeviceClass) -> None:
    (_folder() / "classes" / f"{kind}.toml").write_text(device_toml(family), "utf-8")


def _write_docs(scores: Sequence[Scored], left_out: Sequence[Scored]) -> None:
    """Replace the tables between the markers; the prose around them is written by hand."""
    text = DOCS.read_text("utf-8")
    for name, part in (("own", table(scores)), ("class", table(left_out))):
        start, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        before, rest = text.split(start)
        text = f"{before}{start}\n{part}\n{end}{rest.split(end)[1]}"
    DOCS.write_text(text, "utf-8")
