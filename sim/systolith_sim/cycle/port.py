"""The memory port: the arbiter and the memory behind it, where the core's three requesters meet.

A request is a SimPy event at the cycle in which it becomes visible. The arbiter serves the request that has
been visible longest (T13), so SimPy's event queue, with the requester as the priority among equal cycles, is
the order of service, and each transfer is one event.
"""

from collections.abc import Sequence

from simpy import Environment, Event
from simpy.events import EventPriority

from systolith_hw.timing import GRANT_DELAY, MemoryTiming
from systolith_sim.cycle.decode import Run
from systolith_sim.cycle.result import TransferTimes

FETCH, LOAD, STORE = (EventPriority(rank) for rank in (2, 3, 4))
"""Requesters: SimPy's priority among requests of one cycle (T13), below that of its own events."""
NAMES = {FETCH: "fetch", LOAD: "load", STORE: "store"}


class Request(Event):
    """A transfer asked for; its value is (last burst's acceptance, last beat, last response), at the port.

    All three may lie after the environment's clock: they are known as soon as the transfer's turn is.
    """

    def __init__(self, port: "Port", requester: EventPriority, visible: int, run: Run) -> None:
        # As in SimPy's own Timeout, everything is set here: there is one of these per transfer.
        self.env = env = port.env
        self.callbacks = [port.serve]
        self._ok, self._value = True, None
        self.requester, self.run = requester, run
        wait = visible - env.now
        # What follows from a transfer is later than it, so nothing is requested in a past already served.
        assert wait > 0
        env.schedule(self, requester, wait)

    def served(self, last: int, end: int, response: int) -> None:
        """Give the value to those who wait."""
        self.end = end
        self._value = (last, end, response)


class Port:
    """Arbiter (T13) and deterministic memory (M4 to M6): two integers."""

    def __init__(self, env: Environment, memory: MemoryTiming, *, log: bool) -> None:
        self.env = env
        self.transfers: list[TransferTimes] | None = [] if log else None
        self.memory = memory
        self._free = 1
        """The arbiter may choose from this cycle on."""
        self._busy_until = 0

    def serve(self, event: Event) -> None:
        """A request becomes visible: nobody can overtake it any more, so all that follows is known."""
        assert isinstance(event, Request)
        run, memory, now = event.run, self.memory, int(self.env.now)
        accept = (self._free if self._free > now else now) + GRANT_DELAY  # T13
        if accept < self._busy_until:  # M4
            accept = self._busy_until
        last = accept + run.last
        self._busy_until = accept + run.occupied
        if event.requester == STORE:
            end = last + run.last_beats  # M6
            event.served(last, end, end + memory.write_latency)
            self._free = end + 1
        else:
            end = last + memory.latency + run.last_beats - 1  # M5
            event.served(last, end, end)
            self._free = last + 1
        if self.transfers is not None:
            self.transfers.append(TransferTimes(NAMES[event.requester], now, accept, end))

    def arrivals(self, request: Request, every: int) -> Sequence[int]:
        """Cycles of every ``every``-th beat of a served fetch, the last one among them."""
        return range(request.end - request.run.beats + every, request.end + 1, every)
