"""``systolith estimate`` and ``systolith advise``."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from systolith_sim.commands.shared import Json, decimal, number, refusals

if TYPE_CHECKING:
    from systolith_sim.estimate.ask import Ask

Model = Annotated[str, typer.Argument(help="a model's name, or its folder or config.json")]
Estimated = Annotated[
    str, typer.Argument(help="a model's name, its folder or config.json, FILE.py:NAME (torch), or FILE.onnx")
]
Prompt = Annotated[int, number("prompt", "tokens of each prompt; of a sequence when training")]
Generate = Annotated[int, number("generate", "tokens generated for each prompt")]
Electricity = Annotated[
    float | None, decimal("electricity", "USD/kWh, for boards that are bought; rent includes it")
]


def register(app: typer.Typer) -> None:
    """Add these commands to the app."""
    app.command("estimate")(estimate)
    app.command("advise")(advise)


def estimate(
    model: Estimated,
    on: Annotated[str, typer.Option("--on", help="devices to compare, DEVICE[,DEVICE...]")],
    devices: Annotated[int | None, number("devices", "how many; replicas of tp x pp unless --dp is given")] = None,
    tp: Annotated[int | None, number("tp", "tensor parallel width")] = None,
    pp: Annotated[int | None, number("pp", "pipeline stages")] = None,
    dp: Annotated[int | None, number("dp", "replicas")] = None,
    ep: Annotated[int | None, number("ep", "expert parallel width")] = None,
    batch: Annotated[int, number("batch", "sequences at once, over all replicas")] = 1,
    prompt: Prompt = 512,
    generate: Generate = 128,
    format: Annotated[str | None, typer.Option(help="W, W/A or W/A/KV: weights, activations, cache; bf16")] = None,
    engine: Annotated[str | None, typer.Option(help="none, or an inference engine; vllm on GPUs unless given")] = None,
    train: Annotated[bool, typer.Option("--train", help="a training step of the batch, no generation")] = False,
    closed_loop: Annotated[
        bool, typer.Option("--closed-loop", help="the batch in flight all the time, each replaced as it ends")
    ] = False,
    search: Annotated[bool, typer.Option("--search", help="best layout of the devices, within the bounds")] = False,
    objective: Annotated[str, typer.Option(help="what --search makes best: latency, throughput or price")] = "latency",
    max_latency: Annotated[float | None, decimal("max_latency", "--search: most seconds in all")] = None,
    max_price: Annotated[float | None, decimal("max_price", "--search: most USD per million tokens")] = None,
    max_memory_gb: Annotated[float | None, decimal("max_memory_gb", "--search: most GB (10^9 B) on a device")] = None,
    recompute: Annotated[str, typer.Option(help="--train: none, selective or full recomputation")] = "none",
    micro_batch: Annotated[int | None, number("micro_batch", "--train: sequences of a micro-batch")] = None,
    interleave: Annotated[int, number("interleave", "--train: chunks of layers a pipeline stage holds")] = 1,
    zero: Annotated[int, number("zero", "--train: ZeRO stage over the replicas, 0..3")] = 0,
    grid: Annotated[float | None, decimal("grid", "carbon of the grid, g/kWh, for grams per million tokens")] = None,
    pue: Annotated[float | None, decimal("pue", "energy of the building over that of its machines; 1")] = None,
    electricity: Electricity = None,
    out: Annotated[Path | None, typer.Option(help="folder for report.html and estimate.json")] = None,
    json: Json = False,
) -> None:
    """Latency, energy, memory and price of a model on machines that need not be here."""
    options = {name: value for name, value in locals().items() if name not in ("on", "out", "json")}
    with refusals():
        from systolith_sim.estimate.ask import Ask

        asked = Ask(on=tuple(on.split(",")), **options)
    _answer(asked, out, json)


def _answer(asked: "Ask", out: Path | None, json: bool) -> None:
    """Estimate, write the folder and print."""
    from systolith_sim.estimate.ask import answer
    from systolith_sim.estimate.result import results_json
    from systolith_sim.outputs import output_folder

    with ExitStack() as stack:
        stack.enter_context(refusals())
        folder = None if out is None else stack.enter_context(output_folder(out, field="out"))
        found = answer(asked)
        if folder is not None:
            from systolith_sim.estimate.page import write_folder

            write_folder(found, folder)
    if json:
        typer.echo(results_json([one.result for one in found]))
        return
    from systolith_sim.estimate.table import print_estimates

    print_estimates(found)
    if out is not None:
        typer.echo(f"report: {out / 'report.html'}")


def advise(
    model: Model,
    prompt: Prompt,
    generate: Generate,
    rate: Annotated[float, decimal("rate", "requests that arrive per second")],
    latency: Annotated[float | None, decimal("latency", "most seconds from a request to its last token")] = None,
    budget: Annotated[float | None, decimal("budget", "most USD per hour for all devices")] = None,
    on: Annotated[str | None, typer.Option("--on", help="only among these devices, DEVICE[,DEVICE...]")] = None,
    json: Json = False,
) -> None:
    """Which hardware, how many, in what format: ranked, with reasons."""
    from systolith_sim.estimate.advise import Demand, advise

    with refusals():
        demand = Demand(
            prompt=prompt, generate=generate, rate=rate, latency_s=latency, budget_usd_per_hour=budget
        )
        found = advise(model, demand, on=on.split(",") if on else ())
    if json:
        typer.echo(found.model_dump_json(by_alias=True))
        return
    from systolith_sim.estimate.table import print_advice

    print_advice(found)
