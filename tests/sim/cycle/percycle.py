"""The core cycle by cycle, as registers: an independent reading of docs/contracts/timing.md.

Slow and plain. It exists to check the event model, and to say in which cycle what should happen when the
gateware disagrees: ``PerCycleCore.trace`` holds one line an event.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from cycle.percycle_dma import Arbiter, LoadUnit, Memory, StoreUnit

from systolith_hw.config import INSTRUCTION_BYTES, CoreConfig
from systolith_hw.isa import QUEUES, STALL_CAUSES, Instruction, Matmul, Vector
from systolith_hw.timing import MemoryTiming

T = TypeVar("T")


class DelayLine(Generic[T]):
    """A chain of registers: what goes in at the end of a cycle comes out ``stages`` cycles later."""

    def __init__(self, stages: int) -> None:
        self.registers: deque[T | None] = deque([None] * stages)

    def out(self) -> T | None:
        return self.registers[0]

    def tick(self, value: T | None) -> None:
        self.registers.popleft()
        self.registers.append(value)


class MatmulUnit:
    """A counter over the passes (T7, T8); activation rows follow the weights, sums follow the rows (T9)."""

    def __init__(self, core: CoreConfig) -> None:
        self.core = core
        self.op: Matmul | None = None
        self.passes = self.phase = 0
        self.rows = DelayLine[tuple[Matmul, int, int]](core.sizes.weight_groups + 1)
        into_sums = core.memory_latency + 1 + core.rows + core.cols + core.multiplier_latency - 1
        self.last_rows = DelayLine[bool](into_sums)  # true with the last row of an instruction

    def length(self, op: Matmul) -> int:
        return max(op.m, -(-self.core.rows // self.core.weight_rows_per_cycle), self.core.memory_latency + 2)

    def free(self) -> bool:
        return self.op is None or (self.passes == self.op.k_tiles * self.op.n_tiles - 1
                                   and self.phase == self.length(self.op) - 1)

    def added(self) -> bool | None:
        """The last row of an N tile is being added: whether the tile is the instruction's last."""
        return self.last_rows.out()

    def tick(self, start: Matmul | None) -> None:
        row = self.rows.out()
        done = None
        if row is not None:
            op, index, phase = row
            if phase == op.m - 1 and (index + 1) % op.k_tiles == 0:
                done = index + 1 == op.k_tiles * op.n_tiles
        self.last_rows.tick(done)
        self.rows.tick(None if self.op is None else (self.op, self.passes, self.phase))
        if start is not None:
            self.op, self.passes, self.phase = start, 0, 0
        elif self.free():
            self.op = None
        elif self.op is not None:
            self.phase += 1
            if self.phase == self.length(self.op):
                self.passes, self.phase = self.passes + 1, 0


