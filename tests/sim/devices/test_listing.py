"""What ``systolith devices`` and ``systolith calibrate`` print, refuse and write."""

import json
from importlib import resources

import jsonschema
import pytest
from typer.testing import CliRunner

from systolith_sim.cli import app
from systolith_sim.devices import calibrate, calibrate_gpu
from systolith_sim.devices.library import device_names, find_device, write_device
from systolith_sim.devices.listing import DeviceDetails, DeviceList, details, row
from systolith_sim.estimate.advise import Advice
from systolith_sim.verify.results import schema_text


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SYSTOLITH_DEVICES", str(tmp_path))
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, arguments)


def schema(name):
    return json.loads(resources.files("systolith_sim").joinpath("schemas", f"{name}.json").read_text("utf-8"))


@pytest.mark.parametrize(
    ("name", "model"), [("devices-1", DeviceList), ("device-1", DeviceDetails), ("advice-1", Advice)]
)
def test_schema_is_current(name, model):
    packaged = resources.files("systolith_sim").joinpath("schemas", f"{name}.json").read_text("utf-8")
    assert packaged == schema_text(model)


def test_the_list_as_json():
    done = run("devices", "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    jsonschema.validate(found, schema("devices-1"))
    assert [device["id"] for device in found["devices"]] == device_names()


def test_the_list_as_a_table(own_folder):
    write_device(find_device("t4").model_copy(update={"id": "mine"}), own_folder / "mine.toml")
    done = run("devices")
    assert done.exit_code == 0, done.stderr
    for word in ("h100-sxm", "3.35 TB/s", "700 W", "mine *", "recalled"):
        assert word in done.stdout


@pytest.mark.parametrize("name", ["h100-sxm", "gh200", "mi300x", "tpu-v5e", "epyc-9654", "kv260", "ulx3s-85f"])
def test_a_device_explained(name):
    done = run("devices", name, "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    jsonschema.validate(found, schema("device-1"))
    assert all(figure["source"] for figure in found["figures"].values())
    text = run("devices", name)
    assert text.exit_code == 0
    assert "memories.main.bandwidth_bytes_per_s" in text.stdout


def test_where_kernel_parameters_come_from():
    h100, gh200 = find_device("h100-sxm"), find_device("gh200")
    assert row(h100).kernel == "its own"
    assert row(gh200).kernel == "of h100-sxm, the same die"
    own, sibling = details(h100).kernel_figures, details(gh200).kernel_figures
    assert own["kernel.k_step_s"] == sibling["kernel.k_step_s"]
    assert row(find_device("l4")).kernel == "of the gpu class"
    assert row(find_device("ulx3s-85f")).kernel == "cycle model of the base core"
    assert details(find_device("ulx3s-85f")).kernel_figures == {}


def test_the_weaker_figure_decides_the_confidence():
    assert row(find_device("h100-sxm")).confidence == "read"
    assert row(find_device("rtx-4090")).confidence == "recalled", "its tensor peaks are recalled, its bandwidth read"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("devices", "h100sxm"), "device 'h100sxm' is unknown: spelled like it: h100-sxm"),
        (("devices", "absent.toml"), "device file absent.toml"),
        (("devices", "--devices-dir", "absent"), "devices-dir must be a folder that exists, not absent"),
        (("calibrate", "--out", "absent/x.toml"), "out must be a .toml file in a folder that exists"),
        (("calibrate", "--seconds", "1"), "seconds must be 5 .. 100, not 1"),
        (("calibrate", "--threads", "0"), "threads must be 1 .."),
    ],
)
def test_bad_input_is_one_sentence(arguments, sentence):
    done = run(*arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_folder_of_ones_own(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    write_device(find_device("t4").model_copy(update={"id": "mine"}), folder / "mine.toml")
    done = run("devices", "mine", "--devices-dir", str(folder), "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["device"]["own"]
    (folder / "bad.toml").write_text('id = "bad"')
    done = run("devices", "--devices-dir", str(folder))
    assert done.exit_code == 2
    assert "bad.toml: name: missing, but required" in done.stderr


def test_calibrate_writes_and_prints(monkeypatch, tmp_path):
    t4 = find_device("t4")
    monkeypatch.setattr(calibrate_gpu, "gpu_facts", lambda: None)
    monkeypatch.setattr(calibrate, "calibrate", lambda threads, seconds, step: t4.model_copy(
        update={"id": f"local-{threads}"}))  # fmt: skip
    done = run("calibrate", "--threads", "2", "--out", str(tmp_path / "here.toml"), "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["device"]["id"] == "local-2"
    assert find_device(str(tmp_path / "here.toml")).id == "local-2"
    assert find_device(str(tmp_path / "local-1.toml")).id == "local-1"
    text = run("calibrate", "--threads", "1")
    assert f"local-1: {tmp_path / 'local-1.toml'}" in text.stdout.replace("\n", "")
