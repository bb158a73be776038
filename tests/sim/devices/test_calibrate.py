"""Calibration: small measurements on this machine, and the model recovered from times it made itself."""

import pytest
import torch

from systolith_sim.devices import calibrate, measure
from systolith_sim.devices.kernel import kernel_time
from systolith_sim.devices.library import find_device
from systolith_sim.devices.measure import Product, Timing


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Sizes and times that keep a calibration under a few seconds."""
    monkeypatch.setenv("SYSTOLITH_DEVICES", str(tmp_path))
    monkeypatch.setattr(calibrate, "PEAK_SIZE", (128, 128, 128))
    monkeypatch.setattr(calibrate, "FITTED_SIZES", ((1, 64, 64), (32, 64, 64), (64, 128, 128)))
    monkeypatch.setattr(calibrate, "SCORED_SIZES", ((32, 96, 64),))
    monkeypatch.setattr(calibrate, "QUICK_S", 0.006)
    monkeypatch.setattr(measure, "cache_bytes", lambda level: 2 ** (15 + level))


def test_a_calibrated_machine_is_a_device(small, product):
    before, steps = torch.get_num_threads(), []
    device = calibrate.calibrate(threads=1, step=lambda what, total: steps.append((what, total)))
    assert torch.get_num_threads() == before
    assert len(steps) == steps[0][1], "the progress bar must end at its total"
    path = calibrate.save(device)
    assert find_device("local-cpu-1t") == device == find_device(str(path))
    assert {"fp32", "bf16"} <= set(device.peak_ops_per_s)
    assert device.units.count == 1
    assert device.power.idle_w is not None
    assert device.power.idle_w.confidence == "derived"
    graph = product(32, 64, 64, "fp32")
    assert 1e-7 < kernel_time(device, graph, graph.operations[0]).seconds < 1


@pytest.mark.parametrize("threads", [0, -1, 10**6])
def test_threads_are_checked(threads):
    with pytest.raises(ValueError, match=rf"threads must be 1 \.\. \d+ on this machine, not {threads}"):
        calibrate.calibrate(threads=threads)


def test_the_fit_recovers_a_known_machine():
    # 5 us of launch, 100 GFLOP/s, 20 GB/s of packing; caches too fast to matter
    def seconds(m, k, n):
        return 5e-6 + 2 * m * k * n / 100e9 + 4 * (m * k + k * n + m * n) / 20e9

    sizes = (calibrate.PEAK_SIZE, *calibrate.FITTED_SIZES)
    made = [Product("fp32", *size, Timing(seconds(*size), seconds(*size))) for size in sizes]
    levels = {"main": (2**34, 1e15, Timing(1.0, 1.0))}
    fit = calibrate._fit(calibrate._Measured(1, made, [], levels, 1e9, Timing(1e-6, 1e-6)), "fp32")
    assert fit is not None
    assert fit["launch_s"] == pytest.approx(5e-6, rel=0.1)
    assert fit["peak_ops_per_s"] == pytest.approx(100e9, rel=0.1)
    assert fit["feed_bytes_per_s"] == pytest.approx(20e9, rel=0.2)


def test_repeat_measures_a_known_wait():
    timing = measure.repeat(lambda: torch.ones(1), 0.01)
    assert 0 < timing.seconds <= timing.high_s < 0.01