class VectorUnit:
    """A counter over rows and groups of columns (T10) and the pipeline behind it (T11)."""

    def __init__(self, core: CoreConfig) -> None:
        self.core = core
        self.left = 0
        memory, requantize, table = core.memory_latency, core.multiplier_latency + 6, core.memory_latency + 1
        self.pipe = DelayLine[bool](memory + requantize + table + 4 - 1)

    def free(self) -> bool:
        return self.left <= 1

    def written(self) -> bool | None:
        return self.pipe.out()

    def tick(self, start: Vector | None) -> None:
        self.pipe.tick(True if self.left == 1 else None)
        if start is not None:
            self.left = start.m * -(-start.n // self.core.requant_lanes)
        elif self.left:
            self.left -= 1


class Fetch:
    """Requests chunks, turns beats into instructions, dispatches them in order (T2, T3)."""

    def __init__(self, core: CoreConfig, count: int) -> None:
        self.core, self.count = core, count
        self.state = "start"
        self.accepted = 0  # instructions whose chunk has been accepted
        self.beats = 0
        self.assembled = 0  # instructions complete in the buffer's input register
        self.ready = 0  # instructions that can be dispatched
        self.dispatched = 0

    def burst(self) -> int:
        instructions = min(self.core.fetch_instructions, self.count - self.accepted)
        return instructions * INSTRUCTION_BYTES // self.core.port_bytes

    def tick(self, *, granted: bool, accepted: bool, beat: bool, dispatch: bool) -> None:
        chunk = self.core.fetch_instructions
        self.ready = self.assembled
        self.beats += beat
        self.assembled = self.beats * self.core.port_bytes // INSTRUCTION_BYTES
        self.dispatched += dispatch
        if granted:
            self.state = "address"
        if accepted:
            self.accepted = min(self.accepted + chunk, self.count)
            self.state = "wait"
        if self.state in ("start", "wait") and self.accepted < self.count:
            # A chunk of room in a buffer of two.
            self.state = "request" if self.accepted - self.dispatched <= chunk else "wait"


class PerCycleCore:
    """The core, its memory and its counters; ``run`` steps it to the end."""

    def __init__(self, core: CoreConfig, instructions: Sequence[Instruction], memory: MemoryTiming | Memory
                 ) -> None:
        self.core, self.instructions = core, instructions
        self.now = 0
        self.memory = Memory(memory) if isinstance(memory, MemoryTiming) else memory
        self.arbiter, self.owner = Arbiter(), ""
        self.fetch = Fetch(core, len(instructions))
        self.load, self.matmul = LoadUnit(core), MatmulUnit(core)
        self.vector, self.store = VectorUnit(core), StoreUnit(core)
        self.queues: dict[str, deque[int]] = {queue: deque() for queue in QUEUES}
        self.running: dict[str, deque[int]] = {queue: deque() for queue in QUEUES}  # started, not done
        self.semaphores = [0] * 16
        self.done = 0
        self.counters: dict[str, dict[str, int]] = {
            queue: {cause: 0 for cause in ("busy", *STALL_CAUSES)} for queue in QUEUES}
        self.starts: dict[int, int] = {}
        self.dones: dict[int, int] = {}
        self.accepted: list[tuple[str, int]] = []  # every burst: owner and cycle
        self.moved = 0
        self.trace: list[str] = []

    def run(self, patience: int) -> int:
        """Cycles to the end; RuntimeError after ``patience`` cycles in which nothing happens."""
        while True:
            before, finished = len(self.trace), self.done == len(self.instructions)
            self.step()
            if finished:
                return self.now
            self.moved = self.now if len(self.trace) > before else self.moved
            if self.now - self.moved > patience:
                raise RuntimeError(f"nothing has moved since cycle {self.moved}")
            self.now += 1

    def step(self) -> None:
        """One cycle: look at the registers, decide, count, then give every register its next value."""
        starts = {str(queue): self._head(queue) if self.now else None for queue in QUEUES}
        dispatch = self._dispatch()
        posts = self._memory_side(starts, dispatch is not None)
        if self.matmul.added() is not None:
            posts.append(("matmul", bool(self.matmul.added())))
        if self.vector.written():
            posts.append(("vector", True))
        self.matmul.tick(self._started(starts, "matmul"))
        self.vector.tick(self._started(starts, "vector"))
        self._queues_tick(starts, dispatch)
        self._semaphores_tick(starts, posts)

    def _say(self, who: str, what: str) -> None:
        self.trace.append(f"{self.now:8} {who:8} {what}")

    def _head(self, queue: str) -> int | None:
        """The instruction that the queue starts in this cycle; counts the cycle (T5, T6)."""
        counters, unit = self.counters[queue], getattr(self, queue)
        if not unit.free():
            counters["busy"] += 1
            return None
        cause = self._first_unmet(queue)
        if cause is not None:
            counters[cause] += 1
            return None
        counters["busy"] += 1
        index = self.queues[queue][0]
        self._say(queue, f"start {index}: {self.instructions[index]}")
        return index

    def _first_unmet(self, queue: str) -> str | None:
        if not self.queues[queue]:
            return "empty"
        wait = self.instructions[self.queues[queue][0]].wait
        for number, source in enumerate(QUEUES):
            if any(wait >> bit & 1 and not self.semaphores[bit] for bit in range(4 * number, 4 * number + 4)):
                return f"wait_{source}"
        if queue in ("load", "store") and getattr(self, queue).in_flight == self.core.dma_depth:
            return "in_flight"
        return None

    def _started(self, starts: dict[str, int | None], queue: str) -> Any:
        index = starts[queue]
        return None if index is None else self.instructions[index]

    def _dispatch(self) -> str | None:
        """The queue that takes an instruction in this cycle (T3)."""
        fetch = self.fetch
        if fetch.dispatched == fetch.ready:
            return None
        queue = self.instructions[fetch.dispatched].queue
        if len(self.queues[queue]) == self.core.queue_depth:
            return None
        self._say("dispatch", f"{fetch.dispatched} to {queue}")
        return queue

    def _memory_side(self, starts: dict[str, int | None], dispatch: bool) -> list[tuple[str, bool]]:
        """Port, arbiter and the three requesters; gives back completions of loads and stores."""
        fetch, load, store, memory, now = self.fetch, self.load, self.store, self.memory, self.now
        posts = [(unit, True) for unit, pulse in (("load", load.landed), ("store", store.answered)) if pulse]
        requests = {"fetch": fetch.state == "request", "load": load.state == "request",
                    "store": store.requests()}
        granted = self.arbiter.grant(requests)
        # The owner has an address on the port until its transfer's last burst has been accepted.
        accepted = ""
        if self.owner and getattr(self, self.owner).state == "address" and memory.accepts(now, self.owner):
            accepted = self.owner
            memory.accept(now, accepted, self._burst(accepted))
            self.accepted.append((accepted, now))
            self._say(accepted, "burst accepted")
        read, write, response = memory.read_beat(now), memory.write_beat(now), memory.response(now)
        if granted:
            self._say(granted, "granted")
        fetch.tick(granted=granted == "fetch", accepted=accepted == "fetch",
                   beat=read is not None and read[0] == "fetch", dispatch=dispatch)
        read_end = load.tick(start=self._started(starts, "load"), granted=granted == "load",
                             accepted=accepted == "load", burst_end=read == ("load", True))
        write_end = store.tick(start=self._started(starts, "store"), granted=granted == "store",
                               accepted=accepted == "store", burst_end=bool(write), response=response)
        ended = read_end or write_end or accepted == "fetch" or now == 0
        self.arbiter.tick(requests, granted, ended)
        self.owner = granted or ("" if ended else self.owner)
        memory.tick()
        return posts

    def _burst(self, owner: str) -> int:
        if owner == "fetch":
            return self.fetch.burst()
        if owner == "load":
            assert self.load.walker is not None
            return self.load.walker.burst
        return self.store.left[0]

    def _queues_tick(self, starts: dict[str, int | None], dispatch: str | None) -> None:
        for queue, index in starts.items():
            if index is not None:
                self.running[queue].append(self.queues[queue].popleft())
                self.starts[index] = self.now
        if dispatch is not None:
            # Fetch has counted it already.
            self.queues[dispatch].append(self.fetch.dispatched - 1)

    def _semaphores_tick(self, starts: dict[str, int | None], posts: list[tuple[str, bool]]) -> None:
        for index in starts.values():
            for bit in range(16):
                self.semaphores[bit] -= index is not None and self.instructions[index].wait >> bit & 1
        for queue, completes in posts:
            index = self.running[queue][0]
            first = 4 * QUEUES.index(queue)
            for bit in range(4):
                self.semaphores[first + bit] += self.instructions[index].post >> bit & 1
            self._say(queue, f"done {index}" if completes else f"tile of {index} done")
            if completes:
                self.running[queue].popleft()
                self.done += 1
                self.dones[index] = self.now + 1
        if max(self.semaphores) > 255:
            raise OverflowError(f"a semaphore is above 255 at cycle {self.now + 1}")
