"""Running, done, faults and the watchdog."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from systolith_hw.control.layouts import INDEX_BITS
from systolith_hw.isa import QUEUES
from systolith_hw.registers import FAULT_QUEUES, Fault

FAULT_SOURCES = (
    (Fault.BUS_READ_ERROR, "load"), (Fault.BUS_WRITE_ERROR, "store"), (Fault.BUS_FETCH_ERROR, "fetch"),
    (Fault.ILLEGAL_INSTRUCTION, "fetch"), (Fault.DATA_READ_CONFLICT, "store"),
    (Fault.DATA_WRITE_CONFLICT, "vector"), (Fault.ACCUMULATOR_CONFLICT, "vector"),
    *((Fault.SEMAPHORE_OVERFLOW, queue) for queue in QUEUES),
)
"""Faults that components raise, and the queue each is charged to; of several in one cycle the first is kept."""


class RunState(wiring.Component):
    """Whether the core runs, how the last run ended, and the fault that ended it.

    Members
    -------
    start : In(1), begin; ignored while running or faulted.
    finished : In(1), everything is done.
    raised : In, bit per entry of ``FAULT_SOURCES``; ``indices`` the instruction that each is charged to.
    fetched : In, the instruction to be dispatched next.
    waiting, heads : In, queues whose head waits, and the indices of the heads.
    progress : In(1), something moved in this cycle.
    watchdog : In(32), cycles without progress that end the run.
    began : Out(1), a run begins: the cycle 0 of the timing contract.
    running, done, faulted : Out(1).
    code, queue, index : Out, the fault.
    """

    start: Signal
    finished: Signal
    raised: Signal
    indices: data.View
    fetched: Signal
    waiting: Signal
    heads: data.View
    progress: Signal
    watchdog: Signal
    began: Signal
    running: Signal
    done: Signal
    faulted: Signal
    code: Signal
    queue: Signal
    index: Signal

    def __init__(self) -> None:
        super().__init__({
            "start": In(1), "finished": In(1), "raised": In(len(FAULT_SOURCES)),
            "indices": In(data.ArrayLayout(INDEX_BITS, len(FAULT_SOURCES))), "fetched": In(INDEX_BITS),
            "waiting": In(len(QUEUES)), "heads": In(data.ArrayLayout(INDEX_BITS, len(QUEUES))),
            "progress": In(1), "watchdog": In(32), "began": Out(1), "running": Out(1), "done": Out(1),
            "faulted": Out(1), "code": Out(8), "queue": Out(3), "index": Out(INDEX_BITS),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        quiet = Signal(32)
        expired = Signal()
        m.d.comb += [
            self.began.eq(self.start & ~self.running & ~self.faulted),
            expired.eq(self.running & (quiet >= self.watchdog)),
        ]
        m.d.sync += quiet.eq(Mux(self.progress | ~self.running, 0, quiet + 1))
        with m.If(self.began):
            m.d.sync += [self.running.eq(1), self.done.eq(0)]
        with m.If(self.running & self.finished):
            m.d.sync += [self.running.eq(0), self.done.eq(1)]
        with m.If(expired):
            m.d.sync += [self.code.eq(Fault.DEADLOCK), self.queue.eq(FAULT_QUEUES.index("fetch")),
                         self.index.eq(self.fetched)]
            for number in reversed(range(len(QUEUES))):
                with m.If(self.waiting[number]):
                    m.d.sync += [self.queue.eq(number), self.index.eq(self.heads[number])]
        for number, (code, queue) in reversed(list(enumerate(FAULT_SOURCES))):
            with m.If(self.raised[number] & self.running):
                m.d.sync += [self.code.eq(code), self.queue.eq(FAULT_QUEUES.index(queue)),
                             self.index.eq(self.indices[number])]
        with m.If(self.running & Cat(expired, self.raised).any()):
            m.d.sync += [self.running.eq(0), self.faulted.eq(1), self.done.eq(0)]
        return m
