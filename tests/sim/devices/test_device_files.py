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
from systolith_sim.devices.toml import device_toml
from systolith_sim.energy.device_energy import graph_energy

NAMES = [
    "a100-80",
    "epyc-9654",
    "h100-sxm",
    "h200",
    "l40s",
    "tpu-v5e",
    "tpu-v6e",
    "ulx3s-85f",
    "xeon-8480plus",
]


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
    ],
)
def test_peaks_follow_from_units_and_clock(name, numbers, product):
    assert find_device(name).peak_ops_per_s[numbers].value == pytest.approx(product, rel=0.01)


@pytest.mark.parametrize(
    ("name", "product"),
    # channels x transfers per second x bytes
    [("xeon-8480plus", 8 * 4.8e9 * 8), ("epyc-9654", 12 * 4.8e9 * 8), ("ulx3s-85f", 2 * 133e6)],
)
def test_bandwidth_follows_from_channels(name, product):
    assert find_device(name).main_memory.bandwidth_bytes_per_s.value == pytest.approx(product, rel=0.01)


def test_aliases_and_own_files(own_folder):
    assert find_device("nvidia-h100-sxm5-80gb").id == "h100-sxm"
    own = find_device("a100-80").model_copy(update={"id": "mine", "name": "Mine"})
    write_device(own, own_folder / "mine.toml")
    assert find_device("mine") == own == find_device(str(own_folder / "mine.toml"))
    assert "mine" in device_names()
    with pytest.raises(DeviceError, match=r"'none' is unknown: allowed are a100-80, .*xeon-8480plus"):
        find_device("none")


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
