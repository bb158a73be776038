"""The command. Stdout is data, stderr is talk; heavy imports happen inside the commands that need them."""

import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from systolith_sim import __version__
from systolith_sim.commands import devices as device_commands
from systolith_sim.commands import estimate as estimate_commands
from systolith_sim.commands.shared import Json, at_least, decimal, number, progress_bar, refusals, whole

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
rtl = typer.Typer()
app.add_typer(rtl, name="rtl")
device_commands.register(app)
estimate_commands.register(app)


def size(name: str, text: str) -> Any:
    """A size of a product on the command line."""
    return typer.Argument(help=text, metavar=name, parser=whole(name))


Core = Annotated[str, typer.Option("--core", help="preset (tiny, base, full, wide, long) or TOML file of a core")]


@app.callback(invoke_without_command=True)
def systolith(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="print the version and exit")] = False,
) -> None:
    """Co-design of transformer accelerators: RTL, integer contract, cycle model, costs."""
    if version:
        typer.echo(f"systolith {__version__}")
        raise typer.Exit
    help_alone(context)


@rtl.callback(invoke_without_command=True)
def rtl_(context: typer.Context) -> None:
    """The core in RTL: verified products, campaigns, Verilog."""
    help_alone(context)


def help_alone(context: typer.Context) -> None:
    """Without a command: the help."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit


# A negative size must reach its check instead of being taken for an option.
@rtl.command("gemm", context_settings={"ignore_unknown_options": True})
def rtl_gemm(
    m: Annotated[int, size("M", "rows of activations, >= 1")],
    k: Annotated[int, size("K", "depth of the product, 1..65793")],
    n: Annotated[int, size("N", "outputs of a row, >= 1")],
    core: Core = "base",
    memory_latency: Annotated[int, number(
        "memory_latency", "cycles from a read's address to its first beat, 1..1048576")] = 64,
    stall_seed: Annotated[int | None, number(
        "stall_seed", "random memory stalls from this seed, 0..4294967295")] = None,
    seed: Annotated[int, number("seed", "seed of the data, >= 0")] = 0,
    wave: Annotated[Path | None, typer.Option(help="write a waveform (FST) to this file")] = None,
    json: Json = False,
) -> None:
    """One GEMM on random data, DRAM to DRAM: RTL against the integer contract and the cycle model."""
    with ExitStack() as stack:
        stack.enter_context(refusals())
        from systolith_hw.config import load_core
        from systolith_hw.timing import MemoryTiming
        from systolith_sim.engine.memory import MOST_SEED

        at_least("seed", seed, 0)
        if stall_seed is not None and not 0 <= stall_seed <= MOST_SEED:
            raise ValueError(f"stall_seed must be in 0..{MOST_SEED}, not {stall_seed}")
        config, memory = load_core(core), MemoryTiming(latency=memory_latency)
        from systolith_sim.verify.gemm import run_gemm

        progress = stack.enter_context(progress_bar(not json))
        result = run_gemm(core, config, m, k, n, memory=memory, seed=seed, stall_seed=stall_seed, wave=wave,
                          progress=progress)
    if json:
        typer.echo(result.model_dump_json(by_alias=True))
    else:
        from systolith_sim.verify.table import gemm_table

        gemm_table(result)
    raise typer.Exit(0 if result.exact else 1)


@rtl.command("campaign")
def rtl_campaign(
    cases: Annotated[int, number("cases", "random cases, dealt evenly over the cores, >= 1")] = 200,
    seed: Annotated[int, number("seed", "seed of the campaign, >= 0; case i never depends on the others")] = 0,
    stalls: Annotated[bool, typer.Option("--stalls", help="with a memory that stalls at random")] = False,
    json: Json = False,
) -> None:
    """Random GEMMs (M, K, N in 1..300, bias, table, zero points) on a fixed list of core shapes."""
    with refusals():
        at_least("cases", cases, 1)
        at_least("seed", seed, 0)
        from systolith_sim.verify.campaign import lines, run_campaign

        with progress_bar(not json) as progress:
            result = run_campaign(cases=cases, seed=seed, stalls=stalls, progress=progress)
    if json:
        typer.echo(result.model_dump_json(by_alias=True))
    else:
        for line in lines(result):
            typer.echo(line)
    raise typer.Exit(1 if result.bit_mismatches or result.cycle_mismatches else 0)


@rtl.command("verilog")
def rtl_verilog(
    core: Core = "base",
    out: Annotated[Path | None, typer.Option(help="write to this file instead of stdout")] = None,
) -> None:
    """The core as Verilog."""
    with ExitStack() as stack:
        stack.enter_context(refusals())
        from systolith_hw.config import load_core
        from systolith_sim.engine.build import export
        from systolith_sim.outputs import output_file

        config = load_core(core)
        file = None if out is None else stack.enter_context(output_file(out, field="out"))
        text = export(config)
        if file is not None:
            file.write_text(text, "utf-8")
    if file is None:
        typer.echo(text, nl=False)


@app.command("run")
def run_(
    core: Core = "base",
    layers: Annotated[str | None, typer.Option(help="decoder layers A:B, A to B - 1; all unless given")] = None,
    tokens: Annotated[int, number("tokens", "tokens of the prompt, prefilled at once, >= 1")] = 64,
    clock_mhz: Annotated[float, decimal("clock_mhz", "clock that turns the core's cycles into time")] = 50.0,
    checkpoint: Annotated[Path | None, typer.Option(help="folder of another checkpoint")] = None,
    out: Annotated[Path, typer.Option(help="folder for report.html, results.json and trace.json")] = Path("out"),
    json: Json = False,
) -> None:
    """A language model's linear operations on RTL: bits, cycles, error, and the same on other machines."""
    with ExitStack() as stack:
        stack.enter_context(refusals())
        from systolith_hw.config import load_core

        config, chosen = load_core(core), parse_layers(layers)
        if not 0.001 <= clock_mhz <= 10_000:
            raise ValueError(f"clock_mhz must be in 0.001..10000, not {clock_mhz}")
        at_least("tokens", tokens, 1)
        from systolith_sim.job import Job, run
        from systolith_sim.outputs import output_folder

        folder = stack.enter_context(output_folder(out, field="out"))
        job = Job(core_name=Path(core).stem, core=config, layers=chosen, tokens=tokens, clock_hz=clock_mhz * 1e6,
                  command=" ".join(["systolith", *sys.argv[1:]]), checkpoint=checkpoint)
        with progress_bar(not json) as progress:
            results = run(job, progress=progress)
        write_all(results, folder)
    if json:
        typer.echo(results.model_dump_json(by_alias=True))
    else:
        from systolith_sim.verify.table import run_table

        run_table(results)
        typer.echo(f"report: {out / 'report.html'}")
    exact = all(layer.bit_exact and layer.cycles == layer.model_cycles for layer in results.layers)
    raise typer.Exit(0 if exact else 1)


