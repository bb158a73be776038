"""Power that is read while calibrating: counters in a folder that stands for Linux's, NVML's bindings replaced."""

import sys
from types import SimpleNamespace

import pytest
import torch

from systolith_sim.devices import calibrate, calibrate_gpu, describe, power

RANGE_UJ = 262_143_328_850  # 32 bits of 61 uJ, as Intel's servers state it


@pytest.fixture
def zones(tmp_path):
    """Two packages with cores and memory, and the platform zone of a laptop, as Linux shows them."""

    def zone(path, name, energy_uj, limit_uw=None):
        folder = tmp_path / path
        folder.mkdir()
        (folder / "name").write_text(f"{name}\n")
        (folder / "energy_uj").write_text(f"{energy_uj}\n")
        (folder / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
        if limit_uw is not None:
            (folder / "constraint_0_power_limit_uw").write_text(f"{limit_uw}\n")

    zone("intel-rapl:0", "package-0", 1_000_000, 205_000_000)
    zone("intel-rapl:0:0", "core", 500_000)
    zone("intel-rapl:0:1", "dram", 300_000)
    zone("intel-rapl:1", "package-1", RANGE_UJ - 1_000_000, 205_000_000)
    zone("intel-rapl:1:0", "dram", 200_000)
    zone("intel-rapl:2", "psys", 9_000_000)
    (tmp_path / "intel-rapl").mkdir()
    return tmp_path


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test moves."""
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(power.time, "perf_counter", lambda: now.seconds)
    return now


def names(counters):
    return [counter.parent.name for counter in counters]


def test_packages_and_their_memory_count_once(zones):
    expected = ["intel-rapl:0", "intel-rapl:0:1", "intel-rapl:1", "intel-rapl:1:0"]
    assert names(power.package_counters(zones)) == expected
    assert power.power_limit_w(zones) == 410.0


def test_joules_of_all_counters_over_the_time(zones, clock):
    """Package 0 spends 60 J, package 1 wraps and spends 1 J up to its range and 30 J behind it, memory 4 and 5 J."""
    after = {"0": 61_000_000, "0:1": 4_300_000, "1": 30_000_000, "1:0": 5_200_000}

    def work():
        clock.seconds += 2.0
        for path, energy_uj in after.items():
            (zones / f"intel-rapl:{path}" / "energy_uj").write_text(str(energy_uj))

    watts, calls = power.average_power_w(work, 1.0, power.package_counters(zones))
    assert calls == 1
    assert watts == pytest.approx((60 + 31 + 4 + 5) / 2.0)


def test_a_counter_that_wraps_without_its_range_says_nothing(zones, clock):
    (zones / "intel-rapl:1" / "max_energy_range_uj").unlink()

    def work():
        clock.seconds += 1.0
        (zones / "intel-rapl:1" / "energy_uj").write_text("5")

    assert power.average_power_w(work, 1.0, power.package_counters(zones)) == (None, 1)


def hide(counter):
    """Make a counter unreadable; root reads files of any mode, so a folder stands in its place."""
    counter.unlink()
    counter.mkdir()


@pytest.mark.parametrize("hidden", ["intel-rapl:0", "intel-rapl:1", "intel-rapl:1:0"])
def test_a_part_of_the_machine_is_not_the_machine(zones, hidden):
    hide(zones / hidden / "energy_uj")
    assert power.package_counters(zones) == []
    assert power.power_limit_w(zones) is None


def test_a_counter_that_is_closed_meanwhile_says_nothing(zones, clock):
    counters = power.package_counters(zones)

    def work():
        clock.seconds += 1.0
        hide(zones / "intel-rapl:0" / "energy_uj")

    assert power.average_power_w(work, 0.5, counters) == (None, 1)


def test_energies_of_a_machine_whose_power_is_known(monkeypatch):
    """10 W idle, 40 W at 100 products a second, 25 W at 50 sums of 2^25 floats a second."""
    readings = iter([(10.0, 20), (40.0, 100), (25.0, 50)])
    monkeypatch.setattr(power, "package_counters", lambda: ["counter"])
    monkeypatch.setattr(power, "average_power_w", lambda action, seconds, counters: next(readings))
    monkeypatch.setattr(calibrate, "FORMATS", ("fp32",))
    found = calibrate.Measured(1, {})
    calibrate._power(found)
    assert found.idle_w == 10.0
    energies = describe._op_energy(found)
    assert energies["fp32"].value == pytest.approx(30 / (100 * 2 * 256 * 1024 * 1024), rel=1e-3)
    per_byte = describe._energy_per_byte(found)
    assert per_byte is not None
    assert per_byte.value == pytest.approx(15 / (50 * 4 * 2**25), rel=1e-3)


def test_power_that_fails_under_load_states_no_energy(monkeypatch):
    readings = iter([(10.0, 20), (None, 100), (None, 50)])
    monkeypatch.setattr(power, "package_counters", lambda: ["counter"])
    monkeypatch.setattr(power, "average_power_w", lambda action, seconds, counters: next(readings))
    monkeypatch.setattr(calibrate, "FORMATS", ("fp32",))
    found = calibrate.Measured(1, {})
    calibrate._power(found)
    assert (found.compute_w, found.stream_w) == ({}, None)
    assert describe._op_energy(found) == {}
    assert describe._energy_per_byte(found) is None


class NotSupported(Exception):
    """As NVML's bindings raise it; no RuntimeError."""


@pytest.fixture
def nvml(monkeypatch):
    """NVML's bindings as torch asks them: one GPU that draws 250 W; ``nvml.error`` is raised instead."""

    def usage(handle):
        if fake.error is not None:
            raise fake.error
        return {"GPU 0": 250_000}[handle]

    fake = SimpleNamespace(
        error=None, nvmlInit=lambda: None, nvmlDeviceGetHandleByIndex=lambda index: f"GPU {index}",
        nvmlDeviceGetPowerUsage=usage, NVMLError_DriverNotLoaded=type("NVMLError_DriverNotLoaded", (Exception,), {}),
    )  # fmt: skip
    facts = SimpleNamespace(name="Some GPU", multi_processor_count=10, total_memory=2**34, L2_cache_size=2**22)
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setattr(torch.cuda, "pynvml", fake, raising=False)
    monkeypatch.setattr(torch.cuda, "_HAS_PYNVML", True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: facts)
    return fake


def test_board_power_comes_from_nvml(nvml):
    facts = calibrate_gpu.gpu_facts()
    assert facts is not None
    assert facts.power_w is not None
    assert facts.power_w() == 250.0


def test_a_board_that_does_not_tell_its_power(nvml):
    nvml.error = NotSupported("Not Supported")
    facts = calibrate_gpu.gpu_facts()
    assert facts is not None
    assert facts.power_w is None


def test_missing_bindings_leave_power_out(nvml, monkeypatch):
    monkeypatch.setattr(torch.cuda, "_HAS_PYNVML", False)
    monkeypatch.setattr(torch.cuda, "_PYNVML_ERR", ModuleNotFoundError("pynvml"), raising=False)
    facts = calibrate_gpu.gpu_facts()
    assert facts is not None
    assert facts.power_w is None


def test_a_driver_that_is_not_loaded_leaves_power_out(nvml):
    def refuse():
        raise nvml.NVMLError_DriverNotLoaded

    nvml.nvmlInit = refuse
    facts = calibrate_gpu.gpu_facts()
    assert facts is not None
    assert facts.power_w is None


def test_power_is_read_once_the_average_has_caught_up(monkeypatch, clock):
    """NVML's mean rises over a second; only the second half of the time under load is read."""
    monkeypatch.setattr(calibrate_gpu.time, "perf_counter", lambda: clock.seconds)

    def run(action, calls):
        clock.seconds += 0.1
        return 0.005

    def watts():
        return 400.0 if clock.seconds >= 101.0 else 70.0 + 330.0 * (clock.seconds - 100.0)

    facts = calibrate_gpu.Facts("Some GPU", 10, 2**34, 2**22, "cpu", run, watts)
    assert calibrate_gpu._power_under(lambda: None, facts) == 400.0
