"""The memory port with the random memory behind it (docs/contracts/memory.md, rule M8)."""

from collections.abc import Sequence

from simpy import Environment, Event

from systolith_hw.timing import GRANT_DELAY, MemoryTiming
from systolith_sim.cycle.port import NAMES, STORE, Port, Request
from systolith_sim.cycle.result import TransferTimes
from systolith_sim.cycle.waits import Channel, RandomStalls, Waits


class StalledPort(Port):
    """Arbiter and random memory: burst by burst, since the channels wait on their own.

    After its first beat a burst is a running sum of waits, so beats cost nothing here either.
    """

    def __init__(self, env: Environment, memory: MemoryTiming, stalls: RandomStalls, *, log: bool) -> None:
        super().__init__(env, memory, log=log)
        self._waits = {channel: Waits(stalls, channel) for channel in Channel}
        self._after = dict.fromkeys(Channel, 0)
        """First cycle in which each channel can have its next handshake."""
        self._first_read: dict[Request, int] = {}
        """Number of a served read's first beat on its channel."""

    def serve(self, event: Event) -> None:
        """A request becomes visible: nobody can overtake it any more, so all that follows is known."""
        assert isinstance(event, Request)
        now = int(self.env.now)
        store = event.requester == STORE
        self._first_read[event] = self._waits[Channel.R].taken
        offered = max(self._free, now) + GRANT_DELAY
        accepts, end, response = [], 0, 0
        for beats in event.run.burst_beats:
            address = self._waits[Channel.AW if store else Channel.AR]
            accept = max(offered, self._busy_until) + address.take(1)
            self._busy_until = accept + beats + self.memory.burst_overhead
            accepts.append(accept)
            if store:
                end = self._beats(Channel.W, accept + 1, beats)
                response = self._beats(Channel.B, end + self.memory.write_latency, 1)
                offered = end + 1
            else:
                end = self._beats(Channel.R, accept + self.memory.latency, beats)
                offered = accept + 1
        self._free = offered
        event.served(accepts[-1], end, response)
        if self.transfers is not None:
            self.transfers.append(TransferTimes(NAMES[event.requester], now, accepts[0], end))

    def arrivals(self, request: Request, every: int) -> Sequence[int]:
        """Cycles of every ``every``-th beat of a served fetch."""
        first, beats = self._first_read.pop(request), request.run.beats
        before = self._waits[Channel.R].before
        return [request.end - (beats - beat) - (before(first + beats) - before(first + beat))
                for beat in range(every, beats + 1, every)]

    def _beats(self, channel: Channel, earliest: int, beats: int) -> int:
        """The last of ``beats`` handshakes in a row."""
        last = max(self._after[channel], earliest) + self._waits[channel].take(beats) + beats - 1
        self._after[channel] = last + 1
        return last
