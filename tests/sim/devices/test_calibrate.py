"""Calibration: small measurements on this machine, and predictions from curves whose law is known."""

import time

import pytest
import torch

from systolith_model.formats import Formats
from systolith_model.workload import decode_graph
from systolith_model.zoo import architecture
from systolith_sim.devices import calibrate, calibrate_gpu, describe, measure, power, workloads
from systolith_sim.devices.curves import interpolate
from systolith_sim.devices.device import Curve
from systolith_sim.devices.kernel import cost, kernel_time, weight_bytes
from systolith_sim.devices.library import find_device, parse_device
from systolith_sim.devices.measure import Timing
from systolith_sim.devices.toml import device_toml


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Sizes and times that keep a calibration under a few seconds."""
    monkeypatch.setenv("SYSTOLITH_DEVICES", str(tmp_path))
    monkeypatch.setattr(calibrate, "ROWS", (1, 8, 32))
    monkeypatch.setattr(calibrate, "ELEMENTS", (2**10, 2**12, 2**14))
    monkeypatch.setattr(calibrate, "SCORES", (2**8, 2**10, 2**12))
    monkeypatch.setattr(calibrate, "MAIN_WEIGHTS", (128, 256))
    monkeypatch.setattr(calibrate, "SIDE_SIZES", (32, 512))
    monkeypatch.setattr(measure, "cache_bytes", lambda level: 2 ** (15 + level))
    monkeypatch.setattr(power, "package_counters", lambda: [])
    return tmp_path


def test_a_calibrated_machine_is_a_device(small, product, decoder):
    before, steps = torch.get_num_threads(), []
    device = calibrate.calibrate(threads=1, seconds=0.2, step=lambda what, total: steps.append((what, total)))
    assert torch.get_num_threads() == before
    assert len(steps) == steps[0][1], "the progress bar must end at its total"
    path = calibrate.save(device)
    assert find_device(device.id) == device == find_device(str(path))
    assert {"fp32", "bf16"} <= set(device.peak_ops_per_s)
    assert device.units.count == 1
    assert device.power.idle_w is None, "power that cannot be read is absent"
    assert device.op_energy_j == {}
    graph = product(32, 64, 64, "fp32")
    assert 1e-7 < kernel_time(device, graph, graph.operations[0]).seconds < 1
    assert {error.operator for error in device.errors} == {"matmul", "attention", "streaming"}
    assert all(0 < time.seconds < 1 for _, time in cost(device, decoder))


@pytest.mark.parametrize("threads", [0, -1, 10**6])
def test_threads_are_checked(threads):
    with pytest.raises(ValueError, match=rf"threads must be 1 \.\. \d+ on this machine, not {threads}"):
        calibrate.calibrate(threads=threads)


def test_seconds_are_checked():
    with pytest.raises(ValueError, match="seconds must be above 0, not 0"):
        calibrate.calibrate(seconds=0)


SMALL_LAYER_S = 150e-6
COLD_S = 700e-6
"""What the operations without products of a layer take whose weights no cache holds."""
LARGE = workloads.large_config("fp32", 2**26)


@pytest.fixture
def known():
    """A machine whose times follow laws: 5 us of start, 100 GFLOP/s, 20 GB/s from main memory, 200 from L2."""

    def timings(seconds, sizes) -> dict[float, Timing]:
        return {float(size): Timing(seconds(size), seconds(size)) for size in sizes}

    def stream(size):
        return 2e-6 + size * 1e-9

    found = calibrate.Measured(1, {"l2": 2**22}, load=0.0)
    found.timings["launch.fp32"] = timings(lambda rows: 5e-6, [1])
    rates = {("l2", 256, 256): 200e9, ("main", 2048, 2048): 20e9, ("main.k512", 512, 2048): 10e9,
             ("main.k8192", 8192, 2048): 18e9, ("main.n8192", 2048, 8192): 16e9}  # fmt: skip
    for (level, *shape), rate in rates.items():
        name = f"product.fp32.{level}"
        found.weights[name], weights = (shape[0], shape[1]), shape[0] * shape[1]
        found.timings[name] = timings(
            lambda rows, weights=weights, rate=rate: 5e-6 + max(2 * rows * weights / 100e9, 4 * weights / rate),
            (1, 4, 16, 64, 256),
        )
    sizes = [2**power for power in (9, 12, 15, 18)]
    for kind in ("norm", "rope", "gate", "add", "append"):
        found.timings[f"{kind}.fp32"] = timings(stream, sizes)
    found.timings["attention.fp32.decode"] = timings(lambda size: 10e-6 + 2e-9 * size, sizes)
    found.timings["attention.fp32.64"] = timings(lambda size: 10e-6 + size * (1e-9 + 64e-11), sizes)
    found.timings["attention.fp32.128"] = timings(lambda size: 10e-6 + size * (1e-9 + 128e-11), sizes)
    found.bandwidth = {"l2": (200e9, Timing(1.0, 1.0)), "main": (20e9, Timing(1.0, 1.0))}
    found.copy_bytes_per_s, found.small = 20e9, Timing(1e-6, 1e-6)
    found.small_layer["fp32"] = Timing(SMALL_LAYER_S, SMALL_LAYER_S)
    found.cold_layer["fp32"] = LARGE, Timing(COLD_S, COLD_S)
    found.timings["append.fp32.cold"] = timings(stream, sizes)
    found.timings["attention.fp32.decode.cold"] = timings(lambda size: 30e-6 + 5e-9 * size, sizes)
    return describe.describe(found, "known")


@pytest.mark.parametrize(
    ("m", "k", "n", "body_s"),
    [
        (1, 2048, 2048, 4 * 2048 * 2048 / 20e9),  # from main memory
        (1, 8192, 8192, 4 * 8192 * 8192 / 16e9),  # large in both: slowed once, by the more
        (1, 512, 32768, 4 * 512 * 32768 / (20e9 * 10 / 20 * 16 / 20)),  # in rows as short, and beyond as many as known
        (1, 1024, 2048, 4 * 1024 * 2048 / (20e9 * (10 / 20) ** 0.5)),  # half-way in the logarithm
        (1, 64, 128, 4 * 64 * 128 / 200e9),  # from L2
        (256, 2048, 2048, 2 * 256 * 2048 * 2048 / 100e9),  # computed
        (1024, 1024, 1024, 2 * 1024**3 / 100e9),  # beyond the curve
    ],
)
def test_products_of_a_known_machine(known, product, m, k, n, body_s):
    graph = product(m, k, n, "fp32")
    found = kernel_time(known, graph, graph.operations[0])
    factor = known.kernel.formats["fp32"].sequence_factor.value
    assert found.launch_seconds == pytest.approx(factor * 5e-6)
    assert found.seconds == pytest.approx(factor * 5e-6 + body_s, rel=0.03)


def test_the_small_layer_of_a_known_machine_takes_what_was_measured(known):
    """Its 7 products and 10 other operations start in 65 us, each measured again and again; together in more."""
    graph = workloads.layer_graph(workloads.SMALL, tokens=1, context=workloads.SMALL_CONTEXT, numbers="fp32")
    reuse = float(workloads.SMALL_COPIES * weight_bytes(graph))
    times = [kernel_time(known, graph, operation, reuse_bytes=reuse) for operation in graph]
    assert sum(time.seconds for time in times) == pytest.approx(SMALL_LAYER_S, rel=1e-3)
    assert known.kernel.formats["fp32"].sequence_factor.value > 1


def layer_outside_products(device, config, *, context):
    graph = workloads.layer_graph(config, tokens=1, context=context, numbers="fp32")
    times = {operation.name: kernel_time(device, graph, operation, reuse_bytes=float(weight_bytes(graph)))
             for operation in graph if operation.kind != "matmul"}  # fmt: skip
    return times, sum(time.seconds for time in times.values())


def test_a_layer_that_no_cache_holds_starts_as_slowly_as_was_measured(known):
    _, seconds = layer_outside_products(known, LARGE, context=workloads.SMALL_CONTEXT)
    assert seconds == pytest.approx(COLD_S, rel=1e-3)
    cold, warm = (getattr(known.kernel.formats["fp32"], f"{name}_factor").value for name in ("cold", "sequence"))
    assert cold > 3 * warm


def test_a_cache_of_keys_is_read_from_main_memory_behind_such_weights(known):
    """Of a decode step's attention, start and body grow apart: 3 ns more an element, 20 us of start counted once."""
    config = LARGE.model_copy(update={"n_heads": 16, "n_kv_heads": 4})
    long, short = (layer_outside_products(known, config, context=keys - 1)[0] for keys in (256, 64))
    (name,) = (name for name in long if name.endswith("attention"))
    elements = 16 * 64 * (256 - 64)
    assert long[name].seconds - short[name].seconds == pytest.approx(5e-9 * elements, rel=0.05)


