"""The vector unit: accumulator rows, requantized, to the data scratchpad (timing, rules T10 and T11)."""

from amaranth import Array, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from systolith_hw.arith.requantizer import Requantizer
from systolith_hw.arith.table import TableFunction
from systolith_hw.config import SEMAPHORES_PER_QUEUE, TABLE_BYTES, CoreConfig
from systolith_hw.control.layouts import INDEX_BITS, instruction_layout
from systolith_hw.control.unit import UnitFace, UnitSignature, in_flight
from systolith_hw.isa import Opcode
from systolith_hw.pipe import delayed, marks, taps
from systolith_hw.timing import requantize_latency, table_latency


class VectorSequencer(wiring.Component):
    """Counts rows and groups of lanes.

    Members
    -------
    instruction, start, free : as in the unit's face.
    current : Out, the instruction being executed.
    en : Out(1), a group is treated; ``group`` its number, ``row_begin``, ``row_end``, ``last`` its place.
    acc_address, parameter_address, data_address : Out, of this row, this group, this row.
    """

    instruction: data.View
    start: Signal
    free: Signal
    current: data.View
    en: Signal
    group: Signal
    row_begin: Signal
    row_end: Signal
    last: Signal
    acc_address: Signal
    parameter_address: Signal
    data_address: Signal

    def __init__(self, *, core: CoreConfig) -> None:
        self.core = core
        layout = instruction_layout(core, Opcode.VECTOR)
        members = layout.members
        super().__init__({
            "instruction": In(layout), "start": In(1), "free": Out(1), "current": Out(layout),
            "en": Out(1), "group": Out(range(core.sizes.requant_groups)), "row_begin": Out(1), "row_end": Out(1),
            "last": Out(1), "acc_address": Out(members["acc_address"]),
            "parameter_address": Out(members["parameter_address"]),
            "data_address": Out(members["data_address"]),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        core, new, current = self.core, self.instruction, self.current
        active = Signal()
        rows_left, columns_left = Signal.like(new.m), Signal.like(new.n)
        m.d.comb += [
            self.free.eq(~active | self.last), self.en.eq(active), self.row_begin.eq(self.group == 0),
            self.row_end.eq(columns_left <= core.requant_lanes),
            self.last.eq(active & self.row_end & (rows_left == 1)),
        ]
        with m.If(active):
            m.d.sync += [columns_left.eq(columns_left - core.requant_lanes), self.group.eq(self.group + 1),
                         self.parameter_address.eq(self.parameter_address + core.sizes.parameter_word_bytes)]
            with m.If(self.row_end):
                m.d.sync += [
                    columns_left.eq(current.n), self.group.eq(0), rows_left.eq(rows_left - 1),
                    self.parameter_address.eq(current.parameter_address),
                    self.acc_address.eq(self.acc_address + 1),
                    self.data_address.eq(self.data_address + current.data_stride),
                ]
            with m.If(self.last):
                m.d.sync += active.eq(0)
        with m.If(self.start):
            m.d.sync += [
                current.eq(new), active.eq(1), rows_left.eq(new.m), columns_left.eq(new.n), self.group.eq(0),
                self.acc_address.eq(new.acc_address), self.parameter_address.eq(new.parameter_address),
                self.data_address.eq(new.data_address),
            ]
        return m


class VectorUnit(wiring.Component):
    """Row register, group register, lanes with tables, collector, aligner.

    Members
    -------
    unit : the face to the queue.
    acc_en, acc_address : Out, read of an accumulator row; ``acc_data`` follows ``memory_latency`` cycles later.
    acc_index : Out, the instruction that reads.
    parameter_en, parameter_word : Out, read of a word of parameters; ``parameters`` follow likewise.
    table_en, table_address, table_data : In, a loaded word for the tables.
    w_en, w_address, w_data, w_count : Out, write of ``w_count`` bytes at a byte address.
    w_index : Out, the instruction that writes.
    """

    unit: UnitFace
    acc_en: Signal
    acc_address: Signal
    acc_data: data.View
    acc_index: Signal
    parameter_en: Signal
    parameter_word: Signal
    parameters: Signal
    table_en: Signal
    table_address: Signal
    table_data: Signal
    w_en: Signal
    w_address: Signal
    w_data: Signal
    w_count: Signal
    w_index: Signal

    def __init__(self, *, core: CoreConfig) -> None:
        self.core = core
        sizes = core.sizes
        table_words = core.table_slots * TABLE_BYTES // core.port_bytes
        super().__init__({
            "unit": Out(UnitSignature(core=core, opcode=Opcode.VECTOR)),
            "acc_en": Out(1), "acc_address": Out((core.acc_banks * core.acc_rows - 1).bit_length()),
            "acc_data": In(data.ArrayLayout(signed(32), core.cols)), "acc_index": Out(INDEX_BITS),
            "parameter_en": Out(1),
            "parameter_word": Out(range(core.parameter_bytes // sizes.parameter_word_bytes)),
            "parameters": In(8 * sizes.parameter_word_bytes),
            "table_en": In(1), "table_address": In(range(table_words)), "table_data": In(8 * core.port_bytes),
            "w_en": Out(1), "w_address": Out((core.data_bytes - 1).bit_length()), "w_data": Out(8 * core.cols),
            "w_count": Out(range(core.cols + 1)), "w_index": Out(INDEX_BITS),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        core, unit = self.core, self.unit
        to_lanes = core.memory_latency + 2
        through = requantize_latency(core) + table_latency(core)
        m.submodules.sequencer = sequencer = VectorSequencer(core=core)
        valid = marks(m, sequencer.en, to_lanes + through, name="valid")
        m.d.comb += [
            sequencer.instruction.eq(unit.instruction), sequencer.start.eq(unit.start),
            unit.free.eq(sequencer.free), unit.room.eq(1), self.acc_index.eq(sequencer.current.index),
            self.acc_en.eq(sequencer.en & sequencer.row_begin), self.acc_address.eq(sequencer.acc_address),
            self.parameter_en.eq(valid[2]),
            self.parameter_word.eq(delayed(
                m, sequencer.parameter_address[(core.sizes.parameter_word_bytes - 1).bit_length():], 2,
                name="parameter_word", data=True)),
        ]
        m.d.sync += self.w_index.eq(unit.index)
        in_flight(m, unit, depth=to_lanes + through + 3)
        lanes = self._lanes(m, sequencer, valid, to_lanes)
        self._collect(m, sequencer, valid, lanes, to_lanes + through)
        return m

    def _lanes(self, m: Module, sequencer: VectorSequencer, valid: list[Value], to_lanes: int) -> list[Signal]:
        """From accumulator rows to bytes, ``requant_lanes`` at a time."""
        core, current = self.core, sequencer.current
        row = Signal(self.acc_data.shape(), reset_less=True)
        group = [Signal(signed(32), name=f"group_{lane}", reset_less=True) for lane in range(core.requant_lanes)]
        loaded = delayed(m, self.acc_en, core.memory_latency, name="loaded")
        number = delayed(m, sequencer.group, core.memory_latency + 1, name="number", data=True)
        with m.If(loaded):
            m.d.sync += row.eq(self.acc_data)
        for lane in range(core.requant_lanes):
            columns = [row[min(g * core.requant_lanes + lane, core.cols - 1)]
                       for g in range(core.sizes.requant_groups)]
            with m.If(valid[core.memory_latency + 1]):
                m.d.sync += group[lane].eq(Array(columns)[number])
        at_table = to_lanes + requantize_latency(core)
        settings = taps(m, Cat(current.zero_point, current.use_table, current.table), at_table, name="settings",
                        data=True)
        zero_point, choice = settings[to_lanes][:8].as_signed(), settings[at_table][8:]
        out = []
        for lane in range(core.requant_lanes):
            m.submodules[f"lane_{lane}"] = requantizer = Requantizer(multiplier_latency=core.multiplier_latency)
            m.submodules[f"table_{lane}"] = table = TableFunction(
                slots=core.table_slots, port_bytes=core.port_bytes, memory_latency=core.memory_latency)
            word = self.parameters[64 * lane:64 * lane + 64]
            m.d.comb += [
                requantizer.en.eq(valid[to_lanes]), requantizer.i.acc.eq(group[lane]), requantizer.i.bias.eq(word[:32]),
                requantizer.i.mantissa.eq(word[32:48]), requantizer.i.shift.eq(word[48:54]),
                requantizer.i.zero_point.eq(zero_point),
                table.i.eq(requantizer.o), table.use.eq(choice[0] & valid[at_table]), table.slot.eq(choice[1:]),
                table.w_en.eq(self.table_en), table.w_address.eq(self.table_address),
                table.w_data.eq(self.table_data),
            ]
            out.append(table.o)
        return out

    def _collect(self, m: Module, sequencer: VectorSequencer, valid: list[Value], lanes: list[Signal], latency: int
                 ) -> None:
        """Groups of bytes to rows, rows to the scratchpad, and the post one cycle ahead of the write."""
        core, unit, current = self.core, self.unit, sequencer.current
        control = data.StructLayout({
            "row_end": 1, "last": 1, "group": len(sequencer.group), "count": len(self.w_count),
            "address": len(self.w_address), "post": SEMAPHORES_PER_QUEUE})
        entry, arrived, collected = Signal(control), Signal(control), Signal(control, reset_less=True)
        ended = Signal()
        m.d.comb += [
            entry.row_end.eq(sequencer.row_end),
            entry.last.eq(sequencer.last), entry.group.eq(sequencer.group), entry.count.eq(current.n),
            entry.address.eq(sequencer.data_address), entry.post.eq(Mux(sequencer.last, current.post, 0)),
            arrived.eq(delayed(m, entry.as_value(), latency, name="group", data=True)),
            Cat(unit.post, unit.complete).eq(Mux(ended, Cat(collected.post, collected.last), 0)),
        ]
        width = 8 * core.requant_lanes
        bytes_ = [Signal(width, name=f"bytes_{number}", reset_less=True) for number in range(core.sizes.requant_groups)]
        for number, group in enumerate(bytes_):
            with m.If(valid[latency] & (arrived.group == number)):
                m.d.sync += group.eq(Cat(*lanes))
        out = Signal(data.StructLayout({"address": len(self.w_address), "count": len(self.w_count),
                                        "data": len(self.w_data)}), reset_less=True)
        m.d.sync += [ended.eq(valid[latency] & arrived.row_end), self.w_en.eq(ended)]
        with m.If(valid[latency]):
            m.d.sync += collected.eq(arrived)
        with m.If(ended):
            m.d.sync += [out.address.eq(collected.address), out.count.eq(collected.count),
                         out.data.eq(Cat(*bytes_))]
        m.d.comb += [self.w_address.eq(out.address), self.w_count.eq(out.count), self.w_data.eq(out.data)]


