"""Intervals from the rows of a fit: what errors outside of it will be, from groups of rows that stand in for new ones.

Rows come in groups (the sites of products, the head shapes of attention) whose errors go together, so that rows of a
group tell less than as many rows of their own, and a new group is what an estimate meets. A level is therefore tried
on groups left out, as in conformal prediction, and is raised until they lie inside.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from accuracy_tables import Array, Mask, Words

SHARE = 0.90
"""Share of measurements that an interval is meant to hold."""
FOLDS = 10
"""Parts that many groups are left out in; fewer groups are left out one at a time."""
LEVELS = (*np.round(np.arange(0.90, 0.995, 0.005), 3), 1.0)
"""Shares of the fit's rows that are tried, in ascending order."""
STUDENT = (6.31, 2.92, 2.35, 2.13, 2.02, 1.94, 1.89, 1.86, 1.83)
"""95 % quantile of Student's t by degrees of freedom from 1 on, one side (tables)."""
Ends = tuple[float, float]
"""Low and high factor of a prediction."""


@dataclass(frozen=True)
class Scored:
    """Rows of a fit against their prediction, as columns of equal length."""

    ratio: Array
    """Measured over predicted seconds."""
    regimes: Words
    """What the model says bounds each."""
    cases: Words
    """What else tells rows apart, as in ``RegimeError.case``."""
    groups: Words
    """Rows of one name are correlated, and new rows come with new names."""

    def rows(self, chosen: Mask) -> "Scored":
        """The rows that a mask chooses."""
        return Scored(*(getattr(self, field.name)[chosen] for field in fields(self)))

    @property
    def mape(self) -> float:
        """Mean of abs(predicted / measured - 1)."""
        return float(np.mean(np.abs(1 / self.ratio - 1)))


def together(parts: Sequence[Scored]) -> Scored:
    """Several as one."""
    return Scored(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Scored)))


def shortest(ratio: Array, level: float) -> Ends:
    """Ends of the shortest interval, in logarithm, that holds ``level`` of measured over predicted, and 1.

    Outliers stand on one side (a slow replay), where quantiles of both ends would waste width.
    """
    return _narrowest(ratio, int(np.ceil(level * (len(ratio) + 1))))


def _narrowest(ratio: Array, held: int) -> Ends:
    """The same by the number of rows that it holds, at most all."""
    ordered = np.sort(np.log(ratio))
    held = min(held, len(ordered))
    first = int((ordered[held - 1 :] - ordered[: len(ordered) - held + 1]).argmin())
    low, high = np.exp(ordered[[first, first + held - 1]])
    return float(min(low, 1.0)), float(max(high, 1.0))


def folds_of(groups: Words) -> NDArray[np.intp]:
    """Part that each row is left out with: all rows of a group together, groups dealt at random."""
    _, index = np.unique(groups, return_inverse=True)
    count = int(index.max()) + 1
    dealt = np.random.default_rng(0).permutation(count) % min(count, FOLDS)
    return dealt[index]


def held_level(ratio: Array, groups: Words, share: float = SHARE) -> float:
    """Least level whose intervals hold ``share`` of the groups they were not set on, with 95 % confidence."""
    folds = folds_of(groups)
    count = int(folds.max()) + 1
    if count == 1:
        return 1.0
    weights = np.bincount(folds) / len(folds)
    for level in LEVELS:
        inside = np.zeros(count)
        for fold in range(count):
            low, high = shortest(ratio[folds != fold], level)
            own = ratio[folds == fold]
            inside[fold] = np.mean((own >= low) & (own <= high))
        mean = float(weights @ inside)
        error = np.sqrt(weights**2 @ (inside - mean) ** 2 * count / (count - 1))
        if mean - STUDENT[count - 2] * error >= share:
            return float(level)
    return 1.0


def interval(scored: Scored) -> Ends:
    """(low, high) of measured over predicted that 90 % of the rows of other groups should lie in."""
    return shortest(scored.ratio, held_level(scored.ratio, scored.groups))


def within(scored: Scored) -> Ends:
    """(low, high) that 90 % of more rows of the same groups lie in; what new groups add must be declared beside it.

    Between rows i and j of n in ascending order lie (j - i) / (n + 1) of further ones: that is 90 % where n suffices.
    """
    return _narrowest(scored.ratio, int(np.ceil(SHARE * (len(scored.ratio) + 1))) + 1)


def mirrored(ends: Ends) -> Ends:
    """As far, in logarithm, on both sides as on the farther one: where errors belong to a device, not to its rows.

    >>> mirrored((0.9, 1.25))
    (0.8, 1.25)
    """
    farther = max(1 / ends[0], ends[1])
    return 1 / farther, farther
