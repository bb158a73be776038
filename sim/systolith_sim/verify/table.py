"""A GEMM's result for people."""

from rich.console import Console
from rich.table import Table

from systolith_hw.isa import QUEUES, STALL_CAUSES
from systolith_sim.verify.results import GemmResult


def gemm_table(result: GemmResult, console: Console | None = None) -> None:
    """Print the result as two tables."""
    console = console or Console()
    table = Table(title=f"{result.m} x {result.k} x {result.n} on {result.core}", show_header=False)
    same = "equal" if result.cycles == result.model_cycles else f"{result.model_cycles / result.cycles - 1:+.2%}"
    kind = "measured on RTL" if result.stall_seed is None else f"measured on RTL, stall seed {result.stall_seed}"
    for name, value in (
        ("bits", "equal to the integer contract" if result.bit_exact else "[red]WRONG"),
        ("cycles", f"{result.cycles:,} ({kind})"),
        ("cycle model", f"{result.model_cycles:,} ({same})"),
        ("bound", f"{result.bound_cycles:,}"),
        ("array utilization", f"{result.array_utilization:.2%}"),
        ("busy utilization", f"{result.busy_utilization:.2%} (first to last row)"),
        ("simulated", f"{result.simulated_cycles_per_s:,.0f} cycles/s, build {result.build_s:.1f} s"),
    ):
        table.add_row(name, value)
    console.print(table)
    stalls = Table(title="cycles without a start, by the first condition not met")
    stalls.add_column("queue")
    for cause in ("busy", *STALL_CAUSES):
        stalls.add_column(cause, justify="right")
    for queue in QUEUES:
        causes = result.stalls[queue]
        stalls.add_row(queue, f"{result.cycles - sum(causes.values()):,}", *(f"{causes[c]:,}" for c in STALL_CAUSES))
    console.print(stalls)
