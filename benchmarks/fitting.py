"""What the fits share: their command line, and least absolute deviations of positive parameters.

Gauss-Newton on reweighted squares, or coordinate descent.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Parameters = dict[str, float]
Residuals = Callable[[Mapping[str, float]], Array]
SOFT = 0.03
"""Deviations below this, in logarithm, count by their square."""
STEP = 0.01
"""Of the finite differences, in logarithm."""
LONGEST = 0.7
"""Longest step of a parameter, in logarithm."""


def arguments(description: str | None, *, write: str = "", shared: str = "") -> argparse.Namespace:
    """The command line of a fit: ``--data``, and the switches ``--write`` and ``--shared`` where they have a help."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of measured rows")
    for switch, text in (("--write", write), ("--shared", shared)):
        if text:
            parser.add_argument(switch, action="store_true", help=text)
    return parser.parse_args()


def fit(
    parts: Mapping[str, Residuals],
    start: Mapping[str, float],
    own: Mapping[str, Sequence[str]],
    *,
    rounds: int = 12,
) -> Parameters:
    """Parameters that minimize the mean absolute residual of each part, summed over parts.

    Parameters
    ----------
    parts : mapping
        By name, a function from all parameters to residuals: logarithms of predicted over measured.
    own : mapping
        By parameter, the parts it matters to; a parameter that is absent matters to all.
    """
    names, damping = list(start), 0.1
    place = np.log([start[name] for name in names])
    found = {part: residuals(_named(names, place)) for part, residuals in parts.items()}
    loss = _loss(found)
    for _ in range(rounds):
        curvature, slope = _normal(parts, names, place, found, own)
        diagonal = np.diag(curvature)
        for _ in range(6):
            ridge = damping * np.diag(diagonal) + (1e-6 * diagonal.mean() + 1e-12) * np.eye(len(names))
            trial = place + np.clip(-np.linalg.solve(curvature + ridge, slope), -LONGEST, LONGEST)
            tried = {part: residuals(_named(names, trial)) for part, residuals in parts.items()}
            if (new := _loss(tried)) < loss - 1e-6:
                break
            damping = min(4 * damping + 1e-3, 1e4)
        else:
            break
        gain, place, found, loss, damping = loss - new, trial, tried, new, max(damping / 4, 1e-4)
        if gain < 1e-4 * loss:
            break
    return _named(names, place)


def _named(names: Sequence[str], place: Array) -> Parameters:
    return {name: float(value) for name, value in zip(names, np.exp(place), strict=True)}


def _loss(found: Mapping[str, Array]) -> float:
    return float(sum(np.mean(np.sqrt(part**2 + SOFT**2) - SOFT) for part in found.values()))


def _normal(
    parts: Mapping[str, Residuals],
    names: Sequence[str],
    place: Array,
    found: Mapping[str, Array],
    own: Mapping[str, Sequence[str]],
) -> tuple[Array, Array]:
    """Weighted normal equations, every part with the same total weight."""
    curvature, slope = np.zeros((len(names), len(names))), np.zeros(len(names))
    moved = [place + STEP * (np.arange(len(names)) == index) for index in range(len(names))]
    for part, residuals in parts.items():
        base = found[part]
        jacobian = np.zeros((len(base), len(names)))
        for index, name in enumerate(names):
            if part in own.get(name, (part,)):
                jacobian[:, index] = (residuals(_named(names, moved[index])) - base) / STEP
        weights = 1 / np.sqrt(base**2 + SOFT**2) / len(base)
        curvature += jacobian.T @ (jacobian * weights[:, None])
        slope += jacobian.T @ (weights * base)
    return curvature, slope


def descend(loss: Callable[[Parameters], float], start: Mapping[str, float]) -> Parameters:
    """Coordinate descent over logarithms: a few positive parameters need no more."""
    best, value = dict(start), loss(dict(start))
    for step in (0.2, 0.05, 0.02, 0.01):
        for _ in range(6):
            before = value
            for name in best:
                for factor in (np.exp(step), np.exp(-step)):
                    while (trial := loss({**best, name: best[name] * factor})) < value - 1e-6:
                        best, value = {**best, name: float(best[name] * factor)}, trial
            if value == before:
                break
    return best


def distance(predicted: Array, measured: Array) -> float:
    """Mean of abs(log(predicted / measured)): over and under by one factor weigh the same."""
    return float(np.mean(np.abs(np.log(predicted / measured))))