def test_large_layers_have_the_bytes_asked_for():
    for numbers in calibrate.LAYER_FORMATS:
        graph = workloads.layer_graph(workloads.large_config(numbers, 2**27), tokens=1, context=64, numbers=numbers)
        assert weight_bytes(graph) == pytest.approx(2**27, rel=0.3)


def test_only_what_is_no_product_is_timed(monkeypatch):
    """A clock that advances a second a product with weights, seven of them, and one more in the whole step."""
    def clock(action, calls):
        action()
        return 8.0 if action is whole else 1.0

    with torch.inference_mode():
        whole, outside = workloads.without_products(workloads.SMALL, "fp32", clock)
        assert outside(whole, 1) == 1.0


def test_the_calling_thread_is_timed_alone():
    """Parts add up, and sleep, as what other threads do, costs nothing."""
    def work():
        sum(range(200_000))

    parts: list[float] = []
    whole = measure.own_clock(lambda: (parts.append(measure.own_clock(work, 1)), time.sleep(0.05)), 3)
    assert sum(parts) / 3 <= whole < sum(parts) / 3 + 0.02


def test_a_clock_after_something_else_counts_only_the_action():
    order = []
    clock = measure.after(lambda: order.append("flush"), lambda action, calls: (action(), 2.0)[1])
    assert clock(lambda: order.append("act"), 3) == 2.0
    assert order == ["flush", "act"] * 3


