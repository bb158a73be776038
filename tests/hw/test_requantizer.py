"""The requantizer lane against the integer contract, rules N4 to N6, and against Python's own integers."""

import itertools

import numpy as np
import pytest
import torch
from bench import play

from systolith_hw import timing
from systolith_hw.arith.requantizer import Requantizer
from systolith_hw.config import CoreConfig
from systolith_model.integer.requantize import requantize

END = 1 << 31
CORNERS = list(itertools.product((-END, -1, 0, 1, END - 1), (-END, 0, END - 1), (0, 1, 3, 32768, 65535)))


def expected(acc: int, bias: int, mantissa: int, shift: int, zero_point: int) -> int:
    """N4 to N6 by the definition, with Python's integers."""
    quotient, rest = divmod((acc + bias) * mantissa, 1 << shift)
    if 2 * rest > 1 << shift or (2 * rest == 1 << shift and quotient % 2):
        quotient += 1
    return min(127, max(-128, quotient + zero_point))


def run(operands: list[tuple[int, ...]], *, multiplier_latency: int = 4) -> list[int]:
    """What a lane answers to one operand a cycle; after every third comes an invalid one."""
    latency = timing.requantize_latency(CoreConfig(rows=1, cols=1, requant_lanes=1,
                                                   multiplier_latency=multiplier_latency))
    names = ("acc", "bias", "mantissa", "shift", "zero_point")
    cycles, places = [], []
    for number, entry in enumerate(operands):
        places.append(len(cycles) + latency)
        cycles.append({"en": 1, "i": dict(zip(names, entry, strict=True))})
        if number % 3 == 2:
            cycles.append({"en": 0, "i": dict.fromkeys(names, -1)})
    seen = play(Requantizer(multiplier_latency=multiplier_latency), [*cycles, *[{"en": 0}] * latency], "o")
    return [seen[place] for place in places]


def near_half(count: int, rng: np.random.Generator) -> list[tuple[int, ...]]:
    """Operands whose scaled value is small, and often exactly half way between two bytes."""
    operands = []
    for _ in range(count):
        shift = int(rng.integers(0, 49))
        power = int(rng.integers(0, min(shift, 15) + 1))
        # (acc + bias) * 2**power / 2**shift is about a byte; its low bits decide ties.
        reach = 1 << min(31, shift - power + 8)
        acc = int(rng.integers(-reach, reach)) >> max(0, shift - power - 1) << max(0, shift - power - 1)
        bias = int(rng.integers(-2, 3)) if rng.random() < 0.3 else 0
        acc = min(END - 1, max(-END, acc))
        operands.append((acc, bias, 1 << power, shift, int(rng.integers(-128, 128))))
    return operands


@pytest.mark.parametrize("zero_point", [-128, 0, 127])
def test_corners_at_every_shift(zero_point):
    operands = [(*corner, shift, zero_point) for shift in range(64) for corner in CORNERS]
    assert run(operands) == [expected(*entry) for entry in operands]


@pytest.mark.parametrize("multiplier_latency", [3, 4, 5])
def test_random_operands_equal_the_integer_contract(multiplier_latency):
    rng = np.random.default_rng(multiplier_latency)
    operands = near_half(1500, rng) + [
        tuple(int(value) for value in entry) for entry in zip(
            rng.integers(-END, END, 500), rng.integers(-END, END, 500), rng.integers(0, 65536, 500),
            rng.integers(0, 64, 500), rng.integers(-128, 128, 500), strict=True)]
    acc, bias, mantissa, shift, zero_point = (torch.tensor(column) for column in zip(*operands, strict=True))
    contract = requantize(acc, bias=bias, mantissa=mantissa, shift=shift, zero_point=zero_point).tolist()
    assert contract == [expected(*entry) for entry in operands]
    assert run(operands, multiplier_latency=multiplier_latency) == contract
