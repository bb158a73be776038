"""``systolith devices`` and ``systolith calibrate``."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from systolith_sim.commands.shared import Json, decimal, number, progress_bar, refusals

if TYPE_CHECKING:
    from rich.console import Console

    from systolith_sim.devices.figures import Figure
    from systolith_sim.devices.listing import DeviceDetails, DeviceList

Folder = Annotated[Path | None, typer.Option(
    "--devices-dir", help="folder of your own device files; SYSTOLITH_DEVICES unless given")]


def register(app: typer.Typer) -> None:
    """Add these commands to the app."""
    app.command("devices")(devices)
    app.command("calibrate")(calibrate)


def devices(
    name: Annotated[str | None, typer.Argument(help="a name, or the path of a file; all unless given")] = None,
    devices_dir: Folder = None,
    json: Json = False,
) -> None:
    """Machines that costs are known of: all in a table, or every figure of one with interval and source."""
    from systolith_sim.devices.library import find_device, use_folder
    from systolith_sim.devices.listing import details, list_devices

    with refusals():
        use_folder(devices_dir)
        shown = list_devices() if name is None else details(find_device(name))
    if json:
        typer.echo(shown.model_dump_json(by_alias=True))
    else:
        print_devices(shown)


def calibrate(
    out: Annotated[Path | None, typer.Option(help="file to write; local-cpu.toml in your device folder unless given")]
    = None,
    seconds: Annotated[float, decimal("seconds", "time for the repeats, 5..100; the whole takes longer")] = 40.0,
    threads: Annotated[int | None, number("threads", "most threads; all that torch uses unless given")] = None,
    devices_dir: Folder = None,
    json: Json = False,
) -> None:
    """Measure this machine (CPU, and CUDA where there is one) and write it as a device file."""
    from systolith_sim.devices.library import use_folder
    from systolith_sim.devices.listing import details

    with refusals():
        use_folder(devices_dir)
        if out is not None and (out.suffix != ".toml" or not out.parent.is_dir()):
            raise ValueError(f"out must be a .toml file in a folder that exists, not {out}")
        if not 5 <= seconds <= 100:
            raise ValueError(f"seconds must be 5 .. 100, not {seconds:g}")
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # torch reads it when it is first imported
        from systolith_sim.devices.calibrate import calibrate_all

        with progress_bar(not json) as progress:
            found = calibrate_all(threads=threads, seconds=seconds, out=out, progress=progress)
    first = found[0][0]
    if json:
        typer.echo(details(first).model_dump_json(by_alias=True))
        return
    print_devices(details(first))
    for device, path in found:
        typer.echo(f"{device.id}: {path}")


def print_devices(shown: "DeviceList | DeviceDetails") -> None:
    """As tables; wide ones where stdout is no terminal."""
    from rich.console import Console

    from systolith_sim.devices.listing import DeviceList

    console = Console()
    if not console.is_terminal:
        console = Console(width=180)
    if isinstance(shown, DeviceList):
        _list(shown, console)
    else:
        _details(shown, console)


def _list(shown: "DeviceList", console: "Console") -> None:
    from rich.table import Table

    from systolith_sim.units import si

    table = Table(title=f"{len(shown.devices)} devices; dense peaks, TOP/s; your own files: {shown.folder}")
    for column in ("name", "kind", "units", "peak by format", "memory", "bandwidth", "power", "USD/h", "confidence"):
        table.add_column(column, no_wrap=column != "peak by format")
    for device in shown.devices:
        peaks = ", ".join(f"{name} {peak / 1e12:.4g}" for name, peak in device.peak_ops_per_s.items())
        table.add_row(
            device.id + (" *" if device.own else ""), device.kind, device.units, peaks, si(device.memory_bytes, "B"),
            si(device.bandwidth_bytes_per_s, "B/s"), "" if device.tdp_w is None else f"{device.tdp_w:g} W",
            "" if device.price_usd_per_hour is None else f"{device.price_usd_per_hour:g}", device.confidence)
    console.print(table)
    console.print("confidence: the weaker of peak and bandwidth; `systolith devices NAME` has every figure and source.")


def _details(shown: "DeviceDetails", console: "Console") -> None:
    from rich.table import Table

    device = shown.device
    console.print(f"[bold]{device.name}[/bold] ({device.id}, {device.kind}, {device.units})", highlight=False)
    if device.aliases:
        console.print(f"also {', '.join(device.aliases)}", highlight=False)
    if shown.note:
        console.print(shown.note, highlight=False)
    for title, figures in (("figures", shown.figures), (f"kernel parameters: {device.kernel}", shown.kernel_figures)):
        if figures:
            console.print(_figures(title, figures))
    if shown.errors:
        errors = Table(title="measured over predicted: what 90 % of other measurements lie in")
        for column in ("operation", "regime", "case", "low", "high", "MAPE", "rows", "source"):
            errors.add_column(column)
        for error in shown.errors:
            errors.add_row(error.operator, error.regime, error.case, f"{error.low:.3g}", f"{error.high:.3g}",
                           f"{error.mape:.1%}", f"{error.rows:,}", error.source)
        console.print(errors)
    else:
        console.print("no operation was scored on it or its class: every time is taken as good to a factor of 2")


def _figures(title: str, figures: "dict[str, Figure]") -> object:
    from rich.table import Table

    table = Table(title=title)
    for column in ("figure", "value", "low", "high", "source"):
        table.add_column(column, no_wrap=column == "figure")
    for path, figure in figures.items():
        table.add_row(path, *(_number(end, figure.unit) for end in (figure.value, figure.low, figure.high)),
                      figure.source)
    return table


def _number(value: float | None, unit: str) -> str:
    from systolith_sim.units import si

    if value is None:
        return ""
    return si(value, unit) if unit else f"{value:.4g}"