def test_held_out_errors_of_a_power_law_are_none():
    found = calibrate.Measured(1, {})
    found.timings["launch.fp32"] = {1: Timing(1e-6, 1e-6)}
    found.timings["norm.fp32"] = {size: Timing(size * 1e-9, size * 1e-9) for size in (1e3, 1e4, 1e5)}
    (error,) = describe.held_out(found)
    assert (error.operator, error.rows, error.mape) == ("streaming", 1, pytest.approx(0, abs=1e-9))


def test_a_fused_step_appends_to_both_caches(known):
    """Its rotation writes keys and values: two appends, each as long as its cache, beside the rotation itself."""
    graph = decode_graph(architecture("tinyllama-1.1b"), context=1024, formats=Formats.parse("fp32"), fused=True)
    (rope,) = (operation for operation in graph if "writes_into" in operation.attributes)
    keys, values = str(rope.attributes["writes_into"]).split()
    assert graph.tensors[keys].elements == graph.tensors[values].elements
    seconds = kernel_time(known, graph, rope).seconds
    assert seconds > 2 * graph.tensors[keys].elements * 1e-9


def test_curves_are_read_as_power_laws():
    curve = Curve(at=(10.0, 1000.0), seconds=(1.0, 100.0), source="here")
    assert interpolate(curve, 100.0) == pytest.approx(10.0)
    assert interpolate(curve, 1e5) == pytest.approx(1e4), "the last slope goes on"
    assert interpolate(curve, 1.0) == pytest.approx(1.0), "nothing is faster than the smallest size"
    with pytest.raises(ValueError, match="at must ascend"):
        Curve(at=(2.0, 1.0), seconds=(1.0, 1.0), source="here")


