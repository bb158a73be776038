"""Data and weight scratchpads: bytes at every legal offset, latency, conflicts, against a flat array."""

import random

import pytest
from bench import simulate

from systolith_hw.config import CoreConfig
from systolith_hw.memory.data import DataScratchpad
from systolith_hw.memory.weights import WeightScratchpad
from systolith_hw.timing import read_latency

CORES = [
    CoreConfig(rows=8, cols=8, data_bytes=512, weight_bytes=512),
    CoreConfig(rows=3, cols=5, port_bytes=2, data_bytes=512, weight_bytes=512, weight_rows_per_cycle=2),
    CoreConfig(rows=12, cols=7, port_bytes=4, data_bytes=512, data_banks=4, weight_bytes=512, memory_latency=3),
    CoreConfig(rows=1, cols=5, port_bytes=1, data_bytes=256, data_banks=1, weight_bytes=256),
    CoreConfig(rows=7, cols=1, port_bytes=16, data_bytes=512, weight_bytes=512, weight_rows_per_cycle=7),
    CoreConfig(rows=5, cols=16, port_bytes=32, data_bytes=1024, weight_bytes=4096, weight_rows_per_cycle=3),
]


def name_of(core):
    return f"{core.rows}x{core.cols}_{core.port_bytes}"


def words(data):
    return int.from_bytes(bytes(data), "little")


@pytest.mark.parametrize("core", CORES, ids=name_of)
def test_data(core):
    dut, rng, sizes, port = DataScratchpad(core=core), random.Random(1), core.sizes, core.port_bytes
    flat, bank_bytes = bytearray(core.data_bytes), core.data_bytes // core.data_banks
    expected_a, expected_s = {}, {}

    def row(address):
        bank = address // bank_bytes * bank_bytes
        return [flat[bank + (address - bank + n) % bank_bytes] for n in range(core.rows)]

    async def bench(ctx):
        for cycle in range(700):
            a, s = rng.randrange(0, core.data_bytes, sizes.read_granule), rng.randrange(0, core.data_bytes, port)
            load, v = rng.randrange(0, core.data_bytes, port), rng.randrange(0, core.data_bytes, sizes.write_granule)
            a_en, s_en, l_en, v_en = (rng.random() < 0.7 for _ in range(4))
            s_en = s_en and not (a_en and a // bank_bytes == s // bank_bytes)
            v_en = v_en and not (l_en and load // bank_bytes == v // bank_bytes)
            l_data, v_data = rng.randbytes(port), rng.randbytes(core.cols)
            count = rng.randint(1, core.cols)
            for name, value in {"a_en": a_en, "a_address": a, "s_en": s_en, "s_address": s // port, "l_en": l_en,
                                "l_address": load // port, "l_data": words(l_data), "v_en": v_en, "v_address": v,
                                "v_data": words(v_data), "v_count": count}.items():
                ctx.set(getattr(dut, name), value)
            if a_en:
                expected_a[cycle + read_latency(core)] = row(a), a
            if s_en:
                expected_s[cycle + read_latency(core)] = flat[s:s + port], s
            if cycle in expected_a:
                assert ctx.get(dut.a_data) == words(expected_a[cycle][0]), f"{cycle=} {expected_a[cycle]}"
            if cycle in expected_s:
                assert ctx.get(dut.s_data) == words(expected_s[cycle][0]), f"{cycle=} {expected_s[cycle]}"
            assert not ctx.get(dut.read_conflict)
            assert not ctx.get(dut.write_conflict)
            await ctx.tick()
            # A read of the cycle of a write is not specified; forget it.
            touched = set(range(load, load + port)) if l_en else set()
            if l_en:
                flat[load:load + port] = l_data
            if v_en:
                bank = v // bank_bytes * bank_bytes
                places = [bank + (v - bank + n) % bank_bytes for n in range(count)]
                touched |= set(places)
                for place, byte in zip(places, v_data, strict=False):
                    flat[place] = byte
            word = sizes.data_word_bytes
            near = {n // word for n in touched}
            if a_en and near & {n % core.data_bytes // word for n in range(a - word, a + 2 * word)}:
                del expected_a[cycle + read_latency(core)]
            if s_en and near & {s // word}:
                del expected_s[cycle + read_latency(core)]

    simulate(dut, bench)
    assert len(expected_a) > 100


@pytest.mark.parametrize(("reader", "writer"), [("a", "s"), ("l", "v")])
def test_conflicts(reader, writer):
    core = CORES[0]
    dut = DataScratchpad(core=core)
    flag = dut.read_conflict if reader == "a" else dut.write_conflict

    async def bench(ctx):
        for first in range(2):
            for second in range(2):
                for name, bank in ((reader, first), (writer, second)):
                    unit = 1 if name in "av" else core.port_bytes
                    ctx.set(getattr(dut, f"{name}_en"), 1)
                    ctx.set(getattr(dut, f"{name}_address"), bank * core.data_bytes // core.data_banks // unit)
                assert ctx.get(flag) == (first == second)
                ctx.set(getattr(dut, f"{writer}_en"), 0)
                assert not ctx.get(flag)

    simulate(dut, bench)


@pytest.mark.parametrize("core", CORES, ids=name_of)
def test_weights(core):
    dut, rng, sizes, port = WeightScratchpad(core=core), random.Random(2), core.sizes, core.port_bytes
    flat, expected = rng.randbytes(core.weight_bytes), {}

    async def bench(ctx):
        ctx.set(dut.l_en, 1)
        for address in range(0, core.weight_bytes, port):
            ctx.set(dut.l_address, address // port)
            ctx.set(dut.l_data, words(flat[address:address + port]))
            await ctx.tick()
        ctx.set(dut.l_en, 0)
        for cycle in range(300):
            address = rng.randrange(0, core.weight_bytes, sizes.weight_granule)
            ctx.set(dut.r_en, 1)
            ctx.set(dut.r_address, address)
            expected[cycle + read_latency(core)] = [
                flat[(address + n) % core.weight_bytes] for n in range(sizes.weight_group_bytes)]
            if cycle in expected:
                assert ctx.get(dut.r_data) == words(expected[cycle]), cycle
            await ctx.tick()

    simulate(dut, bench)
