"""Simulated cycles per second of engine and cycle model, beside the bare array Verilated alone and SCALE-Sim.

    python benchmarks/engine_speed.py [--core NAME ...] [--size S] [--repeats R] [--scale-sim] [--json]

The core runs the S x S x S GEMM from DRAM to DRAM, in alternation with the cycle model on the same program and the
bare array under random inputs; each speed is the median of R runs, by process time. The array, as Amaranth writes
it, is compiled at -O2 and at -O3; the ratios of the engine are given to both, those of the cycle model to the
faster one. SCALE-Sim 3.0.0, a model of the array without the core, is installed into an environment of its own for
the run and gets the same GEMM: give it time, or a smaller S.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path

from amaranth.back import verilog

from scale_sim_files import CONFIG, LAYOUT, TOPOLOGY
from systolith_hw.array.systolic_array import SystolicArray
from systolith_hw.config import PRESETS, CoreConfig
from systolith_hw.host import Host
from systolith_hw.program import Program
from systolith_hw.timing import MemoryTiming
from systolith_sim.cycle import simulate
from systolith_sim.engine import Build, Engine, build_core
from systolith_sim.engine.build import VERILATE
from systolith_sim.engine.cache import cached, content_key
from systolith_sim.engine.toolchain import find_compiler, find_verilator, run_all
from systolith_sim.verify.cases import random_gemm
from systolith_sim.verify.gemm import compile_case

TARGETS = {"base": 0.40, "wide": 0.60}
"""Least ratio of the core's speed to the bare array's."""
MODEL_TARGETS = {"base": 20, "wide": 60}
"""Least ratio of the cycle model's speed to the bare array's."""
LEVELS = ("-O2", "-O3")
"""Of the compiler, for the bare array."""
ARRAY_SECONDS = 2.0
DRIVER = Path(__file__).with_name("array_driver.cpp")


def build_array(core: CoreConfig, level: str) -> Path:
    """The bare array and its driver as a program, compiled at ``level``, translated as the engine does it."""
    array = SystolicArray(rows=core.rows, cols=core.cols, weight_rows_per_cycle=core.weight_rows_per_cycle,
                          multiplier_latency=core.multiplier_latency)
    source = verilog.convert(array, name="top", emit_src=False)
    verilator, compiler = find_verilator(), find_compiler()
    flags = ["-std=c++20", "-w", level, "-DVM_COVERAGE=0", "-DVM_SC=0", "-DVM_TRACE=0", "-DVM_TIMING=0",
             f"-DA_BITS={9 * core.rows}", f"-DW_BITS={8 * core.weight_rows_per_cycle * core.cols}",
             f"-DGROUPS={core.sizes.weight_groups}", "-I.", "-Imodel", f"-I{verilator.include}",
             f"-I{verilator.include / 'vltstd'}"]
    verilate = ["Varray" if flag == "Vcore" else flag for flag in VERILATE]
    key = content_key(source, DRIVER.read_bytes(), verilator.version, compiler.version, *flags, *verilate)

    def make(folder: Path) -> None:
        (folder / "array.v").write_text(source, encoding="utf-8")
        run_all([[str(verilator.binary), *verilate, "--Mdir", "model", "array.v"]], folder=folder)
        model = sorted((folder / "model").glob("*.cpp"))
        (folder / "all.cpp").write_text("".join(f'#include "{part.name}"\n' for part in model), encoding="utf-8")
        sources = [Path("all.cpp"), DRIVER, *(verilator.include / f"{name}.cpp"
                                              for name in ("verilated", "verilated_threads"))]
        run_all([[compiler.command, *flags, "-c", str(file), "-o", f"{file.stem}.o"] for file in sources],
                folder=folder)
        run_all([[compiler.command, "-o", "array", *(f"{file.stem}.o" for file in sources), "-lpthread"]],
                folder=folder)
        for file in model:
            file.unlink()
        for file in (folder / "model").iterdir():
            file.unlink()
        (folder / "model").rmdir()

    return cached("bench", key, make)[0] / "array"


def array_speed(program: Path, cycles: int) -> float:
    """Cycles per second of process time."""
    begin = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([str(program), str(cycles)], check=True, stdout=subprocess.DEVNULL)
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    return cycles / (end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime)


def core_speed(build: Build, program: Program) -> tuple[int, float]:
    """Cycles of the run, and cycles per second of process time."""
    with Engine(build, memory_bytes=program.memory_bytes) as engine:
        host = Host(engine)
        host.load(program)
        begin = time.process_time()
        cycles = host.run(program, load=False).cycles
        return cycles, cycles / (time.process_time() - begin)


def model_speed(core: CoreConfig, program: Program, cycles: int) -> float:
    """Simulated cycles per second of process time; the cycles must be those of the RTL."""
    begin = time.process_time()
    modelled = simulate(core, program.instructions).cycles
    seconds = time.process_time() - begin
    if modelled != cycles:
        raise SystemExit(f"the cycle model gives {modelled} cycles, the RTL {cycles}")
    return cycles / seconds


def measure(name: str, *, size: int, repeats: int, scale_sim: bool) -> dict[str, object]:
    """One line of the table."""
    core = PRESETS[name]
    program = compile_case(core, random_gemm(size, size, size, seed=0), MemoryTiming())
    arrays, build = [build_array(core, level) for level in LEVELS], build_core(core)
    array_cycles = round(array_speed(arrays[0], 100_000) * ARRAY_SECONDS)
    cycles, core_speeds, model_speeds = 0, [], []
    array_speeds: list[list[float]] = [[] for _ in arrays]
    for _ in range(repeats):
        for array, speeds in zip(arrays, array_speeds, strict=True):
            speeds.append(array_speed(array, array_cycles))
        cycles, speed = core_speed(build, program)
        core_speeds.append(speed)
        model_speeds.append(model_speed(core, program, cycles))
    array_per_s = [statistics.median(speeds) for speeds in array_speeds]
    core_per_s, model_per_s = statistics.median(core_speeds), statistics.median(model_speeds)
    result: dict[str, object] = {
        "core": name, "size": size, "cycles": cycles,
        "array_cycles_per_s": dict(zip(LEVELS, map(round, array_per_s), strict=True)),
        "core_cycles_per_s": round(core_per_s),
        "ratio": {level: round(core_per_s / speed, 3) for level, speed in zip(LEVELS, array_per_s, strict=True)},
        "target": TARGETS.get(name), "model_cycles_per_s": round(model_per_s),
        "model_ratio": round(model_per_s / max(array_per_s), 1), "model_target": MODEL_TARGETS.get(name),
        "build_s": round(build.seconds, 1), "build_cached": build.cached}
    if scale_sim:
        scale_cycles, seconds = run_scale_sim(core, size)
        result |= {"scale_sim_cycles": scale_cycles, "scale_sim_cycles_per_s": round(scale_cycles / seconds)}
    return result


def run_scale_sim(core: CoreConfig, size: int) -> tuple[int, float]:
    """Cycles that SCALE-Sim gives, and the seconds it simulates, its start not counted."""
    with tempfile.TemporaryDirectory(prefix="scale-sim-") as place:
        folder = Path(place)
        python = scale_sim_python(folder / "venv")
        (folder / "core.cfg").write_text(CONFIG.format(
            rows=core.rows, cols=core.cols, data_kib=core.data_bytes >> 10, weight_kib=core.weight_bytes >> 10,
            acc_kib=core.acc_banks * core.acc_rows * core.cols * 4 >> 10, port_bytes=core.port_bytes))
        (folder / "layout.csv").write_text(LAYOUT)

        def run(m: int) -> float:
            (folder / "gemm.csv").write_text(TOPOLOGY.format(m=m, n=m, k=m))
            begin = time.perf_counter()
            subprocess.run([python, "-m", "scalesim.scale", "-c", "core.cfg", "-t", "gemm.csv", "-l", "layout.csv",
                            "-p", "out", "-i", "gemm", "-s", "N"], cwd=folder, check=True, capture_output=True)
            return time.perf_counter() - begin

        start = run(core.rows)
        seconds = run(size) - start
        report = (folder / "out" / "gemm" / "COMPUTE_REPORT.csv").read_text().splitlines()
    return int(float(report[1].split(",")[1])), seconds


def scale_sim_python(folder: Path) -> str:
    """The Python of a new environment with SCALE-Sim; NumPy 2.4 breaks it."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "scalesim==3.0.0", "numpy==1.26.4"], check=True,
                   stdout=sys.stderr)
    return str(python)


