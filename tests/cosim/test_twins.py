"""Each ECP5 twin, on behavioural models of the vendor's cells, against the generic twin, in Icarus."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from amaranth.back import verilog

from systolith_hw.arith.multiplier import Multiplier
from systolith_hw.memory.ram import Ram
from systolith_hw.memory.ram_ecp5 import Tiling
from systolith_hw.platforms import Ecp5

CELLS = Path(__file__).parent / "cells"


def compare(folder: Path, make, *, bench: str, cell: str, edit=lambda text: text, **parameters: int) -> int:
    """Cycles in which the twins that ``make`` gives differ; ``edit`` may plant a fault in the ECP5 twin."""
    compiler, runner = shutil.which("iverilog"), shutil.which("vvp")
    assert compiler, "the twins need iverilog"
    assert runner, "the twins need vvp, which comes with iverilog"
    generic = verilog.convert(make(), name="generic", emit_src=False)
    ecp5 = edit(verilog.convert(make(), name="ecp5", platform=Ecp5(), emit_src=False))
    assert cell.upper() in ecp5
    files = [folder / "generic.v", folder / "ecp5.v", CELLS / f"{cell}.v", CELLS / f"{bench}.v"]
    files[0].write_text(generic)
    files[1].write_text(ecp5)
    settings = [f"-Ptwins.{name}={value}" for name, value in parameters.items()]
    program = folder / "twins"
    subprocess.run([compiler, "-g2005", "-s", "twins", *settings, "-o", program, *files], check=True)
    output = subprocess.run([runner, program], check=True, capture_output=True, text=True).stdout
    found = re.search(r"differences (\d+) values (\d+)", output)
    assert found, output
    assert int(found[2]) > parameters["CYCLES"] // 8, "hardly anything was compared"
    return int(found[1])


def multipliers(folder: Path, widths: tuple[int, int], latency: int, **kwargs) -> int:
    a_width, b_width = widths
    return compare(
        folder, lambda: Multiplier(a_width=a_width, b_width=b_width, latency=latency), cell="mult18x18d",
        bench="twins_multiplier", A_WIDTH=a_width, B_WIDTH=b_width, CYCLES=20000, **kwargs)


@pytest.mark.parametrize(
    ("widths", "latency"), [((9, 8), 3), ((9, 8), 4), ((17, 17), 4), ((18, 18), 6)], ids=str)
def test_multipliers_are_equal(tmp_path, widths, latency):
    assert multipliers(tmp_path, widths, latency) == 0


@pytest.mark.parametrize("fault", [
    ('.REG_PIPELINE_CLK("CLK0")', '.REG_PIPELINE_CLK("NONE")'), (".SIGNEDB(1'h1)", ".SIGNEDB(1'h0)"),
], ids=["no pipeline register", "unsigned"])
def test_a_planted_fault_in_a_multiplier_is_seen(tmp_path, fault):
    assert multipliers(tmp_path, (9, 8), 4, edit=lambda text: text.replace(*fault)) > 0


def rams(folder: Path, width: int, depth: int, granularity: int | None, latency: int, **kwargs) -> int:
    return compare(
        folder, lambda: Ram(width=width, depth=depth, latency=latency, granularity=granularity),
        cell="dp16kd", bench="twins_ram", WIDTH=width, DEPTH=depth, ADDRESS=max(1, (depth - 1).bit_length()),
        GRANULES=width // (granularity or width), LATENCY=latency, CYCLES=3000, **kwargs)


SHAPES = [
    (64, 2048, 8, 2), (256, 512, None, 2), (32, 16, 8, 3), (72, 1500, 9, 2), (8, 1, None, 2),
    (24, 4096, 24, 2), (4, 4096, None, 2), (2, 8000, None, 4), (1, 16384, 1, 2), (8, 20000, 8, 2),
    (8, 20000, 8, 3), (40, 700, 20, 2),
]
"""Width, depth, granularity, latency; every mode of the block, one and several banks, odd sizes."""


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rams_are_equal(tmp_path, shape):
    assert rams(tmp_path, *shape) == 0


@pytest.mark.parametrize("fault", [('"OUTREG"', '"NOREG"'), ("w_en[1]", "w_en[0]")],
                         ids=["no output register", "wrong enable"])
def test_a_planted_fault_in_a_ram_is_seen(tmp_path, fault):
    assert rams(tmp_path, 32, 512, 8, 2, edit=lambda text: text.replace(*fault)) > 0


@pytest.mark.parametrize(("granule_bits", "granules", "depth", "blocks"), [
    (8, 8, 2048, 8),  # one half of the base core's data scratchpad: 9 bits, one bank
    (256, 1, 512, 8), (64, 1, 128, 2), (8, 4, 512, 1), (8, 2, 1024, 1), (4, 1, 4096, 1), (1, 1, 16384, 1),
    (8, 1, 16384, 8), (9, 1, 4096, 2),
])
def test_the_fewest_blocks_are_used(granule_bits, granules, depth, blocks):
    assert Tiling.of(granule_bits=granule_bits, granules=granules, depth=depth).blocks == blocks
