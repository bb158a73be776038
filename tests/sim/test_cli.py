"""The command's manners: help, JSON and nothing else on stdout, one sentence on stderr and exit 2 for bad input."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path

import jsonschema
import pytest

from systolith_sim.cli import main

CODE = "from systolith_sim.cli import main; main()"


def systolith(*arguments, **environment):
    """Run the command as a user does."""
    return subprocess.run([sys.executable, "-c", CODE, *arguments], capture_output=True, text=True, timeout=600,
                          check=False, env=os.environ | environment)


@pytest.fixture
def refused(capsys):
    """Run the command in this process, see it refuse its input, and give what it says on stderr."""
    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main(list(arguments))
        told = capsys.readouterr()
        assert (end.value.code, told.out) == (2, "")
        return told.err

    before = signal.getsignal(signal.SIGTERM)
    yield run
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("arguments", [("--help",), ()])
def test_help_names_the_commands(arguments):
    done = systolith(*arguments)
    assert done.returncode == 0
    assert "rtl" in done.stdout
    assert "run" in done.stdout


def test_version():
    from systolith_sim import __version__

    done = systolith("--version")
    assert (done.returncode, done.stdout) == (0, f"systolith {__version__}\n")


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
    (("rtl", "gemm", "-4", "4", "4"), "M must be >= 1, not -4"),
    (("rtl", "gemm", "4", "4", "4.5"), "N must be a whole number, not '4.5'"),
    (("rtl", "gemm", "4", "4"), "Missing argument 'N'"),
    (("rtl", "gemm", "4", "4", "--bogus"), "no such option: --bogus"),
    (("rtl", "gemm", "99999999999999999999", "1", "1"), "M, K and N must need at most 4294967296 bytes of DRAM, not"),
    (("rtl", "gemm", "30000", "60000", "20000", "--core", "tiny"), "M, K and N must take at most 4294967295 cycles"),
    (("rtl", "gemm", "4", "70000", "4"), "K must be in 1..65793, not 70000"),
    (("rtl", "gemm", "4", "4", "4", "--core", "huge"), "core must be one of tiny, base, full, wide, long"),
    (("rtl", "gemm", "4", "4", "4", "--memory-latency", "0"), "latency must be in 1.."),
    (("rtl", "gemm", "4", "4", "4", "--seed", "-1"), "seed must be >= 0, not -1"),
    (("rtl", "gemm", "4", "4", "4", "--stall-seed", "-1"), "stall_seed must be in 0..4294967295, not -1"),
    (("rtl", "gemm", "4", "4", "4", "--stall-seed", "4294967296"), "stall_seed must be in 0..4294967295, not 42949"),
    (("rtl", "gemm", "4", "4", "4", "--stall-seed", "x"), "stall_seed must be a whole number, not 'x'"),
    (("rtl", "gemm", "4", "4", "4", "--core", "a" * 300), "core must be one of tiny, base"),
    (("rtl", "gemm", "4", "4", "4", "--wave", "."), "wave must be a file, not ."),
    (("rtl", "gemm", "4", "4", "4", "--wave", "/dev/full"), "wave must be a file, not /dev/full"),
    (("rtl", "campaign", "--cases", "0"), "cases must be >= 1, not 0"),
    (("rtl", "verilog", "--out", "."), "out must be a file, not ."),
    (("rtl", "bogus"), "No such command 'bogus'"),
    (("run", "--tokens", "x"), "tokens must be a whole number, not 'x'"),
    (("run", "--layers", "\u00b2:3"), "layers must be A:B with 0 <= A < B, not '\u00b2:3'"),
    (("run", "--out", "/dev/null"), "out must be a folder that can be written, not /dev/null"),
    (("rtl", "gemm", "4", "4", "4", "--wave", "no/such/folder/w.fst"), "wave must be in a folder that exists"),
    (("rtl", "verilog", "--out", "no/such/folder/core.v"), "out must be in a folder that exists"),
    (("run", "--layers", "2"), "layers must be A:B"),
    (("run", "--layers", "0:99"), "layers must be A:B with 0 <= A < B <= 4"),
    (("run", "--tokens", "0"), "tokens must be"),
    (("run", "--tokens", "100000"), "tokens must be in 1..256"),
    (("run", "--clock-mhz", "0"), "clock_mhz must be in 0.001..10000, not 0"),
    (("run", "--checkpoint", "no/such/folder"), "no/such/folder"),
])
def test_bad_input_is_one_sentence(arguments, sentence, refused):
    told = refused(*arguments)
    assert told.startswith("systolith: ")
    assert told.count("\n") == 1
    assert sentence in told


@pytest.mark.parametrize(("environment", "sentence"), [
    ({"SYSTOLITH_CACHE": "/dev/null"}, "SYSTOLITH_CACHE must name a folder that can be written, not /dev/null"),
    ({"CXX": "no-such-compiler"}, "CXX must name a C++ compiler, not 'no-such-compiler': install g++"),
])
def test_a_machine_that_lacks_something(environment, sentence):
    done = systolith("rtl", "gemm", "1", "1", "1", "--core", "tiny", **environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


def test_ctrl_c_ends_with_130_and_takes_the_half_written_file_along(tmp_path, monkeypatch, capsys):
    def interrupt(core):
        raise KeyboardInterrupt

    monkeypatch.setattr("systolith_sim.engine.build.export", interrupt)
    with pytest.raises(SystemExit) as end:
        main(["rtl", "verilog", "--out", str(tmp_path / "core.v")])
    assert (end.value.code, tuple(capsys.readouterr()), list(tmp_path.iterdir())) == (130, ("", ""), [])


def test_a_full_disk_behind_stdout():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", CODE, "--version"], stdout=full, stderr=subprocess.PIPE,
                              text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr == "systolith: [Errno 28] No space left on device\n"


@pytest.mark.parametrize(("text", "sentence"), [
    ("rows = 0\ncols = 4\n", "rows: Input should be greater than or equal to 1, not 0"),
    ("rows = 4\ncols = 4\nrowz = 1\n", "rowz: no such field; allowed are rows"),
    ("rows = 4\n", "cols: Field required"),
    ("rows = 4\ncols = 4\nport_bytes = 3\n", "port_bytes must be a power of two, not 3"),
    ("rows = 4\ncols = 4\ndot = 2\n", "dot: Input should be 1, not 2"),
    ("rows = \n", "not TOML"),
    ("a = " + "[" * 5000 + "]" * 5000, "nested too deeply"),
])
def test_wrong_cores(tmp_path, text, sentence, refused):
    path = tmp_path / "core.toml"
    path.write_text(text)
    assert sentence in refused("rtl", "gemm", "4", "4", "4", "--core", str(path))


def test_truncated_checkpoint(tmp_path, refused):
    from systolith_model.zoo import checkpoint_folder

    for file in checkpoint_folder().iterdir():
        data = file.read_bytes()
        (tmp_path / file.name).write_bytes(data[:1000] if file.name == "model.safetensors" else data)
    assert "model.safetensors" in refused("run", "--checkpoint", str(tmp_path), "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("stalls", [(), ("--stall-seed", "3")])
def test_gemm_as_json(stalls):
    done = systolith("rtl", "gemm", "5", "9", "7", "--core", "tiny", "--json", *stalls)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    schema = json.loads(resources.files("systolith_sim").joinpath("schemas", "rtl-gemm-1.json").read_text("utf-8"))
    jsonschema.validate(result, schema)
    assert result["bit_exact"]
    assert result["macs"] == 5 * 9 * 7
    assert result["bound_cycles"] <= result["cycles"]
    assert (result["model_stalls"] is None) == bool(stalls)
    if not stalls:
        assert result["cycles"] == result["model_cycles"]
        assert result["stalls"] == result["model_stalls"]
