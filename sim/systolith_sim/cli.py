"""The command. Stdout is data, stderr is talk; heavy imports happen inside the commands that need them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from systolith_sim.commands import devices as device_commands
from systolith_sim.commands import estimate as estimate_commands
from systolith_sim.commands.shared import Json, bad_input, progress_bar

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
                  help="Co-design of transformer accelerators: RTL, integer contract, cycle model, costs.")
rtl = typer.Typer(no_args_is_help=True, help="The core in RTL: verified products, campaigns, Verilog.")
app.add_typer(rtl, name="rtl")
device_commands.register(app)
estimate_commands.register(app)

Core = Annotated[str, typer.Option("--core", help="preset (tiny, base, full, wide, long) or TOML file of a core")]


@rtl.command("gemm")
def rtl_gemm(
    m: Annotated[int, typer.Argument(help="rows of activations, >= 1")],
    k: Annotated[int, typer.Argument(help="depth of the product, 1..65793")],
    n: Annotated[int, typer.Argument(help="outputs of a row, >= 1")],
    core: Core = "base",
    memory_latency: Annotated[int, typer.Option(help="cycles from a read's address to its first beat, >= 1")] = 64,
    stall_seed: Annotated[int | None, typer.Option(help="random memory stalls from this seed, >= 0")] = None,
    seed: Annotated[int, typer.Option(help="seed of the data, >= 0")] = 0,
    wave: Annotated[Path | None, typer.Option(help="write a waveform (FST) to this file")] = None,
    json: Json = False,
) -> None:
    """One GEMM on random data, DRAM to DRAM: RTL against the integer contract and the cycle model."""
    with bad_input():
        for name, value in (("seed", seed), ("stall_seed", stall_seed or 0)):
            if value < 0:
                raise ValueError(f"{name} must be >= 0, not {value}")
        from systolith_hw.config import load_core
        from systolith_hw.timing import MemoryTiming

        config, memory = load_core(core), MemoryTiming(latency=memory_latency)
        check_sizes(m, k, n)
        if wave is not None and not wave.parent.is_dir():
            raise ValueError(f"wave must be in a folder that exists, not {wave}")
    from systolith_sim.verify.gemm import run_gemm

    with progress_bar(not json) as progress, engine_errors():
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
    cases: Annotated[int, typer.Option(min=1, help="random cases, dealt evenly over the cores")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="seed of the campaign; case i never depends on the others")] = 0,
    stalls: Annotated[bool, typer.Option("--stalls", help="with a memory that stalls at random")] = False,
    json: Json = False,
) -> None:
    """Random GEMMs (M, K, N in 1..300, bias, table, zero points) on a fixed list of core shapes."""
    from systolith_sim.verify.campaign import lines, run_campaign

    with progress_bar(not json) as progress, engine_errors():
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
    with bad_input():
        from systolith_hw.config import load_core

        config = load_core(core)
        if out is not None and not out.parent.is_dir():
            raise ValueError(f"out must be in a folder that exists, not {out}")
    from systolith_sim.engine.build import export

    with engine_errors():
        text = export(config)
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text)


@app.command("run")
def run_(
    core: Core = "base",
    layers: Annotated[str | None, typer.Option(help="decoder layers A:B, A to B - 1; all unless given")] = None,
    tokens: Annotated[int, typer.Option(help="tokens of the prompt, prefilled at once")] = 64,
    clock_mhz: Annotated[float, typer.Option(help="clock that turns the core's cycles into time")] = 50.0,
    checkpoint: Annotated[Path | None, typer.Option(help="folder of another checkpoint")] = None,
    out: Annotated[Path, typer.Option(help="folder for report.html, results.json and trace.json")] = Path("out"),
    json: Json = False,
) -> None:
    """A language model's linear operations on RTL: bits, cycles, error, and the same on other machines."""
    with bad_input():
        from systolith_hw.config import load_core

        config, chosen = load_core(core), parse_layers(layers)
        if not 0 < clock_mhz <= 10_000:
            raise ValueError(f"clock_mhz must be above 0 and at most 10000, not {clock_mhz}")
        if tokens < 1:
            raise ValueError(f"tokens must be >= 1, not {tokens}")
        if out.exists() and not out.is_dir():
            raise ValueError(f"out must be a folder, not the file {out}")
        from systolith_sim.job import Job, run

        job = Job(core_name=Path(core).stem, core=config, layers=chosen, tokens=tokens, clock_hz=clock_mhz * 1e6,
                  command=" ".join(["systolith", *sys.argv[1:]]), checkpoint=checkpoint)
        with progress_bar(not json) as progress, engine_errors():
            results = run(job, progress=progress)
    from systolith_sim.report.page import write_report
    from systolith_sim.report.perfetto import write_trace
    from systolith_sim.report.results import write_results

    out.mkdir(parents=True, exist_ok=True)
    write_results(results, out / "results.json")
    write_report(results, out / "report.html")
    write_trace(results.timeline, out / "trace.json")
    if json:
        typer.echo(results.model_dump_json(by_alias=True))
    else:
        from systolith_sim.verify.table import run_table

        run_table(results)
        typer.echo(f"report: {out / 'report.html'}")
    exact = all(layer.bit_exact and layer.cycles == layer.model_cycles for layer in results.layers)
    raise typer.Exit(0 if exact else 1)


def parse_layers(text: str | None) -> tuple[int, int] | None:
    """``A:B`` as two integers."""
    if text is None:
        return None
    first, colon, last = text.partition(":")
    if not (colon and first.isdigit() and last.isdigit() and int(first) < int(last)):
        raise ValueError(f"layers must be A:B with 0 <= A < B, not {text!r}")
    return int(first), int(last)


@contextmanager
def engine_errors() -> Iterator[None]:
    """What the machine lacks, as one sentence and exit status 1."""
    from systolith_sim.engine.errors import EngineError

    try:
        yield
    except EngineError as error:
        typer.echo(f"systolith: {error}", err=True)
        raise typer.Exit(1) from None


def check_sizes(m: int, k: int, n: int) -> None:
    """Sizes of a product, in a sentence that names the one that is wrong."""
    for name, value, most in (("M", m, None), ("K", k, 65793), ("N", n, None)):
        if value < 1 or (most is not None and value > most):
            raise ValueError(f"{name} must be {f'in 1..{most}' if most else '>= 1'}, not {value}")


def main(arguments: list[str] | None = None) -> Any:
    """Entry point of the ``systolith`` command."""
    return app(arguments)
