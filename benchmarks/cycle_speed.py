"""How fast the cycle model plays a program: simulated cycles per second, program given, median of five.

    python benchmarks/cycle_speed.py [FILE ...]

Without files it plays a 512 x 512 x 512 GEMM written here on ``wide`` and ``base``; a file is a saved
Program, its core's preset in front: ``wide=gemm.program``.
"""

import statistics
import sys
import time
from collections.abc import Sequence

from systolith_hw.config import PRESETS, CoreConfig
from systolith_hw.isa import Instruction, Load, Matmul, Memory, Store, Vector, semaphore
from systolith_hw.legality import check_instructions
from systolith_hw.program import Program
from systolith_sim.cycle import simulate

SIZE = 512
ROWS, TILES = 32, 4
"""A block of activation rows, and the N tiles of one matmul."""
REPEATS = 5
_FOR_STORE, _FOR_MATMUL, _FOR_ACTIVATIONS, _FOR_WEIGHTS = 1, 2, 4, 8
"""Posts of a vector instruction: results, accumulator, activations and weights are no longer needed."""


def gemm(core: CoreConfig) -> list[Instruction]:
    """A GEMM of SIZE in blocks of ROWS x (TILES * cols), the weights streamed once a row block."""
    groups = SIZE // (TILES * core.cols)
    program: list[Instruction] = []
    for block in range(SIZE // ROWS):
        program.append(Load(memory=Memory.DATA, dram_address=block * ROWS * SIZE, local_address=0,
                            row_bytes=ROWS * SIZE, post=2, wait=semaphore("vector", 2) if block else 0))
        for group in range(groups):
            program += _group(core, block, group, turn=block * groups + group, last=group == groups - 1)
    check_instructions(core, program, memory_bytes=1 << 24)
    return program


def _group(core: CoreConfig, block: int, group: int, *, turn: int, last: bool) -> list[Instruction]:
    columns, slot, reused = TILES * core.cols, turn % 2, turn >= 2
    weight_bytes = SIZE * columns
    acc = slot * core.acc_rows
    out = core.data_bytes // 2 + slot * ROWS * columns
    vectors = [Vector(
        acc_address=acc + tile * ROWS, m=ROWS, n=core.cols, parameter_address=0,
        data_address=out + tile * core.cols, data_stride=columns,
        wait=semaphore("matmul", 0) | (semaphore("store", 0) if reused and not tile else 0),
        post=_FOR_STORE | _FOR_MATMUL | _FOR_WEIGHTS | _FOR_ACTIVATIONS * last if tile == TILES - 1 else 0,
    ) for tile in range(TILES)]
    return [
        Load(memory=Memory.WEIGHT, dram_address=(1 << 20) + group * weight_bytes, row_bytes=weight_bytes,
             local_address=slot * weight_bytes, post=1, wait=semaphore("vector", 3) if reused else 0),
        Matmul(data_address=0, data_stride=SIZE, weight_address=slot * weight_bytes, weight_stride=columns,
               acc_address=acc, acc_stride=ROWS, m=ROWS, k_tiles=SIZE // core.rows, n_tiles=TILES, post=1,
               wait=semaphore("load", 0) | (0 if group else semaphore("load", 1))
               | (semaphore("vector", 1) if reused else 0)),
        *vectors,
        Store(dram_address=(2 << 20) + block * ROWS * SIZE + group * columns, dram_stride=SIZE,
              local_address=out, local_stride=columns, rows=ROWS, row_bytes=columns,
              wait=semaphore("vector", 0), post=1),
    ]


def measure(core: CoreConfig, instructions: Sequence[Instruction]) -> tuple[int, float]:
    """Cycles of the program and the median of the seconds that the model takes."""
    seconds, cycles = [], 0
    for _ in range(REPEATS):
        begin = time.perf_counter()
        cycles = simulate(core, instructions).cycles
        seconds.append(time.perf_counter() - begin)
    return cycles, statistics.median(seconds)


def main(arguments: Sequence[str]) -> None:
    """Measure and print a table."""
    cases = {name: (PRESETS[name], gemm(PRESETS[name])) for name in ("wide", "base")} if not arguments else {}
    for argument in arguments:
        name, _, path = argument.partition("=")
        cases[argument] = PRESETS[name], list(Program.load(path).instructions)
    print(f"{'program':20} {'instructions':>12} {'transfers':>9} {'cycles':>9} {'ms':>6} {'Mcycles/s':>9}")
    for name, (core, instructions) in cases.items():
        timeline = simulate(core, instructions, timeline=True).timeline
        assert timeline is not None
        cycles, seconds = measure(core, instructions)
        print(f"{name:20} {len(instructions):12} {len(timeline.transfers):9} {cycles:9} {1e3 * seconds:6.1f} "
              f"{cycles / seconds / 1e6:9.1f}")


if __name__ == "__main__":
    main(sys.argv[1:])
