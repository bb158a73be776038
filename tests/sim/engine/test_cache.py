"""The cache: whole entries or none, whatever happens to the processes."""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from systolith_sim.engine.cache import cache_root, cached, content_key
from systolith_sim.engine.errors import EngineError


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("SYSTOLITH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def make(folder: Path) -> None:
    (folder / "result").write_text("made")


def refuse(folder: Path) -> None:
    raise AssertionError(f"{folder} must not be made again")


def leftovers(root: Path) -> list[str]:
    return [path.name for path in (root / "kind").iterdir() if path.suffix != ".lock" and path.name != "key"]


def test_an_entry_is_made_once():
    folder, found = cached("kind", "key", make)
    assert not found
    assert (folder / "result").read_text() == "made"
    assert cached("kind", "key", refuse) == (folder, True)


@pytest.mark.parametrize("damage", [
    lambda folder: (folder / "result").write_text("other"),
    lambda folder: (folder / "result").unlink(),
    lambda folder: (folder / "files.json").write_text("{"),
    lambda folder: (folder / "files.json").write_text(json.dumps([])),
    lambda folder: (folder / "files.json").unlink(),
])
def test_a_damaged_entry_is_made_again(root, damage):
    folder, _ = cached("kind", "key", make)
    damage(folder)
    assert cached("kind", "key", make) == (folder, False)
    assert (folder / "result").read_text() == "made"
    assert leftovers(root) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, EngineError, ValueError])
def test_an_interrupted_make_leaves_nothing(root, error):
    def stop(folder: Path) -> None:
        make(folder)
        raise error

    with pytest.raises(error):
        cached("kind", "key", stop)
    assert leftovers(root) == []
    assert not (root / "kind" / "key").exists()


def hang(started) -> None:
    def wait(folder: Path) -> None:
        make(folder)
        started.set()
        time.sleep(60)
    cached("kind", "key", wait)


def test_a_killed_make_is_swept_by_the_next(root):
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    process = context.Process(target=hang, args=(started,))
    process.start()
    assert started.wait(30)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert len(leftovers(root)) == 1
    assert cached("kind", "other", make)[1] is False
    assert [name for name in leftovers(root) if "partial" in name] == []
    assert cached("kind", "key", make)[1] is False


def count(folder: Path) -> None:
    with (folder.parent.parent / "made").open("a") as file:
        file.write("x")
    time.sleep(0.2)
    make(folder)


def take(_: int) -> bool:
    return cached("kind", "key", count)[1]


def test_processes_share_one_make(root):
    root.mkdir()
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        found = pool.map(take, range(6), chunksize=1)
    assert found.count(False) == 1
    assert (root / "made").read_text() == "x"


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SYSTOLITH_CACHE", str(tmp_path / "file"))
    with pytest.raises(EngineError, match=r"SYSTOLITH_CACHE must name a folder that can be written, not .*"):
        cached("kind", "key", make)


def test_where_the_cache_is(monkeypatch, tmp_path):
    assert cache_root() == tmp_path / "cache"
    monkeypatch.delenv("SYSTOLITH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_root() == Path("/x/systolith")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_root() == Path.home() / ".cache" / "systolith"


def test_keys_tell_parts_apart():
    assert content_key("ab", "c") != content_key("a", "bc")
    assert content_key("ab", b"c") == content_key(b"ab", "c")