def test_the_clock_counts_work_and_not_waiting():
    import time

    clock = measure.cpu_clock(1)
    assert clock(lambda: time.sleep(0.02), 1) < 0.01
    end = time.thread_time() + 0.02

    def work():
        while time.thread_time() < end:
            pass

    assert clock(work, 1) >= 0.015


def test_in_turn_goes_round():
    seen = []
    action = measure.in_turn([lambda: seen.append(0), lambda: seen.append(1)])
    for _ in range(4):
        action()
    assert seen == [1, 0, 1, 0]


def test_power_is_read_from_counters(tmp_path):
    package = tmp_path / "intel-rapl:0"
    package.mkdir()
    (package / "energy_uj").write_text("4000000")
    (package / "max_energy_range_uj").write_text("5000000")
    (package / "constraint_0_power_limit_uw").write_text("65000000")
    (tmp_path / "intel-rapl:0:0").mkdir()
    counters = power.package_counters(tmp_path)
    assert [counter.parent.name for counter in counters] == ["intel-rapl:0"]
    assert power.power_limit_w(tmp_path) == 65.0

    def spend():  # the counter wraps from 4 J over 5 J to 1 J: 2 J
        (package / "energy_uj").write_text("1000000")

    watts, calls = power.average_power_w(spend, 0.05, counters)
    assert calls >= 1
    assert watts is not None
    assert 0 < watts <= 2 / 0.05, "2 J in at least 0.05 s; longer where other work took the processor away"
    assert power.package_counters(tmp_path / "nothing") == []
    assert power.power_limit_w(tmp_path / "nothing") is None


def test_a_gpu_is_a_device(monkeypatch, product):
    """The path of a GPU, with torch's processor in its place; what only CUDA does is replaying a graph."""
    monkeypatch.setattr(calibrate_gpu, "SIDE", 64)
    monkeypatch.setattr(calibrate_gpu, "COPY_BYTES", 2**16)
    monkeypatch.setattr(calibrate_gpu, "POWER_S", 0.0)
    watts = iter([50.0, 80.0] + [180.0] * 1000)
    clock = measure.gpu_clock(lambda: None)
    facts = calibrate_gpu.Facts("Some GPU", 10, 2**34, 2**22, "cpu", clock, lambda: next(watts))
    steps = []
    device = calibrate_gpu.calibrate_gpu(facts, seconds=0.05, step=lambda what, total: steps.append(total))
    assert len(steps) == steps[0]
    assert parse_device(device_toml(device), "local-gpu") == device
    assert device.power.idle_w is not None
    assert device.power.active_w is not None
    assert (device.power.idle_w.value, device.power.active_w.value) == (50.0, 80.0)
    assert device.op_energy_j["bf16"].value == pytest.approx(100.0 / device.peak_ops_per_s["bf16"].value, rel=1e-3), (
        "energies are counted above the floor"
    )
    graph = product(64, 64, 64)
    assert kernel_time(device, graph, graph.operations[0]).seconds > 0


@pytest.mark.parametrize("kind", calibrate.STREAMS)
def test_streams_write_what_they_say(kind):
    with torch.inference_mode():
        out = workloads.stream(kind, "fp32", 2**12)()
    assert isinstance(out, torch.Tensor)
    assert out.numel() == 2**12


def test_a_product_that_torch_lacks_is_none():
    with torch.inference_mode():
        assert workloads.product("int8", 1, [workloads.filled("fp32", 16, 16)]) is None
