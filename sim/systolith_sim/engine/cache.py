"""Finished builds by the hash of what they are made from: whole or absent, shared by processes.

An entry is a folder ``<key>`` with a list of its files' hashes. It is made under another name and
renamed at the end, so that Ctrl-C, a kill or a full disk leave nothing that looks finished. A lock per
key lets one process build while others wait for the result; the system drops it when its holder dies.
"""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from systolith_sim.engine.errors import EngineError

_MANIFEST = "files.json"
_PARTIAL = ".partial"


def cache_root() -> Path:
    """``$SYSTOLITH_CACHE``, or ``systolith`` in the user's cache folder."""
    own = os.environ.get("SYSTOLITH_CACHE")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "systolith"


def content_key(*parts: str | bytes) -> str:
    """A name for the result of these inputs; the bounds between the parts count."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:32]


def cached(kind: str, key: str, make: Callable[[Path], None]) -> tuple[Path, bool]:
    """The folder of an entry, and whether it was there; ``make`` fills a new, empty folder.

    A damaged entry is made again.

    Raises
    ------
    EngineError
        If the cache folder cannot be written.
    """
    root = cache_root() / kind
    entry = root / key
    try:
        root.mkdir(parents=True, exist_ok=True)
        if _whole(entry):
            return entry, True
        with _lock(root, key):
            if _whole(entry):
                return entry, True
            _sweep(root)
            _build(root, entry, make)
    except OSError as error:
        raise EngineError(f"SYSTOLITH_CACHE must name a folder that can be written, not {cache_root()}: "
                          f"{error}") from None
    return entry, False


def _build(root: Path, entry: Path, make: Callable[[Path], None]) -> None:
    partial = Path(tempfile.mkdtemp(dir=root, prefix=f"{entry.name}.", suffix=_PARTIAL))
    try:
        make(partial)
        hashes = {file.name: _hash(file) for file in sorted(partial.iterdir())}
        (partial / _MANIFEST).write_text(json.dumps(hashes), encoding="utf-8")
        # Only a damaged entry can stand here, and only the holder of the lock writes.
        shutil.rmtree(entry, ignore_errors=True)
        partial.rename(entry)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _whole(entry: Path) -> bool:
    try:
        hashes = json.loads((entry / _MANIFEST).read_text(encoding="utf-8"))
        return bool(hashes) and all(_hash(entry / name) == value for name, value in hashes.items())
    except (OSError, ValueError, AttributeError):
        return False


def _hash(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def _lock(root: Path, key: str, *, wait: bool = True) -> Iterator[bool]:
    """Hold the key's lock; without ``wait`` gives false at once when another process holds it."""
    with (root / f"{key}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def _sweep(root: Path) -> None:
    """Remove what killed builds have left."""
    for partial in root.glob(f"*{_PARTIAL}"):
        key = partial.name.split(".")[0]
        with suppress(OSError), _lock(root, key, wait=False) as held:
            if held:
                shutil.rmtree(partial, ignore_errors=True)
