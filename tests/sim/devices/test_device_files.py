"""The packaged devices: every figure sourced, peaks equal to datasheet arithmetic, errors that help."""

import tomllib
from pathlib import Path

import pytest

from systolith_sim.devices.device import figures_of, published_figures
from systolith_sim.devices.kernel import kernel_time
from systolith_sim.devices.library import (
    DeviceError,
    device_names,
    find_device,
    load_device,
    parse_device,
    write_device,
)
from systolith_sim.devices.products import parameters_of
from systolith_sim.devices.toml import device_toml
from systolith_sim.energy.device_energy import graph_energy

NAMES = [
    "a100-40", "a100-80", "a100-pcie", "a30", "alveo-u250", "alveo-u280", "alveo-u50", "alveo-u55c", "b200",
    "b300", "epyc-7763", "epyc-9654", "epyc-9755", "gb200", "gh200", "gh200-144", "graviton3", "graviton4",
    "h100-nvl", "h100-pcie", "h100-sxm", "h200", "jetson-orin", "jetson-orin-nano", "kv260", "l4", "l40s",
    "m2-ultra", "m3-ultra", "mi210", "mi250x", "mi300x", "mi325x", "mi355x", "raspberry-pi-5", "rtx-4090",
    "t4", "tpu-v2", "tpu-v3", "tpu-v4", "tpu-v4i", "tpu-v5e", "tpu-v5p", "tpu-v6e", "tpu-v7", "ulx3s-85f",
    "v100", "vcu128", "xeon-6980p", "xeon-8380", "xeon-8480plus", "xeon-8592plus", "zcu102", "zcu104",
]  # fmt: skip


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SYSTOLITH_DEVICES", str(tmp_path))
    return tmp_path


def test_all_packaged_devices_are_there():
    assert device_names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_figures_have_sources_and_files_read_back(name):
    device = find_device(name)
    assert device.id == name
    scored = (*device.errors, *device.link_errors)
    used = {datum.source for _, datum in figures_of(device)} | {error.source for error in scored}
    assert used | {device.units.source} == set(device.sources), "a source that no figure uses, or the reverse"
    assert parse_device(device_toml(device), name) == device


@pytest.mark.parametrize(
    ("name", "numbers", "product"),
    [
        # NVIDIA H100 and A100 whitepapers: 4 tensor cores a unit, 512 and 256 multiply-adds a cycle each
        ("h100-sxm", "bf16", 132 * 4 * 512 * 2 * 1.83e9),
        ("a100-80", "bf16", 108 * 4 * 256 * 2 * 1.41e9),
        # four arrays of 128 x 128 (scaling-book), at the recalled 1.5 GHz
        ("tpu-v5e", "bf16", 4 * 128 * 128 * 2 * 1.5e9),
        # AMX: a 16 x 16 tile of 64 int8 products in 16 cycles of a core, at an assumed 2.0 GHz
        ("xeon-8480plus", "int8", 56 * 16 * 16 * 64 * 2 / 16 * 2.0e9),
        ("epyc-9654", "fp32", 96 * 2 * 8 * 2 * 2.4e9),
        # the same tensor cores, fewer units; Ada's are half as wide, GeForce's half of that with fp32 sums
        ("h100-pcie", "bf16", 114 * 4 * 512 * 2 * 1.62e9),
        ("l4", "bf16", 58 * 4 * 128 * 2 * 2.04e9),
        ("rtx-4090", "bf16", 128 * 4 * 64 * 2 * 2.52e9),
        ("t4", "fp16", 40 * 8 * 64 * 2 * 1.59e9),
        ("jetson-orin", "bf16", 16 * 4 * 256 * 2 * 1.3e9),
        # AMD CDNA 2 and 3 whitepapers: 1024 and 2048 operations a cycle of a compute unit
        ("mi210", "bf16", 104 * 1024 * 1.7e9),
        ("mi300x", "bf16", 304 * 2048 * 2.1e9),
        # arrays of 128 x 128 at the recalled clocks
        ("tpu-v3", "bf16", 4 * 128 * 128 * 2 * 0.94e9),
        ("tpu-v4", "bf16", 8 * 128 * 128 * 2 * 1.05e9),
        ("tpu-v5p", "bf16", 8 * 128 * 128 * 2 * 1.75e9),
        # two vectors of 256 bits, AMX, four of 128 bits, two of 128 bits
        ("epyc-7763", "fp32", 64 * 2 * 8 * 2 * 2.45e9),
        ("xeon-6980p", "int8", 128 * 16 * 16 * 64 * 2 / 16 * 2.0e9),
        ("graviton4", "fp32", 96 * 4 * 4 * 2 * 2.8e9),
        ("raspberry-pi-5", "fp32", 4 * 2 * 4 * 2 * 2.4e9),
        # the base core: 8 x 8 elements at 50 MHz
        ("ulx3s-85f", "int8", 8 * 8 * 2 * 50e6),
    ],
)
def test_peaks_follow_from_units_and_clock(name, numbers, product):
    assert find_device(name).peak_ops_per_s[numbers].value == pytest.approx(product, rel=0.01)


