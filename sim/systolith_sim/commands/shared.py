"""What all commands share: refusals in one sentence, progress bars, options."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="one JSON object on stdout and nothing else there")]


class Refused(typer.Exit):
    """Bad input: the sentence is already on stderr; exit status 2."""

    def __init__(self, error: object) -> None:
        typer.echo(f"systolith: {error}", err=True)
        super().__init__(2)


@contextmanager
def bad_input(*kinds: type[Exception]) -> Iterator[None]:
    """Turn errors of the input into one sentence on stderr and exit status 2."""
    try:
        yield
    except (ValueError, *kinds) as error:
        raise Refused(" ".join(str(error).split())) from None


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
