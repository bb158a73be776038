"""The waits of the random memory (docs/contracts/memory.md, rule M8), as running sums."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, Self

import numpy as np


class Channel(IntEnum):
    """Channels of the memory port, each with waits of its own."""

    AR = 0
    R = 1
    AW = 2
    W = 3
    B = 4


class WaitSource(Protocol):
    """What makes the waits, such as ``systolith_sim.engine.Stalls``."""

    @property
    def probability(self) -> float:
        """Of a wait at each event."""
        ...

    @property
    def longest(self) -> int:
        """Longest wait, cycles; a wait is uniform from 1 on."""
        ...

    def waits(self, channel: str, count: int) -> np.ndarray:
        """The first ``count`` waits of a channel: ar, r, aw, w or b."""
        ...


@dataclass(frozen=True, kw_only=True)
class RandomStalls:
    """The random memory: an event waits with a probability, then for 1 to ``longest`` cycles, all alike."""

    probability: float
    """Of a wait, 0 to 1."""
    longest: int
    """Longest wait, cycles."""
    source: WaitSource | None = None
    """Gives the very waits; without it every wait is the mean, which estimates any seed."""

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability must be in 0..1, not {self.probability}")
        if not 1 <= self.longest <= 1 << 20:
            raise ValueError(f"longest must be in 1..{1 << 20}, not {self.longest}")

    @classmethod
    def of(cls, source: WaitSource) -> Self:
        """The very waits of a seeded memory."""
        return cls(probability=source.probability, longest=source.longest, source=source)

    @property
    def mean(self) -> float:
        """Mean wait, cycles."""
        return self.probability * (self.longest + 1) / 2


class Waits:
    """Waits of one channel in order; ``before(n)`` is the sum of the first n."""

    def __init__(self, stalls: RandomStalls, channel: Channel) -> None:
        self._mean, self._source, self._channel = stalls.mean, stalls.source, channel.name.lower()
        self._sums = [0]
        self.taken = 0
        """Waits taken so far."""

    def take(self, count: int) -> int:
        """The sum of the next ``count`` waits."""
        first = self.taken
        self.taken += count
        return self.before(self.taken) - self.before(first)

    def before(self, number: int) -> int:
        """The sum of the first ``number`` waits."""
        if self._source is None:
            return int(self._mean * number)
        if number >= len(self._sums):
            # Twice as many each time, so that all together cost twice the last.
            waits = self._source.waits(self._channel, max(1 << 10, 2 * number))
            self._sums = [0, *np.cumsum(waits, dtype=np.int64).tolist()]
        return self._sums[number]
