"""The weight scratchpad: filled by loads in beats, read by the matmul unit in groups of rows."""

from amaranth import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from systolith_hw.config import CoreConfig
from systolith_hw.memory.bank import Bank, cut
from systolith_hw.pipe import delayed


class WeightScratchpad(wiring.Component):
    """Byte-addressed memory that gives ``weight_group_bytes`` bytes a cycle.

    Members
    -------
    r_en, r_address : In, read at a multiple of ``weight_granule``; ``r_data`` after ``read_latency``.
    l_en, l_address, l_data : In, write of one beat, address in beats.
    """

    r_en: Signal
    r_address: Signal
    r_data: Signal
    l_en: Signal
    l_address: Signal
    l_data: Signal

    def __init__(self, *, core: CoreConfig) -> None:
        self.core = core
        port_bits = (core.port_bytes - 1).bit_length()
        address = (core.weight_bytes - 1).bit_length()
        super().__init__({
            "r_en": In(1), "r_address": In(address), "r_data": Out(8 * core.sizes.weight_group_bytes),
            "l_en": In(1), "l_address": In(address - port_bits), "l_data": In(8 * core.port_bytes),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        core, sizes = self.core, self.core.sizes
        word, group, port = sizes.weight_word_bytes, sizes.weight_group_bytes, core.port_bytes
        m.submodules.bank = bank = Bank(
            word_bytes=word, words=core.weight_bytes // word, straddle=bool(word % group), granule_bytes=port,
            latency=core.memory_latency)
        word_bits, beat_bits = (word - 1).bit_length(), (word // port - 1).bit_length()
        m.d.comb += [
            bank.r_en.eq(self.r_en), bank.r_word.eq(self.r_address[word_bits:]),
            bank.w_word.eq(self.l_address[beat_bits:]), bank.w_low.eq(self.l_data.replicate(word // port)),
            bank.w_low_mask.eq(Mux(self.l_en, 1 << self.l_address[:beat_bits], 0)),
        ]
        offset: Signal = delayed(m, self.r_address[:word_bits], core.memory_latency, name="offset")
        m.d.sync += self.r_data.eq(cut(m, low=bank.r_low, high=bank.r_high, offset=offset,
                                       granule_bytes=sizes.weight_granule, count=group))
        return m
