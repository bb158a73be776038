"""The command's manners: help, JSON and nothing else on stdout, one sentence on stderr and exit 2 for bad input."""

import json
import subprocess
import sys
import time
from importlib import resources

import jsonschema
import pytest


def systolith(*arguments):
    """Run the command as a user does."""
    code = "from systolith_sim.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=600,
                          check=False)


def test_help_names_the_commands():
    done = systolith("--help")
    assert done.returncode == 0
    assert "rtl" in done.stdout
    assert "run" in done.stdout


def test_help_imports_nothing_heavy():
    code = ("import sys\nfrom systolith_sim import cli\n"
            "try:\n    cli.main(['--help'])\nexcept SystemExit:\n    pass\n"
            "print(sorted({'torch', 'amaranth', 'numpy', 'plotly', 'simpy'} & set(sys.modules)), file=sys.stderr)")
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.strip() == "[]", f"{time.perf_counter() - start:.1f} s"


@pytest.mark.parametrize(("arguments", "sentence"), [
    (("rtl", "gemm", "0", "4", "4"), "M must be >= 1, not 0"),
    (("rtl", "gemm", "--", "4", "-4", "4"), "K must be in 1..65793, not -4"),
    (("rtl", "gemm", "4", "70000", "4"), "K must be in 1..65793, not 70000"),
    (("rtl", "gemm", "4", "4", "4", "--core", "huge"), "core must be one of tiny, base, full, wide, long"),
    (("rtl", "gemm", "4", "4", "4", "--memory-latency", "0"), "latency must be in 1.."),
    (("rtl", "gemm", "4", "4", "4", "--seed", "-1"), "seed must be >= 0, not -1"),
    (("rtl", "gemm", "4", "4", "4", "--stall-seed", "-1"), "stall_seed must be"),
    (("rtl", "gemm", "4", "4", "4", "--wave", "no/such/folder/w.fst"), "wave must be in a folder that exists"),
    (("rtl", "verilog", "--out", "no/such/folder/core.v"), "out must be in a folder that exists"),
    (("run", "--layers", "2"), "layers must be A:B"),
    (("run", "--layers", "0:99"), "layers must be A:B with 0 <= A < B <= 4"),
    (("run", "--tokens", "0"), "tokens must be"),
    (("run", "--tokens", "100000"), "tokens must be in 1..256"),
    (("run", "--clock-mhz", "0"), "clock_mhz must be above 0"),
    (("run", "--checkpoint", "no/such/folder"), "no/such/folder"),
])
def test_bad_input_is_one_sentence(arguments, sentence):
    done = systolith(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("text", "sentence"), [
    ("rows = 0\ncols = 4\n", "rows: Input should be greater than or equal to 1, not 0"),
    ("rows = 4\ncols = 4\nrowz = 1\n", "rowz: no such field; allowed are rows"),
    ("rows = 4\n", "cols: Field required"),
    ("rows = 4\ncols = 4\nport_bytes = 3\n", "port_bytes must be a power of two, not 3"),
    ("rows = 4\ncols = 4\ndot = 2\n", "dot: Input should be 1, not 2"),
    ("rows = \n", "not TOML"),
])
def test_wrong_cores(tmp_path, text, sentence):
    path = tmp_path / "core.toml"
    path.write_text(text)
    done = systolith("rtl", "gemm", "4", "4", "4", "--core", str(path))
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr


def test_truncated_checkpoint(tmp_path):
    from systolith_model.zoo import checkpoint_folder

    for file in checkpoint_folder().iterdir():
        data = file.read_bytes()
        (tmp_path / file.name).write_bytes(data[:1000] if file.name == "model.safetensors" else data)
    done = systolith("run", "--checkpoint", str(tmp_path), "--out", str(tmp_path / "out"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "model.safetensors" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("stalls", [(), ("--stall-seed", "3")])
def test_gemm_as_json(stalls):
    done = systolith("rtl", "gemm", "5", "9", "7", "--core", "tiny", "--json", *stalls)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    schema = json.loads(resources.files("systolith_sim").joinpath("schemas", "rtl-gemm-1.json").read_text("utf-8"))
    jsonschema.validate(result, schema)
    assert result["bit_exact"]
    assert result["macs"] == 5 * 9 * 7
    assert result["bound_cycles"] <= result["cycles"]
    assert (result["model_stalls"] is None) == bool(stalls)
    if not stalls:
        assert result["cycles"] == result["model_cycles"]
        assert result["stalls"] == result["model_stalls"]
