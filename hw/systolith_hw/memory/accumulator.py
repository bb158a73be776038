"""The accumulator: banks of rows of 32-bit sums, updated by the array, read by the vector unit."""

from amaranth import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from systolith_hw.config import CoreConfig
from systolith_hw.memory.ram import Ram
from systolith_hw.pipe import delayed


class Accumulator(wiring.Component):
    """Adds rows of sums to stored rows, or stores them.

    Members
    -------
    en, address, accumulate : In, a row that arrives at ``sums`` ``memory_latency`` cycles later; it is stored in
        the cycle after that, so a read two cycles after its arrival sees it (``accumulate_latency``).
    sums : In, the array's output.
    v_en, v_address : In, read by the vector unit; ``v_data`` follows ``memory_latency`` cycles later.
    conflict : Out(1), both read the same bank in this cycle.
    """

    en: Signal
    address: Signal
    accumulate: Signal
    sums: data.View
    v_en: Signal
    v_address: Signal
    v_data: data.View
    conflict: Signal

    def __init__(self, *, core: CoreConfig) -> None:
        self.core = core
        address = (core.acc_banks * core.acc_rows - 1).bit_length()
        super().__init__({
            "en": In(1), "address": In(address), "accumulate": In(1),
            "sums": In(data.ArrayLayout(signed(core.sizes.partial_sum_bits), core.cols)),
            "v_en": In(1), "v_address": In(address), "v_data": Out(data.ArrayLayout(signed(32), core.cols)),
            "conflict": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        core, latency = self.core, self.core.memory_latency
        row_bits = (core.acc_rows - 1).bit_length()
        banks = [Ram(width=32 * core.cols, depth=core.acc_rows, latency=latency) for _ in range(core.acc_banks)]
        for number, bank in enumerate(banks):
            m.submodules[f"bank_{number}"] = bank
        read = Signal()
        arrived = delayed(m, Cat(self.en, self.accumulate, self.address), latency, name="arrived")
        en, accumulate, address = arrived[0], arrived[1], arrived[2:]
        old, row = Signal(32 * core.cols), Signal(32 * core.cols)
        v_bank = delayed(m, self.v_address[row_bits:], latency, name="v_bank")
        store, store_address = Signal(), Signal.like(self.address)
        m.d.comb += [
            read.eq(self.en & self.accumulate),
            old.eq(Array([bank.r_data for bank in banks])[address[row_bits:]]),
            self.v_data.eq(Array([bank.r_data for bank in banks])[v_bank]),
            self.conflict.eq(read & self.v_en & (self.address[row_bits:] == self.v_address[row_bits:])),
        ]
        for column in range(core.cols):
            bits = slice(32 * column, 32 * column + 32)
            m.d.sync += row[bits].eq(Mux(accumulate, old[bits], 0).as_signed() + self.sums[column])
        m.d.sync += [store.eq(en), store_address.eq(address)]
        for number, bank in enumerate(banks):
            mine = read & (self.address[row_bits:] == number)
            m.d.comb += [
                bank.r_en.eq(mine | (self.v_en & (self.v_address[row_bits:] == number))),
                bank.r_address.eq(Mux(mine, self.address[:row_bits], self.v_address[:row_bits])),
                bank.w_en.eq(store & (store_address[row_bits:] == number)),
                bank.w_address.eq(store_address[:row_bits]), bank.w_data.eq(row),
            ]
        return m
