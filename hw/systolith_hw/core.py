"""Core: the accelerator, with an AXI4 memory port and an AXI4-Lite control port."""

from amaranth import Cat, Module, Mux, ResetInserter, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from systolith_hw.array.systolic_array import SystolicArray
from systolith_hw.config import CoreConfig
from systolith_hw.control.counters import COUNTERS, Counters
from systolith_hw.control.faults import FAULT_SOURCES, RunState
from systolith_hw.control.fetch import Fetch
from systolith_hw.control.issue import Issue
from systolith_hw.control.layouts import INDEX_BITS
from systolith_hw.control.matmul import MatmulUnit
from systolith_hw.control.port import ControlPort
from systolith_hw.control.semaphores import Semaphores
from systolith_hw.isa import QUEUES, Memory, Opcode
from systolith_hw.memory.accumulator import Accumulator
from systolith_hw.memory.axi import Axi4, Axi4Port, AxiLite, AxiLitePort
from systolith_hw.memory.data import DataScratchpad
from systolith_hw.memory.load import LoadUnit
from systolith_hw.memory.port import MemoryPort
from systolith_hw.memory.ram import Ram
from systolith_hw.memory.store import StoreUnit
from systolith_hw.memory.weights import WeightScratchpad
from systolith_hw.registers import Fault
from systolith_hw.vector.unit import VectorUnit

Units = tuple[LoadUnit, MatmulUnit, VectorUnit, StoreUnit]
"""What the four queues feed, in the order of ``QUEUES``."""


