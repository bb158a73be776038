"""A program as the cycle model plays it: the lengths that an instruction's fields fix, once per shape."""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice

from systolith_hw.config import SEMAPHORES_PER_QUEUE, CoreConfig
from systolith_hw.isa import QUEUES, STALL_CAUSES, Instruction, Load, Matmul, Store, Vector
from systolith_hw.timing import (
    MemoryTiming,
    bursts,
    matmul_cycles,
    matmul_done,
    pass_cycles,
    transfers,
    vector_cycles,
    vector_done,
)
from systolith_sim.cycle.accesses import Accesses, instruction_accesses

LOAD, MATMUL, VECTOR, STORE = range(len(QUEUES))
SEMAPHORES = len(QUEUES) * SEMAPHORES_PER_QUEUE
WAIT_CAUSES = tuple(STALL_CAUSES.index(f"wait_{queue}") for queue in QUEUES)


def semaphore_name(semaphore: int) -> str:
    """A semaphore as the disassembly writes it: its queue and index."""
    return f"{QUEUES[semaphore // SEMAPHORES_PER_QUEUE]}.{semaphore % SEMAPHORES_PER_QUEUE}"


class Run:
    """A transfer's bursts in the deterministic memory, relative to the first acceptance (M4).

    The next address of a write is on the port in the cycle after the last beat of the burst before, so that
    without overhead a cycle passes between two bursts of a write; that of a read waits there already.
    """

    __slots__ = ("beats", "burst_beats", "last", "last_beats", "occupied")

    def __init__(self, burst_beats: tuple[int, ...], overhead: int, *, write: bool = False) -> None:
        self.burst_beats, self.beats, self.last_beats = burst_beats, sum(burst_beats), burst_beats[-1]
        between = max(overhead, 1) if write else overhead
        self.last = self.beats - self.last_beats + between * (len(burst_beats) - 1)
        """From the first acceptance to that of the last burst."""
        self.occupied = self.last + self.last_beats + overhead


class Op:
    """All instructions of one queue that differ in addresses only."""

    __slots__ = ("accesses", "busy", "done", "first_done", "posts", "runs", "step", "waits")

    def __init__(self, instruction: Instruction, queue: int, accesses: Accesses) -> None:
        semaphores = [bit for bit in range(SEMAPHORES) if instruction.wait >> bit & 1]
        self.waits = tuple((WAIT_CAUSES[bit // SEMAPHORES_PER_QUEUE], bit) for bit in semaphores)
        """(index of the stall cause, semaphore), in the order in which they are looked at (T5)."""
        self.posts = tuple(queue * SEMAPHORES_PER_QUEUE + bit for bit in range(SEMAPHORES_PER_QUEUE)
                           if instruction.post >> bit & 1)
        self.accesses = accesses
        self.busy = 0
        """Matmul and vector: start to free."""
        self.first_done = self.done = 0
        """Matmul and vector: start to the first and the last post; ``step`` lies between two."""
        self.step = 1
        self.runs: tuple[Run, ...] = ()
        """Load and store: the transfers."""


class Decoder:
    """Turns instructions into shared ``Op`` objects; one of these serves one core and memory."""

    MOST_OPS = 1 << 14
    """More are not kept from one program to the next."""

    def __init__(self, core: CoreConfig, memory: MemoryTiming) -> None:
        self._core, self._memory = core, memory
        self._burst_bytes = core.sizes.burst_beats * core.port_bytes
        self._ops: dict[tuple[object, ...], Op] = {}

    def decode(self, instructions: Sequence[Instruction]) -> tuple[list[int], list[list[Op]]]:
        """The queue of every instruction, and the ops of every queue."""
        if len(self._ops) > self.MOST_OPS:
            self._ops.clear()
        order, queues = [], [[], [], [], []]
        known, burst = self._ops, self._burst_bytes
        for i in instructions:
            if isinstance(i, Matmul):
                queue, key = MATMUL, (i.wait, i.post, MATMUL, i.m, i.k_tiles, i.n_tiles, i.accumulate)
            elif isinstance(i, Vector):
                queue, key = VECTOR, (i.wait, i.post, VECTOR, i.m, i.n, i.use_table)
            else:
                queue = LOAD if isinstance(i, Load) else STORE
                # A burst ends at multiples of its largest size: only the place within one counts (M2).
                key = (i.wait, i.post, queue, i.memory, i.dram_address % burst, i.dram_stride % burst,
                       i.rows, i.row_bytes)
            op = known.get(key)
            if op is None:
                known[key] = op = self._op(i, queue)
            order.append(queue)
            queues[queue].append(op)
        return order, queues

    def _op(self, i: Instruction, queue: int) -> Op:
        core = self._core
        op = Op(i, queue, instruction_accesses(core, i))
        if isinstance(i, Matmul):
            op.busy = matmul_cycles(core, m=i.m, k_tiles=i.k_tiles, n_tiles=i.n_tiles)  # T8
            op.first_done = matmul_done(core, m=i.m, k_tiles=i.k_tiles, tile=0)  # T9
            op.done = matmul_done(core, m=i.m, k_tiles=i.k_tiles, tile=i.n_tiles - 1)
            op.step = i.k_tiles * pass_cycles(core, m=i.m)
        elif isinstance(i, Vector):
            op.busy = vector_cycles(core, m=i.m, n=i.n)  # T10
            op.first_done = op.done = vector_done(core, m=i.m, n=i.n)  # T11
        else:
            op.runs = self._runs(i)
        return op

    def _runs(self, i: Load | Store) -> tuple[Run, ...]:
        port = self._core.port_bytes
        for name in ("dram_address", "dram_stride", "row_bytes"):
            value = getattr(i, name)
            if value % port and (name != "dram_stride" or i.rows > 1):
                raise ValueError(f"{name} of a {i.queue} must be a multiple of port_bytes = {port}, "
                                 f"not {value}")
        found = transfers(self._core, dram_address=i.dram_address, dram_stride=i.dram_stride,
                          rows=i.rows, row_bytes=i.row_bytes)
        cut = (beats for _, beats in bursts(self._core, offset=i.dram_address // port, rows=i.rows,
                                            stride=i.dram_stride // port, row_beats=i.row_bytes // port))
        overhead, write = self._memory.burst_overhead, isinstance(i, Store)
        return tuple(Run(tuple(islice(cut, transfer.bursts)), overhead, write=write) for transfer in found)


@lru_cache(maxsize=16)
def decoder(core: CoreConfig, memory: MemoryTiming) -> Decoder:
    """A decoder that remembers the shapes of earlier programs: a search plays many alike."""
    return Decoder(core, memory)


def consumers(queues: list[list[Op]]) -> list[int]:
    """The queue that lowers each semaphore; LOAD where none does.

    Raises
    ------
    ValueError
        If two queues wait for one semaphore: its count could fall under a waiting head (T5).
    """
    owner: dict[int, int] = {}
    for queue, ops in enumerate(queues):
        for op in set(ops):
            for _, semaphore in op.waits:
                if owner.setdefault(semaphore, queue) != queue:
                    raise ValueError(f"{semaphore_name(semaphore)} must be awaited by one queue, not by "
                                     f"{QUEUES[owner[semaphore]]} and {QUEUES[queue]}")
    return [owner.get(semaphore, LOAD) for semaphore in range(SEMAPHORES)]


def total_accesses(queues: list[list[Op]]) -> Accesses:
    """Energy events of the whole program."""
    return Accesses.total((op.accesses, count) for ops in queues for op, count in Counter(ops).items())
