"""Who may import whom (imports run one way), and what the wheel holds."""

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"systolith_hw": ROOT / "hw", "systolith_model": ROOT / "model", "systolith_sim": ROOT / "sim"}
FORBIDDEN = {"systolith_model": {"systolith_hw", "systolith_sim"},
             "systolith_hw": {"systolith_model", "systolith_sim"}, "systolith_sim": set()}
DATA_SUFFIXES = {".py", ".typed", ".toml", ".json", ".cpp", ".hpp", ".h", ".v", ".safetensors", ".j2", ".html",
                 ".md", ".txt", ".css", ".js"}


def sources(package):
    return sorted((PACKAGES[package] / package).rglob("*.py"))


def imported(path):
    """Top-level names of all absolute imports of a file, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_one_way(package):
    files = sources(package)
    assert files
    wrong = [f"{path.relative_to(ROOT)} imports {name}" for path in files
             for name in set(imported(path)) & FORBIDDEN[package]]
    assert not wrong


@pytest.mark.parametrize("package", PACKAGES)
def test_no_relative_imports_and_no_tests(package):
    for path in sources(package):
        names = set(imported(path))
        assert not names & {"pytest", "tests", "hypothesis", "cocotb"}, path
        levels = [node.level for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                  if isinstance(node, ast.ImportFrom)]
        assert not any(levels), f"{path} imports relatively"


def test_timing_and_instruction_set_need_no_amaranth():
    """The compiler and the cycle model import these, and start quickly."""
    modules = ("config", "isa", "operands", "registers", "timing", "program", "legality", "host")
    for module in modules:
        path = PACKAGES["systolith_hw"] / "systolith_hw" / f"{module}.py"
        assert "amaranth" not in set(imported(path)), module


def in_repository(package):
    """Files of a package that git knows or would know."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--",
         str(PACKAGES[package] / package)], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return {Path(name) for name in listing.splitlines() if (ROOT / name).exists()}


def test_wheel_holds_every_file_of_the_packages(tmp_path):
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
                   cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    for package, folder in PACKAGES.items():
        assert f"{package}/py.typed" in names
        files = {str((ROOT / path).relative_to(folder)) for path in in_repository(package)}
        assert files <= names, sorted(files - names)
        assert {Path(file).suffix for file in files} <= DATA_SUFFIXES, "is the new kind of file meant?"
    present = {Path(name).suffix for name in names}
    assert {".py", ".typed", ".toml", ".cpp"} <= present
