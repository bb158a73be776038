"""What all commands share: refusals in one sentence, options that are parsed, progress bars."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="one JSON object on stdout and nothing else there")]


class Refused(typer.Exit):
    """Bad input, or a machine that lacks something: the sentence is already on stderr; exit status 2."""

    def __init__(self, error: object, status: int = 2) -> None:
        typer.echo(f"systolith: {' '.join(str(error).split())}", err=True)
        super().__init__(status)


def whole(name: str) -> Callable[[Any], int]:
    """Parser of a whole number; the sentence that refuses another text has ``name`` and the text."""
    def parse(text: Any) -> int:
        try:
            return int(text)
        except ValueError:
            raise Refused(f"{name} must be a whole number, not {text!r}"
                          if not str(text).startswith("--") else f"no such option: {text}") from None
    return parse


def real(name: str) -> Callable[[Any], float]:
    """Parser of a number, as ``whole``."""
    def parse(text: Any) -> float:
        try:
            return float(text)
        except ValueError:
            raise Refused(f"{name} must be a number, not {text!r}") from None
    return parse


def number(name: str, text: str) -> Any:
    """An option with a whole number."""
    return typer.Option(help=text, metavar="INTEGER", parser=whole(name))


def decimal(name: str, text: str) -> Any:
    """An option with a number."""
    return typer.Option(help=text, metavar="FLOAT", parser=real(name))


def at_least(name: str, value: int, least: int) -> None:
    """Refuse smaller values."""
    if value < least:
        raise ValueError(f"{name} must be >= {least}, not {value}")


@contextmanager
def refusals() -> Iterator[None]:
    """Turn what the input or the machine is at fault for into one sentence on stderr and exit status 2.

    A program that does not end as it should ends in a sentence, too, and exit status 1.
    """
    from systolith_hw.host import CoreFault, HostError
    from systolith_sim.engine.errors import EngineError

    try:
        yield
    except (ValueError, EngineError) as error:
        raise Refused(error) from None
    except MemoryError as error:
        raise Refused(f"the sizes must fit in this machine's memory: {error}") from None
    except (CoreFault, HostError) as error:
        raise Refused(error, status=1) from None


@contextmanager
def progress_bar(show: bool) -> Iterator[Callable[[str, int, int | None], None]]:
    """A bar on stderr, where a person looks; silent elsewhere."""
    if not (show and sys.stderr.isatty()):
        yield lambda what, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    with Progress(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,.0f}"),
                  TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)
