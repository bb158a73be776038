"""The memory side of the per-cycle core: memory, arbiter, load and store units, written as registers.

Every component has outputs that depend on its registers only, and ``tick``, which gives the registers their
next values from what happened in the cycle. Written from docs/contracts/timing.md and memory.md alone.
"""

from collections import deque
from dataclasses import dataclass

from systolith_hw.config import CoreConfig
from systolith_hw.isa import Load, Store
from systolith_hw.timing import MemoryTiming


class Walker:
    """Cuts the rows of one DMA instruction into bursts, and bursts into transfers (M2, M3)."""

    def __init__(self, core: CoreConfig, instruction: Load | Store) -> None:
        self.limit, self.transfer_limit = core.sizes.burst_beats, core.sizes.transfer_beats
        self.row_beats = instruction.row_bytes // core.port_bytes
        self.stride = instruction.dram_stride // core.port_bytes
        self.row_address = self.address = instruction.dram_address // core.port_bytes
        self.rows_left, self.beats_left = instruction.rows, self.row_beats
        self.issued = 0  # beats of the current transfer

    @property
    def burst(self) -> int:
        """Beats of the burst at hand."""
        return min(self.beats_left, self.limit - self.address % self.limit)

    @property
    def last_of_instruction(self) -> bool:
        return self.rows_left == 1 and self.beats_left == self.burst

    @property
    def last_of_transfer(self) -> bool:
        return self.last_of_instruction or self.issued + self.burst > self.transfer_limit - self.limit

    def advance(self) -> None:
        """Go on to the next burst."""
        burst, ends = self.burst, self.last_of_transfer
        self.issued = 0 if ends else self.issued + burst
        self.address += burst
        self.beats_left -= burst
        if not self.beats_left:
            self.rows_left -= 1
            self.row_address += self.stride
            self.address, self.beats_left = self.row_address, self.row_beats


class Memory:
    """The deterministic memory (M4 to M6): a server that counts down, and its two data channels."""

    def __init__(self, timing: MemoryTiming) -> None:
        self.timing = timing
        self.countdown = 0  # cycles in which no address is accepted
        self.reads: deque[tuple[int, str, bool]] = deque()  # cycle, owner, last beat of its burst
        self.writes: deque[tuple[int, bool]] = deque()  # cycle, last beat of its burst
        self.responses: deque[int] = deque()

    def accepts(self, now: int, owner: str) -> bool:
        """Whether the address that ``owner`` has on the port is accepted."""
        del now, owner
        return self.countdown == 0

    def accept(self, now: int, owner: str, beats: int) -> None:
        timing = self.timing
        self.countdown = beats + timing.burst_overhead
        if owner == "store":
            self.writes.extend((now + 1 + beat, beat == beats - 1) for beat in range(beats))
            self.responses.append(now + beats + timing.write_latency)
        else:
            first = now + timing.latency
            self.reads.extend((first + beat, owner, beat == beats - 1) for beat in range(beats))

    def read_beat(self, now: int) -> tuple[str, bool] | None:
        """Owner of the read beat on the port and whether it ends its burst."""
        if self.reads and self.reads[0][0] == now:
            return self.reads.popleft()[1:]
        return None

    def write_beat(self, now: int) -> bool | None:
        """Whether the write beat taken in this cycle ends its burst; None without a beat."""
        if self.writes and self.writes[0][0] == now:
            return self.writes.popleft()[1]
        return None

    def response(self, now: int) -> bool:
        if self.responses and self.responses[0] == now:
            self.responses.popleft()
            return True
        return False

    def tick(self) -> None:
        self.countdown = max(0, self.countdown - 1)


class Arbiter:
    """One owner at a time, the request that has been visible longest (T13)."""

    ORDER = ("fetch", "load", "store")

    def __init__(self) -> None:
        self.free = False
        self.age: dict[str, int] = {name: 0 for name in self.ORDER}

    def grant(self, requests: dict[str, bool]) -> str | None:
        """The requester chosen in this cycle."""
        asking = [name for name in self.ORDER if requests[name]]
        return max(asking, key=lambda name: self.age[name]) if self.free and asking else None

    def tick(self, requests: dict[str, bool], granted: str | None, ended: bool) -> None:
        for name in self.ORDER:
            self.age[name] = self.age[name] + 1 if requests[name] and name != granted else 0
        self.free = ended or (self.free and granted is None)


