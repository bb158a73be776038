"""The core as the engine simulates it: one module, its registers with enables, its logic simplified by yosys.

Amaranth's Verilog computes the next value of every register in every cycle. After these passes a register that
holds still is one test, and the engine runs a fifth faster (docs/decisions/0005-the-engine-simulates-a-netlist.md).
"""

import re

from systolith_hw.config import CoreConfig

AS_WRITTEN = ("core.control",)
"""Modules whose logic stays in conditionals: registers that a program hardly touches while it runs."""
PASSES = "flatten; opt -nosdff; wreduce; opt_clean"
_AT_ONCE = 50
"""Modules named in one command."""


def netlist(core: CoreConfig) -> str:
    """Verilog with the ports, registers and cycles of ``verilog.convert(Core(core))``.

    Raises
    ------
    amaranth.back.verilog.YosysError
        If yosys is missing or fails.
    """
    from amaranth._toolchain.yosys import find_yosys  # what amaranth.back.verilog itself uses
    from amaranth.back import rtlil  # pyright: ignore[reportAttributeAccessIssue] -- the stubs lack it

    from systolith_hw.core import Core

    text = rtlil.convert(Core(core), name="core", emit_src=False)
    modules = re.findall(r"^module \\(\S+)$", text, re.MULTILINE)
    for module in AS_WRITTEN:
        text = text.replace(f"module \\{module}\n", f"attribute \\keep_hierarchy 1\nmodule \\{module}\n")
    others = [module for module in modules if module not in AS_WRITTEN]
    script = [f"read_rtlil <<rtlil\n{text}\nrtlil", f"proc -nomux -norom {' '.join(AS_WRITTEN)}"]
    script += [f"proc {' '.join(others[n:n + _AT_ONCE])}" for n in range(0, len(others), _AT_ONCE)]
    script += [PASSES, "write_verilog -norename"]
    yosys = find_yosys(lambda version: version >= (0, 40))
    return yosys.run(["-q", "-"], "\n".join(script), ignore_warnings=True)
