"""The random memory's stalls (docs/contracts/memory.md, rule M8), as the engine makes them.

The random memory is the deterministic one (rules M4 to M7, the same ``MemoryTiming``) with a wait before
every event on the five channels, in order of acceptance; ``w`` below is the next wait of the event's own
channel, ``L``, ``o`` and ``Lb`` are the timing's:

- an address that appears at the port at ``v`` is accepted at ``s = max(v, busy_until) + w`` (channels
  ``ar`` and ``aw``), and then ``busy_until = s + beats + o``;
- a read beat is given at ``max(r + 1, s + L) + w``, ``r`` the cycle of the beat before, ``s`` the
  acceptance of its burst (channel ``r``);
- a write beat can be taken from ``max(t + 1, s + 1) + w`` on, ``t`` the cycle of the beat before
  (channel ``w``);
- a response is given at ``max(p + 1, t + Lb) + w``, ``p`` the cycle of the response before, ``t`` that
  of the burst's last beat (channel ``b``).

A wait is 0, or with ``probability`` uniform in 1..``longest``. It depends on seed, channel and the
number of the event in its channel alone, so ``Stalls.waits`` gives the very waits that the engine will
make. A read's contents are those of the cycle of its acceptance; a write's stand from the cycle in which
its beat is taken.
"""

from dataclasses import dataclass

import numpy as np

MOST_SEED = (1 << 32) - 1
"""Largest seed of the waits."""
CHANNELS = ("ar", "r", "aw", "w", "b")
"""The five channels in the order in which the waits are seeded."""


@dataclass(frozen=True, kw_only=True)
class Stalls:
    """Random waits of the memory.

    >>> Stalls(seed=1).mean
    1.0
    >>> Stalls(seed=1).waits("r", 8).tolist()
    [0, 0, 3, 0, 0, 0, 7, 0]
    """

    seed: int
    """0..``MOST_SEED``."""
    probability: float = 0.25
    """Of a wait, at each event."""
    longest: int = 7
    """The longest wait, cycles."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed <= MOST_SEED:
            raise ValueError(f"seed must be in 0..{MOST_SEED}, not {self.seed}")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability must be in 0..1, not {self.probability}")
        if not 1 <= self.longest <= 1 << 20:
            raise ValueError(f"longest must be in 1..{1 << 20}, not {self.longest}")

    @property
    def threshold(self) -> int:
        """The probability in units of 2**-32."""
        return min(round(self.probability * (1 << 32)), (1 << 32) - 1)

    @property
    def mean(self) -> float:
        """Mean wait at each event, cycles."""
        return self.probability * (self.longest + 1) / 2

    def waits(self, channel: str, count: int) -> np.ndarray:
        """The first ``count`` waits of a channel."""
        start = _mix(np.array([self.seed * 5 + CHANNELS.index(channel)], dtype=np.uint64))
        steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        random = _mix(start + steps)
        length = (random >> np.uint64(32)) * np.uint64(self.longest) >> np.uint64(32)
        waiting = (random & np.uint64(0xFFFFFFFF)) < np.uint64(self.threshold)
        return np.where(waiting, length + np.uint64(1), np.uint64(0)).astype(np.int64)


def _mix(z: np.ndarray) -> np.ndarray:
    """The output function of splitmix64, element by element."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