class LoadUnit:
    """Idle, setting up, requesting, or with an address on the port (T12)."""

    def __init__(self, core: CoreConfig) -> None:
        self.core = core
        self.state = "idle"
        self.walker: Walker | None = None
        self.in_flight = 0
        self.outstanding: deque[bool] = deque()  # per accepted burst: the last of its instruction
        self.landed = False  # the last beat of an instruction was on the port in the cycle before

    def free(self) -> bool:
        return self.state == "idle"

    def tick(self, *, start: Load | None, granted: bool, accepted: bool, burst_end: bool) -> bool:
        """Next registers; true if the transfer at hand has ended."""
        ended = False
        if self.state == "setup":
            self.state = "request"
        elif self.state == "request" and granted:
            self.state = "address"
        elif self.state == "address" and accepted:
            assert self.walker is not None
            ended, last = self.walker.last_of_transfer, self.walker.last_of_instruction
            self.outstanding.append(last)
            self.walker.advance()
            self.state = "idle" if last else "request" if ended else "address"
        if start is not None:
            self.state, self.walker = "setup", Walker(self.core, start)
        self.in_flight += (start is not None) - self.landed
        self.landed = burst_end and self.outstanding.popleft()
        return ended


@dataclass
class Buffer:
    """A transfer on its way from the scratchpad to the port."""

    bursts: list[int]
    last: bool


class StoreUnit:
    """A reader that fills two buffers and a writer that empties them (T14)."""

    def __init__(self, core: CoreConfig) -> None:
        self.core = core
        self.walker: Walker | None = None
        self.beat = 0  # beats read of the burst at hand
        self.filling: list[int] | None = None
        self.buffers_free = 2
        self.pipe: deque[Buffer | None] = deque([None] * (core.memory_latency + 1))
        self.buffered: deque[Buffer] = deque()
        self.turnaround = 0
        self.state = "request"
        self.left: list[int] = []  # bursts whose address has not been accepted
        self.in_flight = 0
        self.unanswered: deque[bool] = deque()
        self.answered = False

    def free(self) -> bool:
        return self.walker is None

    def requests(self) -> bool:
        return self.state == "request" and self.turnaround == 0 and bool(self.buffered)

    def reads(self) -> bool:
        return self.walker is not None and (self.filling is not None or self.buffers_free > 0)

    def tick(self, *, start: Store | None, granted: bool, accepted: bool, burst_end: bool, response: bool
             ) -> bool:
        """Next registers; true if the transfer at hand has ended."""
        arriving = self.pipe.popleft()
        self.pipe.append(self._read() if self.reads() else None)
        ended = self._write(granted, accepted, burst_end)
        if arriving is not None:
            self.buffered.append(arriving)
        if start is not None:
            self.walker = Walker(self.core, start)
        self.in_flight += (start is not None) - self.answered
        self.answered = response and self.unanswered.popleft()
        return ended

    def _read(self) -> Buffer | None:
        assert self.walker is not None
        if self.filling is None:
            self.filling, self.beat = [], 0
            self.buffers_free -= 1
        self.beat += 1
        if self.beat < self.walker.burst:
            return None
        self.filling.append(self.beat)
        self.beat = 0
        ended, last, bursts = self.walker.last_of_transfer, self.walker.last_of_instruction, self.filling
        self.walker.advance()
        if not ended:
            return None
        self.filling = None
        if last:
            self.walker = None
        return Buffer(bursts, last)

    def _write(self, granted: bool, accepted: bool, burst_end: bool) -> bool:
        self.turnaround = max(0, self.turnaround - 1)
        if granted:
            self.state, self.left = "address", list(self.buffered[0].bursts)
        if accepted:
            self.left.pop(0)
            self.unanswered.append(not self.left and self.buffered[0].last)
            self.state = "data"
        if burst_end:
            self.state = "address"
            if not self.left:
                self.state, self.turnaround = "request", 2 if self.buffered.popleft().last else 0
                self.buffers_free += 1
                return True
        return False
