"""Tables of measurements that the cost models are scored on: one module a kind, found by ``accuracy.py``.

A module here holds ``TABLES``, a tuple of objects that follow ``Table``. Nothing is fitted here: a table predicts
with the packaged device files, as a user's estimate does, and says which rows the fitting scripts have looked at.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Words = NDArray[np.str_]


SYSTEMS = {
    "a100_pcie": "a100-pcie", "a100_sxm": "a100-80", "a30": "a30", "b200_sxm": "b200", "b300_sxm": "b300",
    "gb200": "gb200", "h100_pcie": "h100-pcie", "h100_sxm": "h100-sxm", "h200_sxm": "h200", "l4": "l4", "l40s": "l40s",
}  # fmt: skip
"""Device by the name that aiconfigurator gives its system."""


def other_files(data: Path, kind: str, fitted: Collection[str]) -> Iterator[tuple[str, str, Path]]:
    """(device, engine and version, file) of a kind of table on other machines or of other versions than fits read."""
    for path in sorted((data / "aiconfigurator").glob(f"{kind}_*.csv")):
        words = path.stem.removeprefix(f"{kind}_")
        for system, device in SYSTEMS.items():
            if path.name not in fitted and words.startswith(f"{system}_"):
                yield device, words.removeprefix(f"{system}_"), path


@dataclass(frozen=True)
class Rows:
    """Measured rows of one operation on one device, as columns of equal length."""

    device: str
    """Id of a device file."""
    operation: str
    """What was measured, such as ``matmul bf16`` or ``attention decode``."""
    inputs: Mapping[str, Array | Words]
    """What the prediction may look at, by column name; the module's docstring names units."""
    measured: Array
    """Positive, in the table's unit."""

    def __len__(self) -> int:
        return len(self.measured)


@dataclass(frozen=True)
class Prediction:
    """What the models say of ``Rows``, in the same order and unit."""

    value: Array
    low: Array
    """Lower end of the interval that should hold 90 % of measurements."""
    high: Array
    """Upper end of that interval."""
    regime: Words
    """What bounds each row: launch, memory, compute, link, or any word that the table explains."""
    rivals: Mapping[str, Array] = field(default_factory=dict)
    """Simpler models of the same rows, by name, such as ``roofline``."""


class Table(Protocol):
    """One kind of measurement."""

    @property
    def name(self) -> str:
        """Short name, for ``--table``."""
        ...

    @property
    def origin(self) -> str:
        """Where the rows come from, and how to obtain them: repository, commit, licence, files."""
        ...

    @property
    def schema(self) -> str:
        """Files below DIR and their columns with units."""
        ...

    @property
    def rule(self) -> str:
        """How rows were split into those used and those never used, in one clause."""
        ...

    @property
    def unit(self) -> str:
        """Unit of measured and predicted values, such as ``s`` or ``J``."""
        ...

    def rows(self, data: Path) -> Iterable[Rows]:
        """Every row, one ``Rows`` per device and operation; files that DIR lacks are passed over."""
        ...

    def used(self, rows: Rows) -> Mask:
        """True for rows that fitting, or setting an interval, looked at."""
        ...

    def predict(self, rows: Rows) -> Prediction:
        """The models' word on rows."""
        ...
