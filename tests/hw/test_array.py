"""The array against numpy: sums, latency, back-to-back passes, weights that load behind the stream."""

from dataclasses import dataclass

import numpy as np
import pytest
from bench import play

from systolith_hw import timing
from systolith_hw.array.systolic_array import SystolicArray
from systolith_hw.config import CoreConfig


@dataclass
class Pass:
    """A tile of weights, the activations that stream through it, and the cycle of its swap."""

    weights: np.ndarray
    activations: np.ndarray
    start: int


def passes(
    dut: SystolicArray, *, lengths: list[int], gaps: list[int], rng: np.random.Generator
) -> list[Pass]:
    """Passes of ``lengths`` rows as close as allowed, plus ``gaps``; extreme values are frequent."""
    result, start = [], dut.groups
    for length, gap in zip(lengths, gaps, strict=True):
        weights = rng.integers(-128, 128, (dut.rows, dut.cols))
        activations = rng.integers(-256, 256, (length, dut.rows))
        if rng.random() < 0.3:
            weights[:], activations[:] = -128, rng.choice([-256, 255])
        result.append(Pass(weights, activations, start))
        start += max(length, dut.groups) + gap
    return result


def run(dut: SystolicArray, todo: list[Pass], rng: np.random.Generator) -> None:
    """Play ``todo`` with noise on every idle input, and compare the sums of every row."""
    latency, lane_rows = dut.rows + dut.cols + dut.multiplier_latency - 1, dut.weight_rows_per_cycle
    end = todo[-1].start + len(todo[-1].activations) + latency + 1
    cycles = [{"a": rng.integers(-256, 256, dut.rows).tolist(), "swap": 0, "w_valid": 0,
               "w": rng.integers(-128, 128, lane_rows * dut.cols).tolist(),
               "w_group": int(rng.integers(dut.groups))} for _ in range(end)]
    for one in todo:
        cycles[one.start]["swap"] = 1
        padded = rng.integers(-128, 128, (dut.groups * lane_rows, dut.cols))
        padded[:dut.rows] = one.weights
        for group, rows in enumerate(padded.reshape(dut.groups, -1)):
            cycles[one.start - dut.groups + group].update(w=rows.tolist(), w_valid=1, w_group=group)
        for row, values in enumerate(one.activations):
            cycles[one.start + 1 + row]["a"] = values.tolist()
    seen = play(dut, cycles, "o")
    for number, one in enumerate(todo):
        first = one.start + 1 + latency
        sums = [list(seen[first + row]) for row in range(len(one.activations))]
        assert sums == (one.activations @ one.weights).tolist(), f"pass {number}"


SHAPES = [(1, 1, 1), (1, 5, 1), (5, 1, 1), (5, 1, 5), (3, 5, 2), (5, 3, 2), *((4, 4, n) for n in range(1, 5))]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("spacing", ["shortest", "one row", "random"])
def test_sums_of_back_to_back_passes(shape, spacing):
    rows, cols, lane_rows = shape
    dut = SystolicArray(rows=rows, cols=cols, weight_rows_per_cycle=lane_rows)
    rng = np.random.default_rng(rows + 10 * cols + 100 * lane_rows)
    count = 16
    lengths = {"shortest": [dut.groups] * count, "one row": [1] * count,
               "random": rng.integers(1, 2 * rows + 2, count).tolist()}[spacing]
    gaps = rng.integers(0, 4, count).tolist() if spacing == "random" else [0] * count
    run(dut, passes(dut, lengths=lengths, gaps=gaps, rng=rng), rng)


def test_sixteen_by_sixteen():
    dut = SystolicArray(rows=16, cols=16, weight_rows_per_cycle=5)
    rng = np.random.default_rng(16)
    run(dut, passes(dut, lengths=[4, 1, 6], gaps=[0, 0, 1], rng=rng), rng)


@pytest.mark.parametrize("multiplier_latency", [3, 6])
def test_latency_follows_the_multiplier(multiplier_latency):
    core = CoreConfig(rows=3, cols=2, requant_lanes=1, multiplier_latency=multiplier_latency)
    dut = SystolicArray(rows=3, cols=2, multiplier_latency=multiplier_latency)
    load = [{"w": [1, 1], "w_valid": 1, "w_group": group} for group in range(3)]
    cycles = [*load, {"w_valid": 0, "swap": 1}, {"swap": 0, "a": [1, 2, 4]}, {"a": [0, 0, 0]}] + [{}] * 20
    seen = play(dut, cycles, "o")
    assert [(cycle - 4, *sums) for cycle, sums in enumerate(seen) if any(sums)] == [
        (timing.array_latency(core), 7, 7)]


@pytest.mark.parametrize(("parameters", "message"), [
    ({"rows": 0, "cols": 1}, "rows and cols must be >= 1, not 0 and 1"),
    ({"rows": 4, "cols": 4, "weight_rows_per_cycle": 5}, "weight_rows_per_cycle must be in 1..4, not 5"),
])
def test_parameters_are_checked(parameters, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        SystolicArray(**parameters)
