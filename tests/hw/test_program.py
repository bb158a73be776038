"""Programs: files, places, and what a core refuses."""

import dataclasses
import json
import zipfile

import numpy as np
import pytest

from systolith_hw.config import PRESETS
from systolith_hw.isa import Load, Matmul, Memory, Store, Vector, semaphore
from systolith_hw.program import IllegalProgram, Program, Region, Segment, check

BASE = PRESETS["base"]
LOAD = Load(dram_address=0, local_address=0, row_bytes=64, memory=Memory.DATA, post=1)
MATMUL = Matmul(data_address=0, data_stride=8, weight_address=0, weight_stride=8, acc_address=0, m=8,
                wait=semaphore("load", 0), post=1)
VECTOR = Vector(acc_address=0, m=8, n=8, data_address=16384, data_stride=8, parameter_address=0,
                wait=semaphore("matmul", 0), post=1)
STORE = Store(dram_address=1024, local_address=16384, row_bytes=64, wait=semaphore("vector", 0), post=1)


def program(*instructions, **fields):
    values = {"instructions": instructions or (LOAD, MATMUL, VECTOR, STORE), "program_address": 2048,
              "image": (Segment(0, bytes(range(64))),), "memory_bytes": 4096,
              "outputs": (Region(name="y", address=1024, shape=(8, 8), stride=8),)}
    return Program(**(values | fields))


def test_file_holds_the_whole_program(tmp_path):
    path = tmp_path / "gemm.program"
    program().save(path)
    assert Program.load(path) == program()
    assert [file.name for file in tmp_path.iterdir()] == ["gemm.program"]


@pytest.mark.parametrize("damage", [lambda data: data[:200], lambda data: b"", lambda data: b"PK" + data[10:],
                                    lambda data: data.replace(b"program-1", b"program-9")])
def test_wrong_files_are_refused_in_one_sentence(tmp_path, damage):
    path = tmp_path / "broken"
    program().save(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match="broken: ") as caught:
        Program.load(path)
    assert "\n" not in str(caught.value)


def test_another_numpy_file_is_refused(tmp_path):
    with (tmp_path / "plain").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match="plain: not a program file"):
        Program.load(tmp_path / "plain")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"absent: no such file$"):
        Program.load(tmp_path / "absent")


def test_segments_hold_image_and_code():
    assert program().segments()[-1] == Segment(2048, program().encode())
    assert len(program().encode()) == 4 * 32


def test_output_is_read_with_its_stride():
    memory = np.arange(64, dtype=np.uint8)
    region = Region(name="y", address=4, shape=(2, 3), stride=16)
    assert region.read(memory).tolist() == [[4, 5, 6], [20, 21, 22]]
    assert program().output("y").shape == (8, 8)
    with pytest.raises(KeyError, match="outputs are y, not z"):
        program().output("z")


def test_disassembly_has_a_line_an_instruction():
    lines = program().disassemble().splitlines()
    assert len(lines) == 4
    assert lines[1].startswith("1 matmul")


@pytest.mark.parametrize(("change", "message"), [
    ({"instructions": ()}, "instructions must hold 1..16777215 instructions, not 0"),
    ({"memory_bytes": 0}, "memory_bytes must be in 1..4294967296, not 0"),
    ({"program_address": 0}, "at 0 must not overlap"),
    ({"program_address": 4096}, "program_address must lie within memory_bytes = 4096"),
    ({"outputs": (Region(name="y", address=4090, shape=(8, 8), stride=8),)}, "outputs: y must lie within"),
    ({"outputs": (Region(name="y", address=0, shape=(8, 8), stride=4),)}, "outputs: y: stride must be >= 8"),
    ({"outputs": (Region(name="y", address=0, shape=(0, 8), stride=8),)}, "outputs: y: shape must be >= 1"),
])
def test_wrong_places_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(program(), **change)


def test_legal_program_passes():
    check(BASE, program())


