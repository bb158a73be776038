"""The main job on a small part of the model."""

import json

import jsonschema
from test_cli import systolith

from systolith_sim.report.results import json_schema


def test_run(tmp_path):
    done = systolith("run", "--core", "tiny", "--layers", "0:1", "--tokens", "3", "--json",
                     "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    jsonschema.validate(results, json.loads(json_schema()))
    assert [layer["name"].rpartition(".")[2] for layer in results["layers"]] == [
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    assert all(layer["bit_exact"] and layer["cycles"] == layer["model_cycles"] for layer in results["layers"])
    assert {device["kind"] for device in results["devices"]} == {"cpu", "gpu", "tpu", "fpga"}
    assert all(device["latency_s"]["source"] for device in results["devices"])
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == results
    assert (tmp_path / "out" / "report.html").read_text().startswith("<!")
    assert json.loads((tmp_path / "out" / "trace.json").read_text())["traceEvents"]