@pytest.mark.parametrize(
    ("name", "product"),
    # channels x transfers per second x bytes
    [
        ("xeon-8480plus", 8 * 4.8e9 * 8),
        ("epyc-9654", 12 * 4.8e9 * 8),
        ("ulx3s-85f", 2 * 133e6),
        ("xeon-6980p", 12 * 8.8e9 * 8),
        ("epyc-7763", 8 * 3.2e9 * 8),
        ("graviton4", 12 * 5.6e9 * 8),
        ("raspberry-pi-5", 4.267e9 * 4),
        ("jetson-orin", 6.4e9 * 32),
        ("m2-ultra", 6.4e9 * 128),
        ("kv260", 2.4e9 * 8),
        ("alveo-u280", 32 * 14.375e9),
    ],
)
def test_bandwidth_follows_from_channels(name, product):
    assert find_device(name).main_memory.bandwidth_bytes_per_s.value == pytest.approx(product, rel=0.025)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("a100-40", "nvidia-a100-sxm4-40gb"), ("a100-80", "nvidia-a100-sxm4-80gb"), ("gh200", "nvidia-gh200-96gb"),
        ("h100-pcie", "nvidia-h100-pcie-80gb"), ("h100-sxm", "nvidia-h100-sxm5-80gb"), ("l4", "nvidia-l4"),
        ("h200", "nvidia-h200-sxm-141gb"), ("b200", "nvidia-b200-sxm-180gb"), ("l40s", "nvidia-l40s"),
        ("rtx-4090", "nvidia-rtx-4090"), ("t4", "nvidia-t4"), ("mi210", "amd-mi210-64gb"),
        ("mi300x", "amd-mi300x-192gb"), ("tpu-v3", "google-tpu-v3"), ("tpu-v4", "google-tpu-v4"),
        ("tpu-v5e", "google-tpu-v5e"), ("tpu-v5p", "google-tpu-v5p"), ("tpu-v6e", "google-tpu-v6e"),
        ("xeon-8480plus", "intel-xeon-8480plus"), ("xeon-6980p", "intel-xeon-6980p"),
        ("epyc-7763", "amd-epyc-7763"), ("epyc-9654", "amd-epyc-9654"), ("graviton4", "aws-graviton4"),
        ("m2-ultra", "apple-m2-ultra-76"), ("raspberry-pi-5", "pi-5"), ("alveo-u280", "xilinx-alveo-u280"),
        ("jetson-orin", "nvidia-jetson-agx-orin-64gb"), ("kv260", "xilinx-xck26-kv260"),
        ("ulx3s-85f", "lattice-lfe5u-85f"),
    ],
)  # fmt: skip
def test_a_device_answers_to_two_names(name, other):
    assert find_device(other) is find_device(name)
    assert find_device(name.upper()).id == name


