"""Instructions in program order, and the semaphores that their hazards need.

Who emits an instruction says which regions of which memory it reads and writes; the assembler finds the
earlier instructions of other queues that must be complete before, and makes them post and this one wait.
Semaphore ``c`` of queue ``p`` is raised by ``p`` for queue ``c`` alone, and the n-th post belongs to the n-th
wait: so a counting semaphore is enough, and program order always satisfies every wait.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any

from systolith_hw.config import SEMAPHORES_PER_QUEUE, CoreConfig
from systolith_hw.isa import QUEUES, Instruction, Load, Matmul, Store, Vector

_KINDS = {"load": Load, "matmul": Matmul, "vector": Vector, "store": Store}
_NUMBER = {queue: number for number, queue in enumerate(QUEUES)}


@dataclass(eq=False)
class Region:
    """Bytes (or rows) of one memory, and the last use of them by each queue.

    While a region keeps its content, its parts are used apart; ``renew`` begins new content.
    """

    memory: str
    start: int
    end: int
    before: tuple["Region", ...] = ()
    """What held the same bytes before: its uses are hazards to the first write."""
    read_by: dict[int, int] = field(default_factory=dict)
    """Queue number to its last instruction, counted within the queue, that reads here."""
    written_by: dict[int, int] = field(default_factory=dict)
    parts: dict[Hashable, "Region"] = field(default_factory=dict)

    def part(self, key: Hashable = None) -> "Region":
        """A part of the content."""
        if key not in self.parts:
            self.parts[key] = Region(self.memory, self.start, self.end, self.before)
        return self.parts[key]

    def renew(self) -> None:
        """New content comes; instructions that use the old one may still be added."""
        if self.parts:
            self.before, self.parts = tuple(self.parts.values()), {}

    def history(self) -> tuple["Region", ...]:
        """The region and all whose uses matter to what will stand here."""
        return self, *self.parts.values(), *self.before


class Assembler:
    """Collects instructions in program order; ``finish`` gives them with waits and posts."""

    def __init__(self, core: CoreConfig) -> None:
        self._group_bytes = core.sizes.weight_group_bytes
        self._regions: dict[str, list[Region]] = {}
        self._ports: dict[tuple[str, int], Region] = {}
        self._program: list[tuple[int, int, dict[str, Any], int]] = []
        self._counts = [0] * len(QUEUES)
        self._posts: list[dict[int, int]] = [{} for _ in QUEUES]
        # _met[consumer][producer]: the last instruction of the producer that the consumer has waited for.
        self._met = [[-1] * len(QUEUES) for _ in QUEUES]

    def region(self, memory: str, start: int, end: int) -> Region:
        """A region of a memory; instructions that used overlapping regions are hazards to it.

        Regions that overlap this one must not be used again after it is made.
        """
        known = self._regions.setdefault(memory, [])
        over = [other for other in known if other.start < end and start < other.end]
        made = Region(memory, start, end, tuple(region for old in over for region in old.history()))
        for old in over:
            if start <= old.start and old.end <= end:
                known.remove(old)
        known.append(made)
        return made

    def bands(self, memory: str, address: int, stride: int, rows: int, band: int) -> tuple[Region, ...]:
        """One region for each ``band`` rows of a matrix."""
        return tuple(self.region(memory, address + row * stride, address + min(rows, row + band) * stride)
                     for row in range(0, rows, band))

    def port(self, direction: str, bank: int) -> Region:
        """The reader or the writer of a data bank, as what only one queue may use at a time."""
        return self._ports.setdefault((direction, bank), Region(direction, bank, bank + 1))

    def add(self, queue: str, fields: dict[str, Any], *, reads: Iterable[Region] = (),
            writes: Iterable[Region] = ()) -> None:
        """Append an instruction; ``fields`` are those of its class without ``wait`` and ``post``."""
        number = _NUMBER[queue]
        position = self._counts[number]
        self._counts[number] += 1
        needs: dict[int, int] = {}
        for region in reads:
            _latest(needs, region.written_by)
            region.read_by[number] = position
        for region in writes:
            for other in (region, *region.before):
                _latest(needs, other.written_by)
                _latest(needs, other.read_by)
            region.before = ()  # later writers come after this one in the same queue
            region.written_by[number] = position
        self._program.append((number, position, fields, self._wait(number, needs)))

    def finish(self) -> tuple[Instruction, ...]:
        """The program. A matmul of several N tiles that must post is cut, so that it posts once."""
        made: list[Instruction] = []
        for number, position, fields, wait in self._program:
            post = self._posts[number].get(position, 0)
            if QUEUES[number] == "matmul" and post and fields["n_tiles"] > 1:
                first, last = _cut(fields, self._group_bytes)
                made.append(Matmul(**first, wait=wait))
                made.append(Matmul(**last, post=post))
            else:
                made.append(_KINDS[QUEUES[number]](**fields, wait=wait, post=post))
        return tuple(made)

    def _wait(self, consumer: int, needs: dict[int, int]) -> int:
        wait, met = 0, self._met[consumer]
        for producer, position in needs.items():
            # Within a queue order is enough: its units start and finish in order.
            if producer != consumer and position > met[producer]:
                met[producer] = position
                wait |= 1 << (producer * SEMAPHORES_PER_QUEUE + consumer)
                posts = self._posts[producer]
                posts[position] = posts.get(position, 0) | 1 << consumer
        return wait


def _latest(into: dict[int, int], other: dict[int, int]) -> None:
    for queue, position in other.items():
        if position > into.get(queue, -1):
            into[queue] = position


def _cut(fields: dict[str, Any], group_bytes: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """All N tiles but the last, and the last."""
    tiles = fields["n_tiles"] - 1
    first = fields | {"n_tiles": tiles}
    last = first | {"n_tiles": 1, "weight_address": fields["weight_address"] + tiles * group_bytes,
                    "acc_address": fields["acc_address"] + tiles * fields["acc_stride"]}
    return first, last
