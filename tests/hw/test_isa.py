"""The instruction set: bits where the contract says, refusals, disassembly (rules I1, I3, I7, bounds)."""

import dataclasses
import random

import pytest

from systolith_hw.config import PRESETS, CoreConfig
from systolith_hw.isa import FIELDS, HEADER, Load, Matmul, Memory, Opcode, Store, Vector, decode, semaphore
from systolith_hw.operands import operand_rules

LOAD = Load(memory=Memory.WEIGHT, dram_address=8, local_address=16, row_bytes=24)
MATMUL = Matmul(data_address=8, data_stride=16, weight_address=24, weight_stride=32, acc_address=5, m=7)
VECTOR = Vector(acc_address=1, m=2, n=3, data_address=8, data_stride=8, parameter_address=16, zero_point=-3)
STORE = Store(dram_address=8, local_address=16, row_bytes=24)
CLASSES = {Opcode.LOAD: Load, Opcode.MATMUL: Matmul, Opcode.VECTOR: Vector, Opcode.STORE: Store}


def random_instruction(rng, opcode):
    """Any values that the bits hold, extremes often."""
    values = {}
    for name, field in (HEADER | FIELDS[opcode]).items():
        if name in ("opcode", "registers") or not field.built:
            continue
        least = -(1 << (field.width - 1)) if field.signed else field.least
        most = (1 << (field.width - field.signed)) - 1
        values[name] = rng.choice([least, most, rng.randint(least, most)])
    return CLASSES[opcode](**values)


@pytest.mark.parametrize("opcode", Opcode)
def test_round_trip(opcode):
    rng = random.Random(int(opcode))
    for _ in range(300):
        instruction = random_instruction(rng, opcode)
        assert decode(instruction.encode()) == instruction


@pytest.mark.parametrize(("instruction", "bits"), [
    (LOAD, {0: 1, 44: 1, 48: 8, 112: 16, 160: 1, 176: 24}),
    (MATMUL, {0: 2, 45: 1, 48: 8, 72: 16, 96: 24, 120: 32, 144: 5, 176: 7, 192: 1, 212: 1}),
    (VECTOR, {0: 3, 48: 1, 64: 2, 80: 3, 96: 8, 120: 8, 144: 16, 168: 0xFD}),
    (STORE, {0: 4, 48: 8, 112: 16, 160: 1, 176: 24}),
], ids=["load", "matmul", "vector", "store"])
def test_bits(instruction, bits):
    word = sum(value << start for start, value in bits.items())
    assert instruction.encode() == word.to_bytes(32, "little")
    wait = semaphore("store", 3) | semaphore("load", 0)
    with_semaphores = dataclasses.replace(instruction, post=0b1010, wait=wait)
    assert with_semaphores.encode() == (word | 0b1010 << 4 | 0x8001 << 8).to_bytes(32, "little")


@pytest.mark.parametrize("opcode", Opcode)
def test_fields_do_not_overlap(opcode):
    used = 0
    for field in (HEADER | FIELDS[opcode]).values():
        mask = ((1 << field.width) - 1) << field.start
        assert not used & mask
        used |= mask
    assert used < 1 << 256


