"""The matmul unit: weight groups and activation rows in time, sums to the accumulator (timing, rules T7 to T9)."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from systolith_hw.config import SEMAPHORES_PER_QUEUE, CoreConfig
from systolith_hw.control.layouts import instruction_layout
from systolith_hw.control.unit import UnitFace, UnitSignature, in_flight
from systolith_hw.isa import Opcode
from systolith_hw.pipe import delayed
from systolith_hw.timing import accumulate_latency, array_latency, read_latency, stream_delay


class WeightSequencer(wiring.Component):
    """Counts the passes of a matmul and reads the weight groups of each at its beginning.

    Members
    -------
    instruction, start, free : as in the unit's face.
    r_en, r_address, r_group : Out, read of a weight group, byte address and number in its tile.
    current, period_less_one : Out, the instruction being executed and the cycles of its passes.
    """

    instruction: data.View
    start: Signal
    free: Signal
    r_en: Signal
    r_address: Signal
    r_group: Signal
    current: data.View
    period_less_one: Signal

    def __init__(self, *, core: CoreConfig) -> None:
        self.core = core
        layout = instruction_layout(core, Opcode.MATMUL)
        super().__init__({
            "instruction": In(layout), "start": In(1), "free": Out(1),
            "r_en": Out(1), "r_address": Out((core.weight_bytes - 1).bit_length()),
            "r_group": Out(range(core.sizes.weight_groups)), "current": Out(layout), "period_less_one": Out(16),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        core, current, new = self.core, self.current, self.instruction
        groups = core.sizes.weight_groups
        least = max(groups, accumulate_latency(core))
        active, reading, phase = Signal(), Signal(), Signal(16)
        k_left, n_left = Signal.like(new.k_tiles), Signal.like(new.n_tiles)
        tile = Signal.like(self.r_address)
        pass_end, tile_end, end = Signal(), Signal(), Signal()
        m.d.comb += [
            pass_end.eq(active & (phase == 0)), tile_end.eq(pass_end & (k_left == 1)),
            end.eq(tile_end & (n_left == 1)), self.free.eq(~active | end), self.r_en.eq(active & reading),
        ]
        m.d.sync += phase.eq(phase - 1)
        with m.If(self.r_en):
            m.d.sync += [self.r_group.eq(self.r_group + 1), reading.eq(self.r_group != groups - 1),
                         self.r_address.eq(self.r_address + current.weight_stride)]
        with m.If(pass_end):
            m.d.sync += [phase.eq(self.period_less_one), reading.eq(1), self.r_group.eq(0), k_left.eq(k_left - 1)]
        with m.If(tile_end):
            m.d.sync += [k_left.eq(current.k_tiles), n_left.eq(n_left - 1),
                         tile.eq(tile + core.sizes.weight_group_bytes),
                         self.r_address.eq(tile + core.sizes.weight_group_bytes)]
        with m.If(end):
            m.d.sync += active.eq(0)
        period = Signal(16)
        m.d.comb += period.eq(Mux(new.m > least, new.m - 1, least - 1))
        with m.If(self.start):
            m.d.sync += [
                current.eq(new), active.eq(1), reading.eq(1), self.r_group.eq(0), phase.eq(period),
                self.period_less_one.eq(period), k_left.eq(new.k_tiles), n_left.eq(new.n_tiles),
                tile.eq(new.weight_address), self.r_address.eq(new.weight_address),
            ]
        return m


class StreamSequencer(wiring.Component):
    """Reads the activation rows of each pass, one weight tile behind the weights.

    Members
    -------
    instruction, period_less_one : In, what to stream; taken in the cycle of ``start``.
    start : In(1), the first row is read in the next cycle.
    r_en, r_address, r_signed : Out, read of a row.
    first_row : Out(1), this row is the first of a pass.
    acc_address, accumulate : Out, where this row's sums go, and whether they are added to what is there.
    post : Out, semaphores to raise once this row has been added; ``last`` marks the instruction's last row.
    """

    instruction: data.View
    period_less_one: Signal
    start: Signal
    r_en: Signal
    r_address: Signal
    r_signed: Signal
    first_row: Signal
    acc_address: Signal
    accumulate: Signal
    post: Signal
    last: Signal

    def __init__(self, *, core: CoreConfig) -> None:
        self.core = core
        super().__init__({
            "instruction": In(instruction_layout(core, Opcode.MATMUL)), "period_less_one": In(16), "start": In(1),
            "r_en": Out(1), "r_address": Out((core.data_bytes - 1).bit_length()), "r_signed": Out(1),
            "first_row": Out(1), "acc_address": Out((core.acc_banks * core.acc_rows - 1).bit_length()),
            "accumulate": Out(1), "post": Out(SEMAPHORES_PER_QUEUE), "last": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        core, new = self.core, self.instruction
        current = Signal(instruction_layout(core, Opcode.MATMUL))
        period, phase = Signal(16), Signal(16)
        active, streaming, first_tile = Signal(), Signal(), Signal()
        rows_left, k_left, n_left = Signal.like(new.m), Signal.like(new.k_tiles), Signal.like(new.n_tiles)
        pass_base, acc_base = Signal.like(self.r_address), Signal.like(self.acc_address)
        next_base, next_acc = Signal.like(pass_base), Signal.like(acc_base)
        row_end, pass_end, tile_end, end = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            row_end.eq(rows_left == 1), pass_end.eq(active & (phase == 0)),
            tile_end.eq(k_left == 1), end.eq(tile_end & (n_left == 1)),
            self.r_en.eq(active & streaming), self.r_signed.eq(current.signed),
            self.first_row.eq(self.r_en & (rows_left == current.m)),
            self.accumulate.eq(~first_tile | current.accumulate),
            self.post.eq(Mux(self.r_en & row_end & tile_end, current.post, 0)),
            self.last.eq(self.r_en & row_end & end),
            next_base.eq(Mux(tile_end, current.data_address, pass_base + core.rows)),
            next_acc.eq(Mux(tile_end, acc_base + current.acc_stride, acc_base)),
        ]
        m.d.sync += phase.eq(phase - 1)
        with m.If(self.r_en):
            m.d.sync += [rows_left.eq(rows_left - 1), streaming.eq(~row_end),
                         self.r_address.eq(self.r_address + current.data_stride),
                         self.acc_address.eq(self.acc_address + 1)]
        with m.If(pass_end):
            m.d.sync += [
                phase.eq(period), streaming.eq(1), rows_left.eq(current.m), active.eq(~end),
                k_left.eq(Mux(tile_end, current.k_tiles, k_left - 1)), n_left.eq(n_left - tile_end),
                first_tile.eq(tile_end), pass_base.eq(next_base), self.r_address.eq(next_base),
                acc_base.eq(next_acc), self.acc_address.eq(next_acc),
            ]
        with m.If(self.start):
            m.d.sync += [
                current.eq(new), period.eq(self.period_less_one), phase.eq(self.period_less_one), active.eq(1),
                streaming.eq(1), first_tile.eq(1), rows_left.eq(new.m), k_left.eq(new.k_tiles),
                n_left.eq(new.n_tiles), pass_base.eq(new.data_address), self.r_address.eq(new.data_address),
                acc_base.eq(new.acc_address), self.acc_address.eq(new.acc_address),
            ]
        return m


class MatmulUnit(wiring.Component):
    """The two sequencers, one tile apart, and the control that follows each row through the array.

    Members
    -------
    unit : the face to the queue.
    w_en, w_address : Out, read of a weight group; ``w_valid``, ``w_group`` go with its bytes to the array.
    a_en, a_address : Out, read of an activation row; ``a_signed`` goes with its bytes, ``swap`` one cycle ahead.
    acc_en, acc_address, acc_accumulate : Out, ``memory_latency`` cycles before the row's sums leave the array.
    """

    unit: UnitFace
    w_en: Signal
    w_address: Signal
    w_valid: Signal
    w_group: Signal
    a_en: Signal
    a_address: Signal
    a_signed: Signal
    swap: Signal
    acc_en: Signal
    acc_address: Signal
    acc_accumulate: Signal

    def __init__(self, *, core: CoreConfig) -> None:
        self.core = core
        super().__init__({
            "unit": Out(UnitSignature(core=core, opcode=Opcode.MATMUL)),
            "w_en": Out(1), "w_address": Out((core.weight_bytes - 1).bit_length()),
            "w_valid": Out(1), "w_group": Out(range(core.sizes.weight_groups)),
            "a_en": Out(1), "a_address": Out((core.data_bytes - 1).bit_length()), "a_signed": Out(1),
            "swap": Out(1), "acc_en": Out(1),
            "acc_address": Out((core.acc_banks * core.acc_rows - 1).bit_length()), "acc_accumulate": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        core, unit = self.core, self.unit
        groups, ahead = core.sizes.weight_groups, read_latency(core)
        m.submodules.weights = weights = WeightSequencer(core=core)
        m.submodules.rows = rows = StreamSequencer(core=core)
        staged, staged_period = Signal(weights.current.shape()), Signal(16)
        stage, follow = delayed(m, unit.start, groups, name="stage"), Signal()
        m.d.sync += follow.eq(stage)
        with m.If(stage):
            m.d.sync += [staged.eq(weights.current), staged_period.eq(weights.period_less_one)]
        m.d.comb += [
            weights.instruction.eq(unit.instruction), weights.start.eq(unit.start), unit.free.eq(weights.free),
            unit.room.eq(1),
            rows.instruction.eq(staged), rows.period_less_one.eq(staged_period), rows.start.eq(follow),
            self.w_en.eq(weights.r_en), self.w_address.eq(weights.r_address),
            self.w_valid.eq(delayed(m, weights.r_en, ahead, name="w_valid")),
            self.w_group.eq(delayed(m, weights.r_group, ahead, name="w_group")),
            self.a_en.eq(rows.r_en), self.a_address.eq(rows.r_address),
            self.a_signed.eq(delayed(m, rows.r_signed, ahead, name="a_signed")),
            self.swap.eq(delayed(m, rows.first_row, ahead - 1, name="swap")),
        ]
        self._follow(m, rows)
        return m

    def _follow(self, m: Module, rows: StreamSequencer) -> None:
        """What must arrive at the accumulator, and the posts, beside the row."""
        core, unit = self.core, self.unit
        to_sums = read_latency(core) + array_latency(core)
        control = data.StructLayout({
            "valid": 1, "accumulate": 1, "address": len(rows.acc_address),
            "post": SEMAPHORES_PER_QUEUE, "last": 1})
        entry = Signal(control)
        m.d.comb += [
            entry.valid.eq(rows.r_en), entry.accumulate.eq(rows.accumulate), entry.address.eq(rows.acc_address),
            entry.post.eq(rows.post), entry.last.eq(rows.last),
        ]
        at_read = Signal(control)
        m.d.comb += [
            at_read.eq(delayed(m, entry.as_value(), to_sums - core.memory_latency, name="row")),
            self.acc_en.eq(at_read.valid), self.acc_address.eq(at_read.address),
            self.acc_accumulate.eq(at_read.accumulate),
            Cat(unit.post, unit.complete).eq(
                delayed(m, Cat(at_read.post, at_read.last), core.memory_latency, name="post")),
        ]
        flight = (to_sums + stream_delay(core)) // accumulate_latency(core) + 2
        in_flight(m, unit, depth=flight)
