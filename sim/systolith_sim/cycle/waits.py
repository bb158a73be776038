"""The waits of the random memory (docs/contracts/memory.md, rule M8), as running sums."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

_MASK = (1 << 64) - 1
_STEP = 0x9E3779B97F4A7C15
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_BLOCK = 1 << 14
"""Waits computed at a time."""


class Channel(IntEnum):
    """Channels of the memory port, as the engine's memory numbers them."""

    READ_ADDRESS = 0
    READ = 1
    WRITE_ADDRESS = 2
    WRITE = 3
    RESPONSE = 4


@dataclass(frozen=True, kw_only=True)
class RandomStalls:
    """The random memory: a handshake waits with a probability, then for 1 to ``longest`` cycles."""

    probability: float
    """Of a wait, 0 to 1."""
    longest: int
    """Longest wait, cycles."""
    seed: int | None = None
    """The engine's seed, whose very waits are then played; without one every wait is the mean."""

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability must be in 0..1, not {self.probability}")
        if not 1 <= self.longest <= 1 << 20:
            raise ValueError(f"longest must be in 1..{1 << 20}, not {self.longest}")
        if self.seed is not None and not 0 <= self.seed <= _MASK:
            raise ValueError(f"seed must be in 0..{_MASK}, not {self.seed}")

    @property
    def mean(self) -> float:
        """Mean wait, cycles."""
        return self.probability * (self.longest + 1) / 2


class Waits:
    """Waits of one channel in order; ``before(n)`` is the sum of the first n."""

    def __init__(self, stalls: RandomStalls, channel: Channel) -> None:
        self._mean, self._longest = stalls.mean, stalls.longest
        self._probability = min(round(stalls.probability * 2**32), 2**32 - 1)
        self._state = None if stalls.seed is None else _mixed((stalls.seed * 5 + channel) & _MASK)
        self._sums = [0]
        self._taken = 0

    def take(self, count: int) -> int:
        """The sum of the next ``count`` waits."""
        first = self._taken
        self._taken += count
        return self.before(self._taken) - self.before(first)

    @property
    def taken(self) -> int:
        """Waits taken so far."""
        return self._taken

    def before(self, number: int) -> int:
        """The sum of the first ``number`` waits."""
        if self._state is None:
            return int(self._mean * number)
        while number >= len(self._sums):
            self._extend(self._state)
        return self._sums[number]

    def _extend(self, state: int) -> None:
        first = len(self._sums)
        numbers = np.arange(first, first + _BLOCK, dtype=np.uint64)
        random = _mix(numbers * np.uint64(_STEP) + np.uint64(state))
        length = ((random >> np.uint64(32)) * np.uint64(self._longest) >> np.uint64(32)) + np.uint64(1)
        chosen = (random & np.uint64(0xFFFFFFFF)) < np.uint64(self._probability)
        waits = np.where(chosen, length, np.uint64(0))
        self._sums += (np.cumsum(waits, dtype=np.int64) + self._sums[-1]).tolist()


def _mix(z: np.ndarray) -> np.ndarray:
    """The output function of splitmix64."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(_FIRST)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(_SECOND)
    return z ^ (z >> np.uint64(31))


def _mixed(value: int) -> int:
    return int(_mix(np.array([value], dtype=np.uint64))[0])