def write_all(results: Any, folder: Path) -> None:
    """The files of a run."""
    from systolith_sim.report.page import write_report
    from systolith_sim.report.perfetto import write_trace
    from systolith_sim.report.results import write_results

    write_results(results, folder / "results.json")
    write_report(results, folder / "report.html")
    write_trace(results.timeline, folder / "trace.json")


def parse_layers(text: str | None) -> tuple[int, int] | None:
    """``A:B`` as two integers."""
    if text is None:
        return None
    first, colon, last = text.partition(":")
    if not (colon and first.isdecimal() and last.isdecimal() and int(first) < int(last)):
        raise ValueError(f"layers must be A:B with 0 <= A < B, not {text!r}")
    return int(first), int(last)


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the ``systolith`` command; always ends in ``SystemExit``.

    What the command line itself is wrong in becomes one sentence as well. After Ctrl-C the status is 130.
    """
    # A killed command must end its compilers and remove what is half made, just as after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    usage_error: Any = typer.BadParameter.__base__  # typer brings its own copy of click's classes
    try:
        status = app(arguments, prog_name="systolith", standalone_mode=False)
    except usage_error as error:
        where = error.ctx.command_path if error.ctx else "systolith"
        typer.echo(f"systolith: {' '.join(error.format_message().split()).rstrip('.')}: see {where} --help", err=True)
        status = 2
    except typer.Abort:
        status = 1
    except OSError as error:  # such as a full disk; a reader of stdout that left is dealt with inside
        typer.echo(f"systolith: {error}", err=True)
        status = 2
    raise SystemExit(status if isinstance(status, int) else 0)