class Core(wiring.Component):
    """The accelerator.

    Members
    -------
    m_axi : Out(Axi4), memory; docs/contracts/memory.md.
    s_axil : In(AxiLite), control; ``systolith_hw.registers``.
    interrupt : Out(1), done or faulted, while enabled.
    """

    m_axi: Axi4Port
    s_axil: AxiLitePort
    interrupt: Signal

    def __init__(self, core: CoreConfig) -> None:
        self.core = core
        super().__init__({"m_axi": Out(Axi4(data_bytes=core.port_bytes)), "s_axil": In(AxiLite()),
                          "interrupt": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.control = control = ControlPort(watchdog_cycles=self.core.watchdog_cycles)
        engine = Engine(self.core)
        # After a fault the host clears everything but its registers, once no burst is outstanding. A cycle late, to cut
        # the path: who asks for the port in this cycle would own it in the next.
        quiet = Signal()
        m.d.sync += quiet.eq(engine.quiet)
        m.submodules.engine = ResetInserter(control.clear & quiet & engine.faulted)(engine)
        wiring.connect(m, engine.m_axi, wiring.flipped(self.m_axi))
        wiring.connect(m, wiring.flipped(self.s_axil), control.bus)
        m.d.comb += [
            engine.start.eq(control.start), engine.program_address.eq(control.program_address),
            engine.program_count.eq(control.program_count), engine.watchdog.eq(control.watchdog),
            control.status.eq(Cat(engine.running, engine.done, engine.faulted, quiet,
                                  Signal(4), engine.code, engine.queue)),
            control.fault_instruction.eq(engine.index), control.cycles.eq(engine.cycles),
            control.counts.eq(engine.counts), control.first_row.eq(engine.first_row),
            control.last_row.eq(engine.last_row),
            self.interrupt.eq(control.interrupt_enable & (engine.done | engine.faulted)),
        ]
        return m


class Engine(wiring.Component):
    """Everything but the control registers.

    Members
    -------
    m_axi : Out(Axi4).
    start, program_address, program_count, watchdog : In, from the control port.
    running, done, faulted, code, queue, index : Out, state of the run.
    quiet : Out(1), no burst is outstanding and no transfer waits.
    cycles, first_row, last_row, counts : Out, counters.
    """

    m_axi: Axi4Port
    start: Signal
    program_address: Signal
    program_count: Signal
    watchdog: Signal
    quiet: Signal
    running: Signal
    done: Signal
    faulted: Signal
    code: Signal
    queue: Signal
    index: Signal
    cycles: Signal
    first_row: Signal
    last_row: Signal
    counts: data.View

    def __init__(self, core: CoreConfig) -> None:
        self.core = core
        super().__init__({
            "m_axi": Out(Axi4(data_bytes=core.port_bytes)), "start": In(1), "program_address": In(32),
            "program_count": In(INDEX_BITS), "watchdog": In(32), "quiet": Out(1),
            "running": Out(1), "done": Out(1), "faulted": Out(1), "code": Out(8), "queue": Out(3),
            "index": Out(INDEX_BITS), "cycles": Out(32), "first_row": Out(32), "last_row": Out(32),
            "counts": Out(data.ArrayLayout(32, len(COUNTERS))),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        core = self.core
        m.submodules.fetch = fetch = Fetch(core=core)
        m.submodules.load = load = LoadUnit(core=core)
        m.submodules.matmul = matmul = MatmulUnit(core=core)
        m.submodules.vector = vector = VectorUnit(core=core)
        m.submodules.store = store = StoreUnit(core=core)
        m.submodules.state = state = RunState()
        units = (load, matmul, vector, store)
        scratchpad = self._data(m, load, matmul, vector, store)
        accumulator = self._compute(m, load, matmul, vector, scratchpad)
        port = self._port(m, fetch, load, store)
        issues, semaphores = self._queues(m, fetch, units, state)
        self._run(m, fetch, units, issues, state, port)
        self._faults(m, state, fetch, units, scratchpad, accumulator, semaphores)
        return m

    def _data(self, m: Module, load: LoadUnit, matmul: MatmulUnit, vector: VectorUnit, store: StoreUnit
              ) -> DataScratchpad:
        """The data scratchpad between its two readers and two writers."""
        m.submodules.data = pad = DataScratchpad(core=self.core)
        m.d.comb += [
            pad.a_en.eq(matmul.a_en), pad.a_address.eq(matmul.a_address),
            pad.s_en.eq(store.r_en), pad.s_address.eq(store.r_address), store.r_data.eq(pad.s_data),
            pad.l_en.eq(load.w_en & (load.w_memory == Memory.DATA)), pad.l_address.eq(load.w_address),
            pad.l_data.eq(load.w_data),
            pad.v_en.eq(vector.w_en), pad.v_address.eq(vector.w_address), pad.v_data.eq(vector.w_data),
            pad.v_count.eq(vector.w_count),
        ]
        return pad

    def _compute(self, m: Module, load: LoadUnit, matmul: MatmulUnit, vector: VectorUnit, pad: DataScratchpad
                 ) -> Accumulator:
        """Weights, array, accumulator, parameters and tables."""
        core, sizes = self.core, self.core.sizes
        m.submodules.weights = weights = WeightScratchpad(core=core)
        m.submodules.array = array = SystolicArray(
            rows=core.rows, cols=core.cols, weight_rows_per_cycle=core.weight_rows_per_cycle,
            multiplier_latency=core.multiplier_latency)
        m.submodules.accumulator = accumulator = Accumulator(core=core)
        parameter_beats = sizes.parameter_word_bytes // core.port_bytes
        m.submodules.parameters = parameters = Ram(
            width=8 * sizes.parameter_word_bytes, depth=core.parameter_bytes // sizes.parameter_word_bytes,
            latency=core.memory_latency, granularity=8 * core.port_bytes)
        beat_bits = (parameter_beats - 1).bit_length()
        m.d.comb += [
            weights.r_en.eq(matmul.w_en), weights.r_address.eq(matmul.w_address),
            weights.l_en.eq(load.w_en & (load.w_memory == Memory.WEIGHT)),
            weights.l_address.eq(load.w_address), weights.l_data.eq(load.w_data),
            array.w_valid.eq(matmul.w_valid), array.w_group.eq(matmul.w_group), array.w.eq(weights.r_data),
            array.swap.eq(matmul.swap),
            accumulator.en.eq(matmul.acc_en), accumulator.address.eq(matmul.acc_address),
            accumulator.accumulate.eq(matmul.acc_accumulate), accumulator.sums.eq(array.o),
            accumulator.v_en.eq(vector.acc_en), accumulator.v_address.eq(vector.acc_address),
            vector.acc_data.eq(accumulator.v_data),
            parameters.r_en.eq(vector.parameter_en), parameters.r_address.eq(vector.parameter_word),
            vector.parameters.eq(parameters.r_data),
            parameters.w_en.eq(Mux(load.w_en & (load.w_memory == Memory.PARAMETER),
                                   1 << load.w_address[:beat_bits], 0)),
            parameters.w_address.eq(load.w_address[beat_bits:]),
            parameters.w_data.eq(load.w_data.replicate(parameter_beats)),
            vector.table_en.eq(load.w_en & (load.w_memory == Memory.TABLE)),
            vector.table_address.eq(load.w_address), vector.table_data.eq(load.w_data),
        ]
        for row in range(core.rows):
            byte = pad.a_data[8 * row:8 * row + 8]
            m.d.comb += array.a[row].eq(Cat(byte, byte[7] & matmul.a_signed))
        return accumulator

    def _port(self, m: Module, fetch: Fetch, load: LoadUnit, store: StoreUnit) -> MemoryPort:
        """The memory port among fetch, load and store."""
        m.submodules.port = port = MemoryPort(core=self.core)
        wiring.connect(m, port.bus, wiring.flipped(self.m_axi))
        wiring.connect(m, load.bursts, port.load)
        m.d.comb += [
            port.fetch_request.eq(fetch.request), port.fetch_address.eq(fetch.chunk_address),
            port.fetch_beats_less_one.eq(fetch.beats_less_one), fetch.accepted.eq(port.fetch_accepted),
            port.store_request.eq(store.request), store.owner.eq(port.store_owner),
            port.store_burst.eq(store.burst), port.store_valid.eq(store.address_valid),
            store.address_ready.eq(port.store_ready), port.store_last.eq(store.last),
            port.w_valid.eq(store.w_valid), store.w_ready.eq(port.w_ready), port.w_data.eq(store.w_data),
            port.w_last.eq(store.w_last),
            fetch.beat_valid.eq(port.fetch_beat), fetch.beat_data.eq(port.beat_data),
            fetch.beat_response.eq(port.beat_response),
            load.beat_valid.eq(port.load_beat), load.beat_data.eq(port.beat_data),
            load.beat_response.eq(port.beat_response),
            store.response_valid.eq(port.answer), store.response.eq(port.answer_response),
            self.quiet.eq(port.quiet),
        ]
        return port

    def _queues(self, m: Module, fetch: Fetch, units: Units, state: RunState) -> tuple[list[Issue], Semaphores]:
        m.submodules.semaphores = semaphores = Semaphores()
        issues = []
        for opcode, unit in zip(Opcode, units, strict=True):
            name = opcode.name.lower()
            m.submodules[f"{name}_queue"] = issue = Issue(core=self.core, opcode=opcode)
            wiring.connect(m, getattr(fetch, name), issue.i)
            wiring.connect(m, issue.unit, unit.unit)
            m.d.comb += [issue.run.eq(state.running), issue.up.eq(semaphores.up)]
            issues.append(issue)
        m.d.comb += [
            semaphores.clear.eq(state.began), semaphores.post.eq(Cat(*(unit.unit.post for unit in units))),
            semaphores.lower.eq(issues[0].lower | issues[1].lower | issues[2].lower | issues[3].lower),
        ]
        return issues, semaphores

    def _run(self, m: Module, fetch: Fetch, units: Units, issues: list[Issue], state: RunState, port: MemoryPort
             ) -> None:
        """Begin, count, end."""
        pending = Signal(16)
        completes = Cat(*(unit.unit.complete for unit in units))
        m.submodules.counters = counters = Counters()
        with m.If(fetch.dispatched | completes.any()):
            m.d.sync += pending.eq(pending + fetch.dispatched - sum(completes))
        m.d.comb += [
            state.start.eq(self.start), state.watchdog.eq(self.watchdog),
            state.finished.eq(fetch.finished & (pending == 0)),
            state.progress.eq(fetch.dispatched | port.moved | completes.any() | ~units[1].unit.free
                              | ~units[2].unit.free | Cat(*(unit.unit.start for unit in units)).any()),
            fetch.start.eq(state.began), fetch.run.eq(state.running), fetch.address.eq(self.program_address),
            fetch.count.eq(self.program_count),
            counters.clear.eq(state.began), counters.run.eq(state.running),
            counters.events.eq(Cat(*(Cat(issue.busy, issue.stall) for issue in issues))),
            self.cycles.eq(counters.cycles), self.counts.eq(counters.counts), counters.row.eq(units[1].a_en),
            self.first_row.eq(counters.first_row), self.last_row.eq(counters.last_row),
            *(getattr(self, name).eq(getattr(state, name))
              for name in ("running", "done", "faulted", "code", "queue", "index")),
            state.waiting.eq(Cat(*(issue.waiting for issue in issues))),
            *(state.heads[number].eq(issue.index) for number, issue in enumerate(issues)),
        ]

    def _faults(self, m: Module, state: RunState, fetch: Fetch, units: Units, pad: DataScratchpad,
                accumulator: Accumulator, semaphores: Semaphores) -> None:
        """Each fault with the instruction it is charged to."""
        load, _, vector, store = units
        sources = {
            Fault.BUS_READ_ERROR: (load.error, load.unit.index),
            Fault.BUS_WRITE_ERROR: (store.error, store.unit.index),
            Fault.BUS_FETCH_ERROR: (fetch.error, fetch.received),
            Fault.ILLEGAL_INSTRUCTION: (fetch.illegal, fetch.index),
            Fault.DATA_READ_CONFLICT: (pad.read_conflict, store.r_index),
            Fault.DATA_WRITE_CONFLICT: (pad.write_conflict, vector.w_index),
            Fault.ACCUMULATOR_CONFLICT: (accumulator.conflict, vector.acc_index),
        }
        m.d.comb += state.fetched.eq(fetch.index)
        for number, (code, queue) in enumerate(FAULT_SOURCES):
            if code is Fault.SEMAPHORE_OVERFLOW:
                place = QUEUES.index(queue)
                raised, index = semaphores.overflow[place], units[place].unit.index
            else:
                raised, index = sources[code]
            m.d.comb += [state.raised[number].eq(raised), state.indices[number].eq(index)]
