"""Outputs appear whole or not at all."""

import pytest

from systolith_sim.outputs import output_file, output_folder


def test_a_file_appears_at_the_end(tmp_path):
    path = tmp_path / "core.v"
    path.write_text("old")
    with output_file(path, field="out") as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert [file.read_text() for file in tmp_path.iterdir()] == ["new"]


def interrupted_file(path, error):
    with output_file(path / "core.v", field="out") as partial:
        partial.write_text("half")
        raise error


def interrupted_folder(path, error):
    with output_folder(path / "a" / "b", field="out") as partial:
        (partial / "results.json").write_text("half")
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("interrupted", [interrupted_file, interrupted_folder])
def test_nothing_half_written_stays(tmp_path, interrupted, error):
    with pytest.raises(error):
        interrupted(tmp_path, error)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_keeps_what_it_held(tmp_path):
    (tmp_path / "mine").write_text("old")
    (tmp_path / "report.html").write_text("old")
    with output_folder(tmp_path, field="out") as partial:
        (partial / "report.html").write_text("new")
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"mine": "old", "report.html": "new"}


@pytest.mark.parametrize(("context", "path", "message"), [
    (output_file, "", "out must be a file, not .*"),
    (output_file, "file/x", "out must be in a folder that exists, not .*file/x"),
    (output_file, "x" * 255, "out must be a file that can be written, not .*x: File name too long"),
    (output_folder, "file", "out must be a folder that can be written, not .*file: File exists"),
    (output_folder, "file/x", "out must be a folder that can be written, not .*file/x: Not a directory"),
])
def test_places_are_tried_first(tmp_path, context, path, message):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=message), context(tmp_path / path, field="out"):
        pytest.fail("the block must not begin")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
