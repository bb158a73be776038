"""A bank of a scratchpad: words, or pairs of neighbouring words, and the aligner that cuts bytes out of a pair."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from systolith_hw.memory.ram import Ram
from systolith_hw.pipe import delayed


class Bank(wiring.Component):
    """Memory of ``words`` words that reads and writes a word and its successor in one cycle.

    With ``straddle`` even and odd words lie in two memories, so that ``word_bytes`` or fewer bytes at any offset
    are one access; without it there is one memory, and only the low word exists.

    Parameters
    ----------
    word_bytes : int
        Bytes of a word; a power of two.
    words : int
        Words; a power of two, at least 2.
    straddle : bool
        Whether an access may touch the next word too.
    granule_bytes : int
        Bytes under one bit of the write masks.
    latency : int
        Cycles from the word's number to its bytes.

    Members
    -------
    r_en, r_word : In, read of words ``r_word`` and ``r_word + 1``, which wraps around.
    r_low, r_high : Out, the two words, ``latency`` cycles later.
    w_low_mask, w_high_mask, w_word, w_low, w_high : In, write; a read of the next cycle sees it.
    """

    r_en: Signal
    r_word: Signal
    r_low: Signal
    r_high: Signal
    w_low_mask: Signal
    w_high_mask: Signal
    w_word: Signal
    w_low: Signal
    w_high: Signal

    def __init__(self, *, word_bytes: int, words: int, straddle: bool, granule_bytes: int, latency: int) -> None:
        if words < 2 or words & (words - 1):
            raise ValueError(f"words must be a power of two >= 2, not {words}")
        self.word_bytes, self.words, self.straddle = word_bytes, words, straddle
        self.granule_bytes, self.latency = granule_bytes, latency
        granules = word_bytes // granule_bytes
        super().__init__({
            "r_en": In(1), "r_word": In(range(words)), "r_low": Out(8 * word_bytes), "r_high": Out(8 * word_bytes),
            "w_low_mask": In(granules), "w_high_mask": In(granules), "w_word": In(range(words)),
            "w_low": In(8 * word_bytes), "w_high": In(8 * word_bytes),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        memories = [Ram(width=8 * self.word_bytes, depth=self.words // (1 + self.straddle), latency=self.latency,
                        granularity=8 * self.granule_bytes) for _ in range(1 + self.straddle)]
        if not self.straddle:
            m.submodules.memory = memory = memories[0]
            m.d.comb += [
                memory.r_en.eq(self.r_en), memory.r_address.eq(self.r_word), self.r_low.eq(memory.r_data),
                memory.w_en.eq(self.w_low_mask), memory.w_address.eq(self.w_word), memory.w_data.eq(self.w_low),
            ]
            return m
        m.submodules.even, m.submodules.odd = even, odd = memories
        read_odd = delayed(m, self.r_word[0], self.latency)
        write_odd = self.w_word[0]
        m.d.comb += [
            even.r_en.eq(self.r_en), odd.r_en.eq(self.r_en),
            even.r_address.eq((self.r_word + 1)[1:]), odd.r_address.eq(self.r_word[1:]),
            self.r_low.eq(Mux(read_odd, odd.r_data, even.r_data)),
            self.r_high.eq(Mux(read_odd, even.r_data, odd.r_data)),
            even.w_address.eq((self.w_word + 1)[1:]), odd.w_address.eq(self.w_word[1:]),
            even.w_en.eq(Mux(write_odd, self.w_high_mask, self.w_low_mask)),
            even.w_data.eq(Mux(write_odd, self.w_high, self.w_low)),
            odd.w_en.eq(Mux(write_odd, self.w_low_mask, self.w_high_mask)),
            odd.w_data.eq(Mux(write_odd, self.w_low, self.w_high)),
        ]
        return m


def cut(m: Module, *, low: Signal, high: Signal, offset: Signal, granule_bytes: int, count: int) -> Signal:
    """``count`` bytes of the pair ``low``, ``high`` from byte ``offset`` on, a multiple of the granule."""
    out = Signal(8 * count)
    pair = Cat(low, high)
    positions = len(low) // (8 * granule_bytes)
    if positions == 1:
        m.d.comb += out.eq(pair)
        return out
    shift = (granule_bytes - 1).bit_length()
    with m.Switch(offset[shift:]):
        for position in range(positions):
            start = 8 * granule_bytes * position
            with m.Case(position):
                m.d.comb += out.eq(pair[start:start + 8 * count])
    return out
