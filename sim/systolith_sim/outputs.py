"""Files that appear whole or not at all, in places that are tried before the work begins."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def output_file(path: Path, *, field: str) -> Iterator[Path]:
    """A file beside ``path`` to be written; it takes that name when the block ends well, and goes away otherwise.

    Raises
    ------
    ValueError
        If no file can be written there; the sentence begins with ``field``.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"{field} must be a file, not {path}")
    if not path.parent.is_dir():
        raise ValueError(f"{field} must be in a folder that exists, not {path}")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.touch(exist_ok=False)
    except OSError as error:
        raise ValueError(f"{field} must be a file that can be written, not {path}: {error.strerror}") from None
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def output_folder(path: Path, *, field: str) -> Iterator[Path]:
    """A folder inside ``path`` to be filled; its files move to ``path`` when the block ends well.

    Folders that had to be made go away again when it does not.

    Raises
    ------
    ValueError
        If files cannot be written there; the sentence begins with ``field``.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    partial = None
    try:
        try:
            path.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(dir=path, prefix=".", suffix=".partial"))
        except OSError as error:
            raise ValueError(f"{field} must be a folder that can be written, not {path}: {error.strerror}") from None
        yield partial
        for file in sorted(partial.iterdir()):
            file.replace(path / file.name)
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
        for folder in missing:
            with suppress(OSError):  # not empty: the files are there, or somebody else's are
                folder.rmdir()
