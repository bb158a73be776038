"""The head of a queue: when its next instruction starts, and what it stalled for until then."""

from simpy import Environment, Event

from systolith_hw.isa import STALL_CAUSES
from systolith_sim.cycle.decode import SEMAPHORES, Op

UNKNOWN = -1
"""Instead of a cycle: it depends on something that has not been computed yet."""
_DISPATCH, _FLIGHT = SEMAPHORES, SEMAPHORES + 1
_EMPTY, _IN_FLIGHT = STALL_CAUSES.index("empty"), STALL_CAUSES.index("in_flight")


class Signal:
    """Something that one process may sleep on until another has computed more."""

    __slots__ = ("_env", "_sleeper")

    def __init__(self, env: Environment) -> None:
        self._env = env
        self._sleeper: Event | None = None

    def sleep(self) -> Event:
        """An event for the next ``wake``."""
        self._sleeper = event = Event(self._env)
        return event

    def wake(self) -> None:
        """Wake the sleeper, if there is one."""
        if (sleeper := self._sleeper) is not None:
            self._sleeper = None
            sleeper.succeed()


class Semaphores:
    """Posts of the 16 semaphores as the cycles in which they are visible, and the starts that took them.

    One queue alone lowers a semaphore, in order, so its n-th start that waits for it takes the n-th post.
    """

    __slots__ = ("posts", "takes")

    def __init__(self) -> None:
        self.posts: list[list[int]] = [[] for _ in range(SEMAPHORES)]
        self.takes: list[list[int]] = [[] for _ in range(SEMAPHORES)]


class Head:
    """A queue and the start condition of its unit (T4 to T6)."""

    __slots__ = ("_depth", "_room", "_semaphores", "_signal", "_wanted", "dispatched", "dones", "free",
                 "frees", "index", "missing", "ops", "stalls", "starts")

    def __init__(self, env: Environment, ops: list[Op], semaphores: Semaphores, *, room: Signal,
                 depth: int = 0) -> None:
        self.ops = ops
        self._semaphores, self._signal, self._room = semaphores, Signal(env), room
        self._wanted = UNKNOWN
        """The start that makes room for a dispatch which ``_room`` sleeps for."""
        self._depth = depth
        """Instructions that a DMA has in flight at most; 0: no bound."""
        self.index = 0
        """The instruction at the head."""
        self.free = 1
        """The unit may start from here on."""
        self.dispatched: list[int] = []
        self.starts: list[int] = []
        self.frees: list[int] = []
        self.dones: list[int] = []
        self.stalls = [0] * len(STALL_CAUSES)
        self.missing = UNKNOWN
        """What the next start depends on and is not known: a semaphore, _DISPATCH or _FLIGHT."""

    def begin(self) -> int:
        """The start of the next instruction, or UNKNOWN; counts its stalls (T5, T6)."""
        index, semaphores = self.index, self._semaphores
        if index >= len(self.dispatched):
            self.missing = _DISPATCH
            return UNKNOWN
        op, posts, takes = self.ops[index], semaphores.posts, semaphores.takes
        for _, semaphore in op.waits:
            if len(takes[semaphore]) >= len(posts[semaphore]):
                self.missing = semaphore
                return UNKNOWN
        in_flight = index - self._depth if self._depth else UNKNOWN
        if in_flight >= len(self.dones):
            self.missing = _FLIGHT
            return UNKNOWN
        # The unit's free cycles are cut by the times at which each condition, in order, became true.
        time, met, stalls = self.free, self.dispatched[index] + 1, self.stalls
        if met > time:  # T4
            stalls[_EMPTY] += met - time
            time = met
        for cause, semaphore in op.waits:
            met = posts[semaphore][len(takes[semaphore])]
            if met > time:
                stalls[cause] += met - time
                time = met
        if in_flight >= 0 and (met := self.dones[in_flight]) > time:
            stalls[_IN_FLIGHT] += met - time
            time = met
        for _, semaphore in op.waits:
            takes[semaphore].append(time)
        self.index = index + 1
        self.starts.append(time)
        if index == self._wanted:
            self._room.wake()
        return time

    def end(self, free: int) -> None:
        """The instruction just begun leaves its unit free from ``free`` on."""
        self.free = free
        self.frees.append(free)

    def sleep(self) -> Event:
        """An event for when ``begin`` should be tried again."""
        return self._signal.sleep()

    def sleep_for_room(self, index: int) -> Event:
        """An event for when the start of instruction ``index`` is known, for the dispatch."""
        self._wanted = index
        return self._room.sleep()

    def dispatch(self, cycle: int) -> None:
        """Another instruction has entered the queue (T3)."""
        self.dispatched.append(cycle)
        self._known(_DISPATCH)

    def posted(self, semaphore: int) -> None:
        """Posts of this semaphore are known."""
        self._known(semaphore)

    def done(self, cycle: int) -> None:
        """The next instruction's completion is known: in flight no more from ``cycle`` on (T12, T14)."""
        self.dones.append(cycle)
        self._known(_FLIGHT)

    def _known(self, what: int) -> None:
        if self.missing == what:
            self.missing = UNKNOWN
            self._signal.wake()
