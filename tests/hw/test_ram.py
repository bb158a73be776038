"""The memory against a list of words: latency, granules, visibility."""

import numpy as np
import pytest
from bench import play

from systolith_hw.memory.ram import Ram


def accesses(dut: Ram, *, count: int, seed: int) -> tuple[list[dict[str, int]], list[int | None]]:
    """Random cycles for ``dut``, with the word that each must answer with (None: undefined)."""
    rng = np.random.default_rng(seed)
    granules = len(dut.w_en)
    bits = dut.width // granules
    words, cycles, answers = [0] * dut.depth, [], []
    for _ in range(count):
        read, write = rng.integers(0, dut.depth, 2).tolist()
        reads = int(rng.random() < 0.8)
        enable = int.from_bytes(rng.bytes(8), "little") % (1 << granules) if rng.random() < 0.7 else 0
        data = int.from_bytes(rng.bytes(dut.width // 8 + 1), "little") % (1 << dut.width)
        cycles.append({"r_en": reads, "r_address": read, "w_en": enable, "w_address": write, "w_data": data})
        answers.append(words[read] if reads and not (enable and read == write) else None)
        mask = sum(((1 << bits) - 1) << bits * n for n in range(granules) if enable >> n & 1)
        words[write] = words[write] & ~mask | data & mask
    return cycles, answers


@pytest.mark.parametrize("latency", [2, 3, 4])
@pytest.mark.parametrize(
    "shape", [(8, 16, 8), (32, 5, None), (256, 7, None), (64, 12, 8), (1, 1, 1), (24, 1, None)], ids=str)
def test_reads_return_what_was_written(shape, latency):
    width, depth, granularity = shape
    dut = Ram(width=width, depth=depth, latency=latency, granularity=granularity)
    cycles, answers = accesses(dut, count=300, seed=width * depth)
    seen = play(dut, cycles + [{"w_en": 0}] * latency, "r_data")[latency:]
    wrong = [(cycle, answer, data) for cycle, (answer, data) in enumerate(zip(answers, seen, strict=True))
             if answer not in (None, data)]
    assert not wrong


def test_a_write_is_visible_to_the_read_of_the_next_cycle():
    dut = Ram(width=8, depth=2, latency=2)
    write, read = {"w_en": 1, "w_address": 1, "w_data": 77}, {"w_en": 0, "r_en": 1, "r_address": 1}
    cycles = [write, read, {"r_en": 0}, {}]
    assert play(dut, cycles, "r_data")[3] == 77


@pytest.mark.parametrize(("parameters", "message"), [
    ({"width": 0, "depth": 1, "latency": 2}, "width and depth must be >= 1, not 0 and 1"),
    ({"width": 8, "depth": 4, "latency": 1}, "latency must be >= 2, not 1"),
    ({"width": 8, "depth": 4, "latency": 2, "granularity": 3}, "granularity must divide width = 8, not be 3"),
])
def test_parameters_are_checked(parameters, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Ram(**parameters)