@pytest.mark.parametrize(("index", "change", "message"), [
    (0, {"dram_address": 4}, "instruction 0 .load.: dram_address must be a multiple of 8 in 0..4"),
    (0, {"row_bytes": 12}, "row_bytes must be a multiple of 8 in 1..32768, not 12"),
    (0, {"rows": 0}, "rows of a load must be in 1..65535, not 0"),
    (0, {"rows": 65, "dram_stride": 64}, "dram_address must keep all 65 rows of 64 within the DRAM of 4096"),
    (0, {"memory": Memory.TABLE, "local_address": 1024}, "local_address must keep .* TABLE memory of 1024"),
    (0, {"local_address": 16384 - 8}, "within one bank of 16384 of the DATA memory, not 16376"),
    (1, {"data_address": 4}, "instruction 1 .matmul.: data_address must be a multiple of 8"),
    (1, {"data_stride": 4}, "data_stride must be a multiple of 8"),
    (1, {"weight_address": 1}, "weight_address must be a multiple of 8"),
    (1, {"k_tiles": 5000, "data_stride": 0}, "data_address must keep .* the DATA memory"),
    (1, {"weight_stride": 8192}, "weight_address must keep all 8 rows of 8 within the WEIGHT memory"),
    (1, {"acc_address": 508}, "acc_address must keep each row of 8 within one bank of 512"),
    (1, {"transposed": 1}, "not built yet"),
    (2, {"n": 9}, "n must be in 1..8, not 9"),
    (2, {"parameter_address": 8}, "parameter_address must be a multiple of 16"),
    (2, {"table": 4}, "table must be in 0..3, not 4"),
    (2, {"acc_address": 1020}, "acc_address must keep all 1 rows of 8 within the accumulator of 1024"),
    (3, {"memory": 1}, "memory must be in 0..0, not 1"),
    (1, {"wait": semaphore("load", 1)}, "that earlier instructions raise, not load.1, which is down"),
    (3, {"wait": semaphore("vector", 0) | semaphore("load", 0)}, "not load.0, which matmul awaits"),
    (1, {"n_tiles": 256, "weight_stride": 0, "acc_stride": 0}, "keep semaphore matmul.0 at <= 255, not 256"),
])
def test_illegal_instructions_are_refused(index, change, message):
    instructions = list(program().instructions)
    instructions[index] = dataclasses.replace(instructions[index], **change)
    with pytest.raises(IllegalProgram, match=message):
        check(BASE, program(*instructions))


def test_program_address_is_aligned_to_a_fetch():
    with pytest.raises(IllegalProgram, match="program_address must be a multiple of 256, not 2080"):
        check(BASE, program(program_address=2080))


def rewritten(path, **entries):
    with np.load(path) as stored:
        parts = {name: stored[name] for name in stored.files}
    np.savez(path, **(parts | entries))


def test_a_file_of_another_shape_is_refused(tmp_path):
    path = tmp_path / "program.npz"
    program().save(path)
    with np.load(path) as stored:
        header = json.loads(stored["header"].tobytes())
    header["segments"][0]["size"] = 1
    rewritten(path, header=np.frombuffer(json.dumps(header).encode(), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"segments\.0\.size: no such field$"):
        Program.load(path)


def test_damaged_files_are_refused_or_read(tmp_path):
    """Bytes changed at random places, in the archive and inside its members with checksums to match."""
    path, damaged = tmp_path / "program.npz", tmp_path / "damaged.npz"
    program().save(path)
    archive, rng = path.read_bytes(), np.random.default_rng(5)
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    refused = 0
    for number in range(600):
        if number % 2:
            damaged.write_bytes(changed(archive, rng))
        else:
            name = sorted(members)[number % 3]
            with zipfile.ZipFile(damaged, "w") as file:
                for other, data in members.items():
                    file.writestr(other, changed(data, rng) if other == name else data)
        try:
            Program.load(damaged)
        except ValueError as error:
            refused += str(error).startswith(str(damaged))
    assert refused > 400


def changed(data, rng):
    """Three bytes of the first 128 or of all of them, set at random."""
    made = bytearray(data)
    for _ in range(3):
        made[rng.integers(0, min(len(made), rng.choice([128, len(made)])))] = int(rng.integers(0, 256))
    return bytes(made)
