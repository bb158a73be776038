"""The random memory for the per-cycle core: one handshake at a time, each with its own wait (M8)."""

from collections import deque

from cycle.percycle_dma import Memory

from systolith_hw.timing import MemoryTiming

MASK = (1 << 64) - 1


def mix(z: int) -> int:
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
    return z ^ (z >> 31)


class Dice:
    """Waits of a channel, one after the other."""

    def __init__(self, seed: int, channel: int, probability: float, longest: int) -> None:
        self.state, self.longest = mix(seed * 5 + channel & MASK), longest
        self.threshold = min(round(probability * 2**32), 2**32 - 1)

    def roll(self) -> int:
        self.state = self.state + 0x9E3779B97F4A7C15 & MASK
        number = mix(self.state)
        return 0 if number & 0xFFFFFFFF >= self.threshold else 1 + ((number >> 32) * self.longest >> 32)


class Lane:
    """Handshakes of one channel in order; each becomes possible at its time and then waits."""

    def __init__(self, dice: Dice) -> None:
        self.dice = dice
        self.items: deque[tuple[int, tuple[str, bool]]] = deque()
        self.wait: int | None = None  # cycles that the first one still waits

    def put(self, earliest: int, item: tuple[str, bool]) -> None:
        self.items.append((earliest, item))

    def take(self, now: int) -> tuple[str, bool] | None:
        if not self.items or now < self.items[0][0]:
            return None
        if self.wait is None:
            self.wait = self.dice.roll()
        if self.wait:
            self.wait -= 1
            return None
        self.wait = None
        return self.items.popleft()[1]


class RandomMemory(Memory):
    """The single server with waits on all five channels."""

    def __init__(self, timing: MemoryTiming, *, seed: int, probability: float, longest: int) -> None:
        super().__init__(timing)
        dice = [Dice(seed, channel, probability, longest) for channel in range(5)]
        self.addresses = {"fetch": dice[0], "load": dice[0], "store": dice[2]}
        self.address_wait: int | None = None
        self.lanes = {"read": Lane(dice[1]), "write": Lane(dice[3]), "answer": Lane(dice[4])}

    def accepts(self, now: int, owner: str) -> bool:
        if self.address_wait is None:
            self.address_wait = self.addresses[owner].roll()
        if self.countdown:
            return False
        self.address_wait -= 1
        if self.address_wait >= 0:
            return False
        self.address_wait = None
        return True

    def accept(self, now: int, owner: str, beats: int) -> None:
        self.countdown = beats + self.timing.burst_overhead
        lane, first = ("write", now + 1) if owner == "store" else ("read", now + self.timing.latency)
        for beat in range(beats):
            self.lanes[lane].put(first, (owner, beat == beats - 1))

    def read_beat(self, now: int) -> tuple[str, bool] | None:
        return self.lanes["read"].take(now)

    def write_beat(self, now: int) -> bool | None:
        beat = self.lanes["write"].take(now)
        if beat is None:
            return None
        if beat[1]:
            self.lanes["answer"].put(now + self.timing.write_latency, beat)
        return beat[1]

    def response(self, now: int) -> bool:
        return self.lanes["answer"].take(now) is not None
