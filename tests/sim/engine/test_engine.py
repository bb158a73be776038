"""The engine as a target: registers, interrupt, life and death, waveforms."""

import struct

import pytest
from engine.builds import exerciser
from engine.driving import Command, events, fill, issue
from engine.exerciser import MISBEHAVE, MUTE
from engine.fst import names, times

from systolith_hw.host import Host
from systolith_hw.isa import Store
from systolith_hw.program import Program
from systolith_hw.registers import IDENTIFIER, Control, Fault, Register
from systolith_sim.engine import Engine, EngineError, Stalls

BYTES = 1 << 16


def test_registers_answer():
    with Engine(exerciser(8), memory_bytes=BYTES) as engine:
        assert engine.read32(Register.IDENTIFIER) == IDENTIFIER
        assert 0 < engine.cycle < 10


def test_advance_counts_cycles_and_stops_at_the_interrupt():
    with Engine(exerciser(8), memory_bytes=BYTES) as engine:
        assert not engine.advance(1000)
        assert engine.cycle == 1000
        assert issue(engine, [Command(False, 0, 16)])
        assert engine.cycle < 1200
        assert engine.advance(1)


def test_memory_is_shared_and_bounded():
    with Engine(exerciser(8), memory_bytes=BYTES) as engine:
        engine.write_memory(8, b"abcdefgh")
        assert engine.memory[8:16].tobytes() == engine.read_memory(8, 8) == b"abcdefgh"
        for access in (lambda: engine.read_memory(BYTES - 4, 8), lambda: engine.write_memory(-1, b"x")):
            with pytest.raises(ValueError, match=r"address must leave . bytes inside the memory of 65536"):
                access()


def test_memory_outlives_the_engine():
    engine = Engine(exerciser(8), memory_bytes=BYTES)
    view = engine.memory[:4]
    engine.close()
    engine.close()
    view[:] = 7
    with pytest.raises(EngineError, match="must be open"):
        engine.advance(1)


def test_engines_are_independent():
    with Engine(exerciser(8), memory_bytes=BYTES) as one, Engine(exerciser(16), memory_bytes=BYTES) as other:
        fill(one, 1)
        assert issue(one, [Command(False, 0, 4)])
        assert not other.advance(100)
        assert issue(other, [Command(True, 64, 2)])
        assert len(events(one)["r"]) == 4
        assert not other.memory.any()


def test_a_mute_control_port_is_an_error():
    with Engine(exerciser(8), memory_bytes=BYTES) as engine:
        engine.write32(MISBEHAVE, MUTE)
        with pytest.raises(EngineError, match="must answer a read of register 0x000, but does not"):
            engine.read32(Register.IDENTIFIER)
        with pytest.raises(EngineError, match="must answer a write of register 0x008, but does not"):
            engine.write32(Register.CONTROL, Control.START)


def test_the_host_runs_on_an_engine():
    store = Store(dram_address=0, local_address=0, row_bytes=8)
    program = Program(instructions=(store,), program_address=256, memory_bytes=4096)
    with Engine(exerciser(8), memory_bytes=4096) as engine:
        host = Host(engine)
        for _ in range(2):
            assert host.run(program).fault is Fault.NONE
        assert engine.read_memory(256, 32) == program.encode()


@pytest.mark.parametrize(("fields", "message"), [
    ({"memory_bytes": 12}, "memory_bytes must be a multiple of 8 in 8..4294967296, not 12"),
    ({"memory_bytes": 0}, "memory_bytes must be a multiple of 8"),
    ({"memory_bytes": 1 << 33}, "memory_bytes must be a multiple of 8"),
    ({"wave": "x.fst"}, "wave must be None with this build, not x.fst"),
])
def test_wrong_parameters_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Engine(exerciser(8), **({"memory_bytes": BYTES} | fields))


def test_a_waveform_shows_every_cycle(tmp_path):
    path = tmp_path / "run.fst"
    commands = [Command(False, 0, 4), Command(True, 64, 2)]
    with Engine(exerciser(4, wave=True), memory_bytes=BYTES, wave=path, stalls=Stalls(seed=1)) as engine:
        assert issue(engine, commands)
        watched = events(engine)
        cycles = engine.cycle
    with Engine(exerciser(4), memory_bytes=BYTES, stalls=Stalls(seed=1)) as engine:
        assert issue(engine, commands)
        assert events(engine) == watched, "a waveform must not change the run"
        assert engine.cycle == cycles
    data = path.read_bytes()
    # Ten nanoseconds a cycle, the last change at the falling edge.
    assert times(data) == (0, 10 * cycles - 5)
    assert {"clk", "m_axi__arvalid", "interrupt", "core"} <= set(names(data))


def test_a_waveform_needs_a_place(tmp_path):
    with pytest.raises(ValueError, match=r"wave must be in a folder that exists, not .*absent"):
        Engine(exerciser(4, wave=True), memory_bytes=BYTES, wave=tmp_path / "absent" / "x.fst")
    with pytest.raises(ValueError, match="wave must be a file with this build, not None"):
        Engine(exerciser(4, wave=True), memory_bytes=BYTES)


def test_an_open_waveform_is_not_complete(tmp_path):
    path = tmp_path / "run.fst"
    engine = Engine(exerciser(4, wave=True), memory_bytes=BYTES, wave=path)
    engine.advance(10)
    engine.close()
    assert struct.unpack(">BQ", path.read_bytes()[:9]) == (0, 329)