def test_names_are_unique():
    devices = [find_device(name) for name in NAMES]
    names = [*NAMES, *(alias for device in devices for alias in device.aliases)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", NAMES)
def test_every_device_costs_a_product(name, product):
    device = find_device(name)
    numbers = next(iter(device.peak_ops_per_s))
    graph = product(128, 512, 512, numbers)
    time = kernel_time(device, graph, graph.operations[0])
    assert time.seconds >= 2 * 128 * 512 * 512 / device.peak_ops_per_s[numbers].value
    assert time.low <= time.seconds <= time.high
    if device.power.idle_w is not None and numbers in device.op_energy_j:
        assert graph_energy(device, [(graph.operations[0], time)]).value > 0


def test_published_shares_bound_large_products(product):
    """A large product takes its operations over 45 % of the peak, little more, and no other part pays."""
    device = find_device("mi300x")
    plain = device.model_copy(update={"id": "plain", "achieved": None})
    graph = product(8192, 16384, 8192, "bf16")
    reached = 2 * 8192 * 16384 * 8192 / (0.45 * 1307.4e12)
    assert reached < kernel_time(device, graph, graph.operations[0]).seconds < 1.1 * reached
    assert parameters_of(device).launch_s == parameters_of(plain).launch_s
    assert parameters_of(device).memory_efficiency.value == 0.81 != parameters_of(plain).memory_efficiency.value


def test_aliases_and_own_files(own_folder):
    assert find_device("nvidia-h100-sxm5-80gb").id == "h100-sxm"
    own = find_device("a100-80").model_copy(update={"id": "mine", "name": "Mine"})
    write_device(own, own_folder / "mine.toml")
    assert find_device("mine") == own == find_device(str(own_folder / "mine.toml"))
    assert "mine" in device_names()
    assert find_device("Mine") == own
    with pytest.raises(DeviceError, match=r"'h100-smx' is unknown: spelled like it: h100-sxm, .*; `systolith devices`"):
        find_device("h100-smx")
    with pytest.raises(DeviceError, match=r"'qqq' is unknown: `systolith devices` lists all \d+, and"):
        find_device("qqq")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('kind = "gpu"', 'kind = "vpu"', r"kind: Input should be 'cpu', 'gpu', 'tpu' or 'fpga', not 'vpu'"),
        ("value = 700.0", "value = -1.0", r"power.tdp_w.value: .* greater than or equal to 0, not -1.0"),
        ("[peak_ops_per_s]", "[peak_flops]", r"peak_flops: no such field"),
        ("bf16 = {", "bf17 = {", r"peak_ops_per_s.bf17"),
        ('source = "lightning"', 'source = "hearsay"', r"source 'hearsay' is not a key of sources"),
        ("count = 132", "", r"units.count: missing, but required"),
        ("[memories.main]", "[memories.big]", r"memories must hold 'main'"),
        ("count = 132", "count = = 1", r"not TOML"),
    ],
)
def test_a_wrong_file_ends_in_one_sentence(own_folder, old, new, sentence):
    text = device_toml(find_device("h100-sxm"))
    assert old in text
    (own_folder / "bad.toml").write_text(text.replace(old, new, 1))
    with pytest.raises(DeviceError, match=sentence) as caught:
        load_device(own_folder / "bad.toml")
    assert str(own_folder / "bad.toml") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_names_the_path(tmp_path):
    with pytest.raises(DeviceError, match=r"absent\.toml"):
        find_device(str(tmp_path / "absent.toml"))


def test_devices_are_plain_toml():
    data = tomllib.loads(device_toml(find_device("h100-sxm")))
    assert data["peak_ops_per_s"]["bf16"] == {
        "value": 989.4e12,
        "source": "aiconfigurator",
        "confidence": "read",
    }


def test_the_example_of_the_how_to_is_a_device(product):
    page = Path(__file__).parents[3] / "docs" / "how-to" / "add-a-device.md"
    text = page.read_text("utf-8").split("```toml\n")[1].split("```")[0]
    device = parse_device(text, "add-a-device.md")
    graph = product(64, 4096, 4096)
    time = kernel_time(device, graph, graph.operations[0])
    assert time.seconds > 2 * 4096**2 / 2.0e12
    assert graph_energy(device, [(graph.operations[0], time)]).value > 60 * time.seconds


def test_figures_carry_unit_interval_and_origin():
    figures = published_figures(find_device("h100-sxm"))
    bandwidth = figures["memories.main.bandwidth_bytes_per_s"]
    assert (bandwidth.value, bandwidth.unit, bandwidth.how) == (3.35e12, "B/s", "published")
    assert bandwidth.source.endswith("systems/*.yaml (read)")
    assert figures["price_usd_per_hour"].unit == "USD/h"
    assert figures["power.active_w"].how == "derived"
    assert not any(path.startswith("kernel.") for path in figures)
    assert all(figure.unit for figure in figures.values())
