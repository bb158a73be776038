"""Equal layers stand once: runs of steps that repeat in order become one run, with a count."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from systolith_model.workload.traced.steps import Step, Value

NUMBER = re.compile(r"\d+")


def without_numbers(path: str) -> str:
    """A module's path with ``*`` for the numbers in it, which tell equal layers apart."""
    return NUMBER.sub("*", path)


def collapsed(values: list[Value], steps: Sequence[Step]) -> list[Step]:
    """The steps, of each repeated run the first alone; ``values`` grows by views that the rest needs.

    A run repeats where the same operations on the same shapes follow each other in modules whose paths differ in
    numbers only, or in the same module called again. What was made by a dropped run is read from the first.
    """
    signs = _Signs()
    numbers = np.array([signs.of(values, step) for step in steps], dtype=np.int64)
    calls = np.array([step.call for step in steps], dtype=np.int64)
    kept, moved = _Runs(list(steps), numbers, calls).kept()
    return _Rewritten(values, moved).of(kept)


class _Signs:
    """A small number for each kind of step."""

    def __init__(self) -> None:
        self.known: dict[object, int] = {}

    def of(self, values: list[Value], step: Step) -> int:
        shapes = tuple(
            (values[place].shape, values[place].format, values[place].constant, values[place].cache)
            for place in (*step.inputs, *step.outputs)
        )
        sign = (without_numbers(step.path), step.word, step.kind, len(step.inputs), shapes,
                tuple(sorted(step.attributes.items())))  # fmt: skip
        return self.known.setdefault(sign, len(self.known))


@dataclass
class _Runs:
    """Steps with their signs, and which values of dropped runs stand for which of kept ones."""

    steps: list[Step]
    signs: NDArray[np.int64]
    calls: NDArray[np.int64]

    def kept(self) -> tuple[list[Step], dict[int, int]]:
        """Steps that stay, with counts, and the values that moved."""
        moved: dict[int, int] = {}
        places = self._of(0, len(self.steps), 1, moved)
        return [replace(self.steps[place], count=count) for place, count in places], moved

    def _of(self, low: int, high: int, count: int, moved: dict[int, int]) -> list[tuple[int, int]]:
        """(place, count) of what stays of a range."""
        found = self._longest(low, high)
        if found is None:
            return [(place, count) for place in range(low, high)]
        start, period, times = found
        end = start + times * period
        for place in range(start + period, end):
            first = start + (place - start) % period
            pairs = zip(self.steps[place].outputs, self.steps[first].outputs, strict=True)
            moved.update(pairs)
        return [
            *self._of(low, start, count, moved),
            *self._of(start, start + period, count * times, moved),
            *self._of(end, high, count, moved),
        ]

    def _longest(self, low: int, high: int) -> tuple[int, int, int] | None:
        """(start, period, times) of the repetition that saves most steps, the shortest period of those."""
        signs, calls = self.signs[low:high], self.calls[low:high]
        best, saved = None, 0
        for period in range(1, (high - low) // 2 + 1):
            if high - low - period < saved:
                break
            differ = np.flatnonzero(signs[:-period] != signs[period:])
            ends = np.concatenate(([-1], differ, [len(signs) - period]))
            lengths = np.diff(ends) - 1
            place = int(np.argmax(lengths))
            start, equal = int(ends[place]) + 1, int(lengths[place])
            # Inside one call the same operation twice is no layer.
            again = calls[start : start + equal] != calls[start + period : start + period + equal]
            if equal >= period and equal // period * period > saved and again.any():
                best, saved = (low + start, period, equal // period + 1), equal // period * period
        return best


@dataclass
class _Rewritten:
    """Steps that read the first of what repeats."""

    values: list[Value]
    moved: dict[int, int]

    def of(self, steps: list[Step]) -> list[Step]:
        """Steps with their inputs exchanged; two inputs stay two where they have become the same value."""
        return [replace(step, inputs=self._inputs(step.inputs)) for step in steps]

    def _inputs(self, places: tuple[int, ...]) -> tuple[int, ...]:
        taken: list[int] = []
        for place in places:
            new = self._first(place)
            if new in taken:
                new = self._new(replace(self.values[new], label=f"again.{len(self.values)}"))
            taken.append(new)
        return tuple(taken)

    def _first(self, place: int) -> int:
        while place in self.moved:
            place = self.moved[place]
        base = self.values[place].base
        if base is None:
            return place
        first = self._first(base)
        return place if first == base else self._new(replace(self.values[place], base=first))

    def _new(self, value: Value) -> int:
        self.values.append(value)
        return len(self.values) - 1