def table(results: list[dict[str, object]], show: Callable[[str], None]) -> None:
    """What a person reads."""
    show(f"{'core':6} {'cycles':>9} {'array -O2':>10} {'array -O3':>10} {'core/s':>9} {'ratios':>13} {'target':>6} "
         f"{'model/s':>11} {'ratio':>6} {'target':>6} {'SCALE-Sim':>10} {'its/s':>8}")
    for r in results:
        arrays, ratios = r["array_cycles_per_s"], r["ratio"]
        assert isinstance(arrays, dict)
        assert isinstance(ratios, dict)
        show(f"{r['core']:6} {r['cycles']:>9} {arrays['-O2']:>10} {arrays['-O3']:>10} {r['core_cycles_per_s']:>9} "
             f"{ratios['-O2']:>6} {ratios['-O3']:>6} {r['target'] or '-':>6} {r['model_cycles_per_s']:>11} "
             f"{r['model_ratio']:>6} {r['model_target'] or '-':>6} {r.get('scale_sim_cycles', '-'):>10} "
             f"{r.get('scale_sim_cycles_per_s', '-'):>8}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--core", nargs="+", choices=sorted(PRESETS), default=["base", "wide"])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--scale-sim", action="store_true", help="also run SCALE-Sim 3.0.0 (installs it by pip)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.size < 1 or options.repeats < 1:
        parser.error("size and repeats must be >= 1")
    results = [measure(name, size=options.size, repeats=options.repeats, scale_sim=options.scale_sim)
               for name in options.core]
    if options.json:
        print(json.dumps(results))
    else:
        table(results, print)


if __name__ == "__main__":
    main()