@pytest.mark.parametrize(("instruction", "change", "message"), [
    (LOAD, {"rows": 0}, "rows of a load must be in 1..65535, not 0"),
    (LOAD, {"dram_address": 1 << 32}, "dram_address of a load must be in 0..4294967295, not 4294967296"),
    (LOAD, {"post": 16}, "post of a load must be in 0..15, not 16"),
    (MATMUL, {"m": 0}, "m of a matmul must be in 1..65535, not 0"),
    (MATMUL, {"transposed": 1}, "transposed of a matmul must be 0, not 1: not built yet"),
    (MATMUL, {"row_shift": 1}, "row_shift of a matmul must be 0, not 1: not built yet"),
    (VECTOR, {"zero_point": 128}, "zero_point of a vector must be in -128..127, not 128"),
    (VECTOR, {"zero_point": -129}, "zero_point of a vector must be in -128..127, not -129"),
    (STORE, {"wait": -1}, "wait of a store must be in 0..65535, not -1"),
])
def test_encode_refuses(instruction, change, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        dataclasses.replace(instruction, **change).encode()


@pytest.mark.parametrize(("word", "message"), [
    (0, r"opcode must be one of 1 \(LOAD\), 2 \(MATMUL\), 3 \(VECTOR\), 4 \(STORE\), not 0"),
    (5, "opcode must be one of .*, not 5"),
    (1 | 1 << 176, "rows of a load must be >= 1, not 0"),
    (1 | 1 << 160 | 1 << 176 | 1 << 255, "bits 0x8000.* of a load must be 0"),
    (1 | 1 << 160 | 1 << 176 | 1 << 24, "registers of a load must be 0, not 1: not built yet"),
    (int.from_bytes(MATMUL.encode(), "little") | 1 << 46,
     "transposed of a matmul must be 0, not 1: not built yet"),
    (int.from_bytes(VECTOR.encode(), "little") | 1 << 45, "bits 0x200000000000 of a vector must be 0"),
])
def test_decode_refuses(word, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        decode(word.to_bytes(32, "little"))


def test_decode_refuses_other_lengths():
    with pytest.raises(ValueError, match=r"^an instruction has 32 bytes, not 31$"):
        decode(bytes(31))


def test_disassembly():
    line = str(dataclasses.replace(VECTOR, wait=semaphore("matmul", 2), post=0b11))
    assert line == ("vector use_table=0 acc_address=1 m=2 n=3 table=0 data_address=8 data_stride=8 "
                    "parameter_address=16 zero_point=-3 wait=matmul.2 post=vector.0,vector.1")


def test_semaphores():
    assert semaphore("load", 0) == 1
    assert semaphore("vector", 3) == 1 << 11
    with pytest.raises(ValueError, match=r"^index must be in 0..3, not 4$"):
        semaphore("load", 4)


@pytest.mark.parametrize("core", [PRESETS["base"], PRESETS["tiny"],
                                  CoreConfig(rows=3, cols=5, port_bytes=2, data_bytes=512)], ids=str)
def test_bounds_are_those_of_the_contract(core):
    sizes, rules = core.sizes, operand_rules(core)
    port, data, stride = core.port_bytes, core.data_bytes, (1 << 24) - sizes.data_word_bytes
    rows = core.acc_banks * core.acc_rows
    dram = (port, (1 << 32) - port)
    assert rules[Opcode.STORE]["dram_address"] == rules[Opcode.LOAD]["dram_stride"] == dram
    assert rules[Opcode.STORE]["local_address"] == (port, data - port)
    assert rules[Opcode.STORE]["row_bytes"] == (port, data)
    weight, word = sizes.weight_granule, sizes.weight_word_bytes
    assert rules[Opcode.MATMUL]["data_address"] == (sizes.read_granule, data - sizes.read_granule)
    assert rules[Opcode.MATMUL]["data_stride"] == (sizes.data_word_bytes, stride)
    assert rules[Opcode.VECTOR]["data_stride"] == (sizes.data_word_bytes, stride)
    assert rules[Opcode.MATMUL]["weight_address"] == (weight, core.weight_bytes - weight)
    assert rules[Opcode.MATMUL]["weight_stride"] == (word, (1 << 24) - word)
    assert rules[Opcode.MATMUL]["acc_address"] == rules[Opcode.VECTOR]["acc_address"] == (1, rows - 1)
    assert rules[Opcode.MATMUL]["m"] == rules[Opcode.VECTOR]["m"] == (1, core.acc_rows)
    assert rules[Opcode.VECTOR]["data_address"] == (sizes.write_granule, data - sizes.write_granule)
    assert rules[Opcode.VECTOR]["n"] == (1, core.cols)
    assert rules[Opcode.VECTOR]["table"] == (1, core.table_slots - 1)
    word = sizes.parameter_word_bytes
    assert rules[Opcode.VECTOR]["parameter_address"] == (word, core.parameter_bytes - word)
