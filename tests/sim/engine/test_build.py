"""Builds: found again, and refused with a sentence."""

import pytest
from engine.builds import exerciser, exerciser_verilog

from systolith_hw.config import PRESETS
from systolith_sim.engine import EngineError, build_verilog
from systolith_sim.engine.build import export
from systolith_sim.engine.toolchain import find_compiler, run_all


def test_a_build_is_found_again():
    first = exerciser(8)
    again = build_verilog(exerciser_verilog(8), port_bytes=8)
    assert again.cached
    assert again.library == first.library
    assert again.seconds < 5


@pytest.mark.parametrize("change", ["source", "port", "wave"])
def test_every_input_counts(tmp_path, monkeypatch, change):
    monkeypatch.setenv("SYSTOLITH_CACHE", str(tmp_path))
    made = []
    monkeypatch.setattr("systolith_sim.engine.build._make",
                        lambda folder, *_: made.append((folder / "core.so").touch()))
    build_verilog("module core; endmodule", port_bytes=8)
    build_verilog("module core; wire x; endmodule" if change == "source" else "module core; endmodule",
                  port_bytes=4 if change == "port" else 8, wave=change == "wave")
    assert len(made) == 2


@pytest.mark.parametrize(("own", "message"), [
    ("", "^the engine needs a C.. compiler with C..20: install g.. 10 or newer"),
    ("absent-g++", "^CXX must name a C.. compiler, not 'absent-g..': install g.."),
])
def test_a_missing_compiler_is_named(monkeypatch, tmp_path, own, message):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", own)
    with pytest.raises(EngineError, match=message):
        find_compiler()


def test_wrong_verilog_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("SYSTOLITH_CACHE", str(tmp_path))
    monkeypatch.setattr("systolith_sim.engine.build._runtime", lambda *_: [])
    with pytest.raises(EngineError, match=r"^verilator_bin failed with status [0-9]+: .*core.v:1:") as caught:
        build_verilog("module core(; endmodule", port_bytes=8)
    assert "\n" not in str(caught.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"] == []


def test_ended_commands_take_the_others_with_them(tmp_path):
    commands = [["sh", "-c", "sleep 60; touch late"], ["sh", "-c", "echo an error; exit 3"]]
    with pytest.raises(EngineError, match=r"^sh failed with status 3: an error$"):
        run_all(commands, folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["log.txt"]


def test_ctrl_c_ends_the_compilers(tmp_path):
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_all([["sh", "-c", "sleep 60"], ["true"]], folder=tmp_path, done=interrupt)


def test_the_export_has_the_ports():
    source = export(PRESETS["tiny"])
    for port in ("clk", "rst", "m_axi__arvalid", "m_axi__wstrb", "s_axil__awaddr", "interrupt"):
        assert f" {port};" in source, port
