"""How fast the cycle model plays a program: simulated cycles per second, program given, median of five.

    python benchmarks/cycle_speed.py [FILE ...]

Without files it plays the compiler's 512 x 512 x 512 GEMM on ``wide`` and ``base``; a file is a saved
Program, its core's preset in front: ``wide=gemm.program``.
"""

import statistics
import sys
import time
from collections.abc import Sequence

from systolith_hw.config import PRESETS, CoreConfig
from systolith_hw.isa import Instruction
from systolith_hw.program import Program
from systolith_sim.compiler.plan import plan_gemm
from systolith_sim.cycle import simulate

SIZE = 512
REPEATS = 5


def measure(core: CoreConfig, instructions: Sequence[Instruction]) -> tuple[int, float]:
    """Cycles of the program and the median of the seconds that the model takes."""
    seconds, cycles = [], 0
    for _ in range(REPEATS):
        begin = time.perf_counter()
        cycles = simulate(core, instructions).cycles
        seconds.append(time.perf_counter() - begin)
    return cycles, statistics.median(seconds)


def cases(arguments: Sequence[str]) -> dict[str, tuple[CoreConfig, Sequence[Instruction]]]:
    """Programs by the name that the table gives them."""
    if not arguments:
        return {name: (PRESETS[name], plan_gemm(PRESETS[name], SIZE, SIZE, SIZE).instructions)
                for name in ("wide", "base")}
    places = {argument: argument.partition("=") for argument in arguments}
    return {argument: (PRESETS[name], Program.load(path).instructions)
            for argument, (name, _, path) in places.items()}


def main(arguments: Sequence[str]) -> None:
    """Measure and print a table."""
    print(f"{'program':20} {'instructions':>12} {'transfers':>9} {'cycles':>9} {'ms':>6} {'Mcycles/s':>9}")
    for name, (core, instructions) in cases(arguments).items():
        timeline = simulate(core, instructions, timeline=True).timeline
        assert timeline is not None
        cycles, seconds = measure(core, instructions)
        print(f"{name:20} {len(instructions):12} {len(timeline.transfers):9} {cycles:9} {1e3 * seconds:6.1f} "
              f"{cycles / seconds / 1e6:9.1f}")


if __name__ == "__main__":
    main(sys.argv[1:])
