"""The core as SimPy processes that compute ahead of the clock.

Every time is the largest of earlier times plus a constant (docs/contracts/timing.md), so a process computes
as far as its inputs are known and sleeps only where one is not. The clock stands at the request that the
memory port serves: the order of transfers is the only thing that time itself decides.

For this to hold a process must give every time as soon as its inputs are known, and no later: the store unit
is two processes, since the end of its reading does not wait for the port.
"""

from collections.abc import Sequence

from simpy.events import ProcessGenerator

from systolith_hw.config import CoreConfig
from systolith_hw.timing import (
    COMPLETION_DELAY,
    DISPATCH_DELAY,
    FIRST_FETCH,
    LOAD_REQUEST_DELAY,
    STORE_READ_DELAY,
    STORE_TURNAROUND,
    fetch_beats,
    store_buffer_delay,
)
from systolith_sim.cycle.decode import LOAD, MATMUL, STORE, VECTOR, Op, Run, consumers
from systolith_sim.cycle.head import UNKNOWN, Head, Semaphores, Signal
from systolith_sim.cycle.port import FETCH, Port, Request
from systolith_sim.cycle.port import LOAD as LOAD_PORT
from systolith_sim.cycle.port import STORE as STORE_PORT


class Machine:
    """One run of one program.

    Parameters
    ----------
    order : sequence of int
        The queue of every instruction, in program order.
    queues : list of list of Op
        The instructions of each queue.
    """

    def __init__(self, core: CoreConfig, port: Port, order: Sequence[int], queues: list[list[Op]]) -> None:
        self._core, self._port, self._order = core, port, order
        self._env = env = port.env
        self._fetch_signal, self._dispatch_signal, self._read_signal, self._write_signal = (
            Signal(env) for _ in range(4))
        self.semaphores = Semaphores()
        self.heads = [Head(env, ops, self.semaphores, room=self._dispatch_signal,
                           depth=core.dma_depth if queue in (LOAD, STORE) else 0)
                      for queue, ops in enumerate(queues)]
        self._consumers = [self.heads[queue] for queue in consumers(queues)]
        self._dispatches: list[int] = []
        self._arrivals: list[int] = []
        """Last beat at the port of each instruction."""
        self._buffered: list[int] = []
        """Earliest request of each of the stores' transfers (T14)."""
        self._ends: list[int] = []
        """Last beat at the port of each of the stores' transfers."""

    def run(self) -> None:
        """Play the program until nothing can move any more."""
        for process in (self._fetch(), self._dispatch(), self._load(), self._matmul(), self._vector(),
                        self._read_stores(), self._write_stores()):
            self._env.process(process)
        self._env.run()

    def _fetch(self) -> ProcessGenerator:
        core, chunk, dispatches = self._core, self._core.fetch_instructions, self._dispatches
        accepted, beats = FIRST_FETCH - 1, fetch_beats(core, instructions=1)
        for first in range(0, len(self._order), chunk):
            burst = fetch_beats(core, instructions=min(chunk, len(self._order) - first))
            visible = accepted + 1  # T2
            if first > chunk:
                while len(dispatches) <= first - chunk - 1:
                    yield self._fetch_signal.sleep()
                visible = max(visible, dispatches[first - chunk - 1] + 1)
            request = Request(self._port, FETCH, visible, Run((burst,), self._port.memory.burst_overhead))
            accepted, _, _ = yield request
            self._arrivals += self._port.arrivals(request, beats)
            self._dispatch_signal.wake()

    def _dispatch(self) -> ProcessGenerator:
        heads, dispatches, arrivals = self.heads, self._dispatches, self._arrivals
        chunk, depth = self._core.fetch_instructions, self._core.queue_depth
        time = UNKNOWN
        for number, queue in enumerate(self._order):
            while len(arrivals) <= number:
                yield self._dispatch_signal.sleep()
            earliest = arrivals[number] + DISPATCH_DELAY
            time = time + 1 if time >= earliest else earliest  # T3
            head = heads[queue]
            blocking = len(head.dispatched) - depth
            if blocking >= 0:
                starts = head.starts
                while len(starts) <= blocking:
                    yield head.sleep_for_room(blocking)
                time = max(time, starts[blocking] + 1)
            dispatches.append(time)
            head.dispatch(time)
            if number % chunk == chunk - 1:
                self._fetch_signal.wake()

    def _load(self) -> ProcessGenerator:
        head, port = self.heads[LOAD], self._port
        for op in head.ops:
            while (start := head.begin()) == UNKNOWN:
                yield head.sleep()
            visible, end = start + LOAD_REQUEST_DELAY, UNKNOWN  # T12
            for run in op.runs:
                accepted, end, _ = yield Request(port, LOAD_PORT, visible, run)
                visible = accepted + 1
            head.end(visible)
            self._complete(head, op, end + COMPLETION_DELAY)

    def _matmul(self) -> ProcessGenerator:
        head, posts = self.heads[MATMUL], self.semaphores.posts
        for op in head.ops:
            while (start := head.begin()) == UNKNOWN:
                yield head.sleep()
            head.end(start + op.busy)  # T8
            head.dones.append(start + op.done)
            for semaphore in op.posts:  # T9: once per N tile
                posts[semaphore].extend(range(start + op.first_done, start + op.done + 1, op.step))
                self._consumers[semaphore].posted(semaphore)

    def _vector(self) -> ProcessGenerator:
        head = self.heads[VECTOR]
        for op in head.ops:
            while (start := head.begin()) == UNKNOWN:
                yield head.sleep()
            head.end(start + op.busy)  # T10
            self._complete(head, op, start + op.done)  # T11

    def _read_stores(self) -> ProcessGenerator:
        """The half of the store unit that fills two buffers from the scratchpad; it owns the queue's head."""
        head, buffered, ends = self.heads[STORE], self._buffered, self._ends
        delay = store_buffer_delay(self._core) - 1
        for op in head.ops:
            while (start := head.begin()) == UNKNOWN:
                yield head.sleep()
            read = start + STORE_READ_DELAY
            for run in op.runs:
                before = len(buffered) - 2
                if before >= 0:
                    while len(ends) <= before:
                        yield self._read_signal.sleep()
                    read = max(read, ends[before] + 1)  # T14: two transfers are buffered
                read += run.beats
                buffered.append(read + delay)
                self._write_signal.wake()
            head.end(read)

    def _write_stores(self) -> ProcessGenerator:
        """The half of the store unit that empties the buffers into the memory port."""
        head, buffered, ends = self.heads[STORE], self._buffered, self._ends
        for op in head.ops:
            turnaround, response = STORE_TURNAROUND, UNKNOWN
            for run in op.runs:
                while len(buffered) <= len(ends):
                    yield self._write_signal.sleep()
                visible = buffered[len(ends)]
                if ends:
                    visible = max(visible, ends[-1] + turnaround)  # T14
                _, end, response = yield Request(self._port, STORE_PORT, visible, run)
                ends.append(end)
                self._read_signal.wake()
                turnaround = 1
            self._complete(head, op, response + COMPLETION_DELAY)

    def _complete(self, head: Head, op: Op, cycle: int) -> None:
        head.done(cycle)
        for semaphore in op.posts:
            self.semaphores.posts[semaphore].append(cycle)
            self._consumers[semaphore].posted(semaphore)
