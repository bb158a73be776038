"""The data scratchpad: banks between two readers (matmul, store) and two writers (load, vector)."""

from amaranth import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from systolith_hw.config import CoreConfig
from systolith_hw.memory.bank import Bank, cut
from systolith_hw.pipe import delayed


class DataScratchpad(wiring.Component):
    """Byte-addressed memory in ``data_banks`` banks, each with one read and one write a cycle.

    Members
    -------
    a_en, a_address : In, read of ``rows`` bytes at a multiple of ``read_granule``; ``a_data`` after ``read_latency``.
    s_en, s_address : In, read of one beat, address in beats; ``s_data`` after ``read_latency``.
    l_en, l_address, l_data : In, write of one beat, address in beats.
    v_en, v_address, v_data, v_count : In, write of ``v_count`` bytes at a multiple of ``write_granule``.
    read_conflict, write_conflict : Out(1), both readers, both writers at one bank in this cycle.
    """

    a_en: Signal
    a_address: Signal
    a_data: Signal
    s_en: Signal
    s_address: Signal
    s_data: Signal
    l_en: Signal
    l_address: Signal
    l_data: Signal
    v_en: Signal
    v_address: Signal
    v_data: Signal
    v_count: Signal
    read_conflict: Signal
    write_conflict: Signal

    def __init__(self, *, core: CoreConfig) -> None:
        self.core = core
        port_bits = (core.port_bytes - 1).bit_length()
        address, beats = (core.data_bytes - 1).bit_length(), (core.data_bytes - 1).bit_length() - port_bits
        super().__init__({
            "a_en": In(1), "a_address": In(address), "a_data": Out(8 * core.rows),
            "s_en": In(1), "s_address": In(beats), "s_data": Out(8 * core.port_bytes),
            "l_en": In(1), "l_address": In(beats), "l_data": In(8 * core.port_bytes),
            "v_en": In(1), "v_address": In(address), "v_data": In(8 * core.cols),
            "v_count": In(range(core.cols + 1)),
            "read_conflict": Out(1), "write_conflict": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        core, sizes = self.core, self.core.sizes
        word = sizes.data_word_bytes
        straddle = bool(word % core.rows or word % core.cols)
        # Without vector writes narrower than a word only whole beats would need masks; bytes serve both.
        banks = [Bank(word_bytes=word, words=core.data_bytes // core.data_banks // word, straddle=straddle,
                      granule_bytes=1, latency=core.memory_latency) for _ in range(core.data_banks)]
        for number, bank in enumerate(banks):
            m.submodules[f"bank_{number}"] = bank
        self._read(m, banks)
        self._write(m, banks)
        return m

    def _split(self, address: Signal, unit_bytes: int) -> tuple[Value, Value, Value]:
        """Offset in the word, word in the bank, bank, of an address in units of ``unit_bytes``."""
        core, word = self.core, self.core.sizes.data_word_bytes
        offset_bits = (word // unit_bytes - 1).bit_length()
        word_bits = (core.data_bytes // core.data_banks // word - 1).bit_length()
        return (address[:offset_bits], address[offset_bits:offset_bits + word_bits],
                address[offset_bits + word_bits:])

    def _read(self, m: Module, banks: list[Bank]) -> None:
        core, sizes, latency = self.core, self.core.sizes, self.core.memory_latency
        a_offset, a_word, a_bank = self._split(self.a_address, 1)
        s_offset, s_word, s_bank = self._split(self.s_address, core.port_bytes)
        m.d.comb += self.read_conflict.eq(self.a_en & self.s_en & (a_bank == s_bank))
        for number, bank in enumerate(banks):
            matmul = Signal(name=f"matmul_{number}")
            m.d.comb += [
                matmul.eq(self.a_en & (a_bank == number)),
                bank.r_en.eq(matmul | (self.s_en & (s_bank == number))),
                bank.r_word.eq(Mux(matmul, a_word, s_word)),
            ]
        low, high = Signal(8 * sizes.data_word_bytes), Signal(8 * sizes.data_word_bytes)
        a_from = delayed(m, a_bank, latency, name="a_bank")
        m.d.comb += [low.eq(Array([bank.r_low for bank in banks])[a_from]),
                     high.eq(Array([bank.r_high for bank in banks])[a_from])]
        rows = cut(m, low=low, high=high, offset=delayed(m, a_offset, latency, name="a_offset"),
                   granule_bytes=sizes.read_granule, count=core.rows)
        words = Signal(8 * sizes.data_word_bytes)
        s_from = delayed(m, s_bank, latency, name="s_bank")
        s_place = delayed(m, s_offset, latency, name="s_offset")
        m.d.comb += words.eq(Array([bank.r_low for bank in banks])[s_from])
        m.d.sync += [self.a_data.eq(rows), self.s_data.eq(words.word_select(s_place, 8 * core.port_bytes))]

    def _write(self, m: Module, banks: list[Bank]) -> None:
        core, sizes = self.core, self.core.sizes
        word, port, granule = sizes.data_word_bytes, core.port_bytes, sizes.write_granule
        l_offset, l_word, l_bank = self._split(self.l_address, port)
        v_offset, v_word, v_bank = self._split(self.v_address, 1)
        l_mask, v_mask, v_bytes = Signal(word), Signal(2 * word), Signal(16 * word)
        count_mask = Signal(core.cols)
        m.d.comb += [
            self.write_conflict.eq(self.l_en & self.v_en & (l_bank == v_bank)),
            count_mask.eq(Cat(self.v_count > column for column in range(core.cols))),
        ]
        with m.Switch(l_offset):
            for place in range(word // port):
                with m.Case(place):
                    m.d.comb += l_mask.eq(((1 << port) - 1) << place * port)
        with m.Switch(v_offset[(granule - 1).bit_length():]):
            for place in range(word // granule):
                with m.Case(place):
                    m.d.comb += [v_mask.eq(count_mask << place * granule),
                                 v_bytes.eq(self.v_data << 8 * place * granule)]
        for number, bank in enumerate(banks):
            vector, loads = Signal(name=f"vector_{number}"), Signal(name=f"load_{number}")
            m.d.comb += [
                vector.eq(self.v_en & (v_bank == number)), loads.eq(self.l_en & (l_bank == number)),
                bank.w_word.eq(Mux(vector, v_word, l_word)),
                bank.w_low.eq(Mux(vector, v_bytes[:8 * word], self.l_data.replicate(word // port))),
                bank.w_high.eq(v_bytes[8 * word:]),
            ]
            with m.If(vector):
                m.d.comb += [bank.w_low_mask.eq(v_mask[:word]), bank.w_high_mask.eq(v_mask[word:])]
            with m.Elif(loads):
                m.d.comb += bank.w_low_mask.eq(l_mask)
