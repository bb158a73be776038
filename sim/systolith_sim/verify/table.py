"""Results for people."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from systolith_hw.isa import QUEUES, STALL_CAUSES
from systolith_sim.report.results import RunResults
from systolith_sim.verify.results import GemmResult


def gemm_table(result: GemmResult, console: Console | None = None) -> None:
    """Print the result as two tables."""
    console = console or Console()
    table = Table(title=escape(f"{result.m} x {result.k} x {result.n} on {result.core}"), show_header=False)
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
        stalls.add_column(cause.replace("_", " "), justify="right")
    for queue in QUEUES:
        causes = result.stalls[queue]
        stalls.add_row(queue, f"{result.cycles - sum(causes.values()):,}", *(f"{causes[c]:,}" for c in STALL_CAUSES))
    console.print(stalls)


def run_table(results: RunResults, console: Console | None = None) -> None:
    """Print the layers and the machines of a run."""
    console = console or Console()
    layers = Table(title=escape(f"{results.title}: {results.workload}"),
                   caption="used: of the array; SQNR against the float model, dB")
    for name in ("operation", "MxKxN", "bits", "cycles", "model", "used", "SQNR"):
        layers.add_column(name, justify="left" if name == "operation" else "right", no_wrap=True)
    for layer in results.layers:
        layers.add_row(
            layer.name.removeprefix("model.layers."), f"{layer.m}x{layer.k}x{layer.n}",
            "exact" if layer.bit_exact else "[red]WRONG", f"{layer.cycles:,}",
            "equal" if layer.cycles == layer.model_cycles else f"[red]{layer.model_cycles:,}",
            f"{layer.utilization:.1%}", "" if layer.sqnr_db is None else f"{layer.sqnr_db:.1f}")
    console.print(layers)
    machines = Table(title="the same products on other machines (low to high of each interval in brackets)")
    for name in ("machine", "latency", "energy", "how"):
        machines.add_column(name)
    for device in results.devices:
        energy = device.energy_j
        machines.add_row(
            device.name, figure_text(device.latency_s.value, device.latency_s.low, device.latency_s.high, "s"),
            device.energy_note if energy is None else figure_text(energy.value, energy.low, energy.high, "J"),
            f"{device.latency_s.how}; {device.format}")
    console.print(machines)


def figure_text(value: float, low: float | None, high: float | None, unit: str) -> str:
    """A figure with its interval, in engineering notation."""
    text = f"{engineering(value)}{unit}"
    return text if low is None or high is None else f"{text} ({engineering(low)}{unit} .. {engineering(high)}{unit})"


def engineering(value: float) -> str:
    """Three digits and an SI prefix."""
    for scale, prefix in ((1.0, ""), (1e-3, "m"), (1e-6, "u")):
        if abs(value) >= scale:
            return f"{value / scale:.3g} {prefix}"
    return f"{value / 1e-9:.3g} n"
