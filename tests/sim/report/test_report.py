"""The page, results.json and its schema, the trace for Perfetto."""

import json
import re
from importlib import resources

import pytest

from systolith_sim.report import plots
from systolith_sim.report.page import render, tiles, write_report
from systolith_sim.report.perfetto import chrome_trace, write_trace
from systolith_sim.report.results import json_schema, read_results, write_results


@pytest.fixture(scope="module")
def page(results):
    return render(results)


def own(page: str) -> str:
    """The page without its copy of plotly.js."""
    start = page.index("<script>")
    return page[:start] + page[page.index("</script>", start) :]


def figures(page: str) -> dict:
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_results_survive_the_file(results, tmp_path):
    write_results(results, tmp_path / "results.json")
    assert read_results(tmp_path / "results.json") == results
    data = json.loads((tmp_path / "results.json").read_text())
    assert data["schema"] == "systolith.run-results/1"
    assert data["layers"][0]["stalls"]["matmul"]["bank"] > 0
    assert not (tmp_path / "results.json.partial").exists()


def test_a_wrong_file_names_its_field(results, tmp_path):
    path = tmp_path / "results.json"
    path.write_text(results.model_dump_json(by_alias=True).replace('"bit_exact":true', '"bit_exact":7', 1))
    with pytest.raises(ValueError, match=r"results\.json: layers\.0\.bit_exact"):
        read_results(path)


def test_the_packaged_schema_is_current():
    packaged = resources.files("systolith_sim.schemas") / "run-results-1.json"
    assert packaged.read_text("utf-8") == json_schema(), "write json_schema() to schemas/run-results-1.json"


def test_schema_requires_what_has_no_default():
    schema = json.loads(json_schema())
    assert schema["properties"]["schema"]["const"] == "systolith.run-results/1"
    assert {"title", "core", "layers", "devices"} <= set(schema["required"])
    assert "latency_s" in schema["$defs"]["DeviceResult"]["required"]


def test_the_page_stands_alone(page):
    text = own(page)
    assert not re.search(r"""(src|href)=["'](?!#)""", text)
    assert "@import" not in text
    assert "http://" not in text
    assert len(page) < 8e6


def test_text_is_escaped_and_complete(page, results):
    text = own(page)
    assert "0.6 M parameters &lt;&amp;&gt;" in text
    for layer in results.layers:
        assert layer.name in text
        assert f"{layer.cycles:,}" in text
    for device in results.devices:
        assert device.name in text
        for source in device.sources.values():
            assert source.split("<")[0].split("'")[0].split("&")[0] in text
    assert "prefers-color-scheme: dark" in text


def test_figures_hold_the_numbers(page, results):
    drawn = figures(page)
    assert set(drawn) == set(plots.ALL)
    rtl = drawn["layers"]["data"][0]
    assert rtl["y"] == [layer.cycles for layer in results.layers]
    latencies = {
        name: value
        for trace in drawn["latency"]["data"]
        for name, value in zip(trace["y"], trace["x"], strict=True)
    }
    assert latencies == {device.id: pytest.approx(device.latency_s.value) for device in results.devices}
    assert drawn["latency"]["layout"]["xaxis"]["type"] == "log"


def test_stall_shares_by_hand(results):
    drawn = plots.stalls(results)
    views = drawn["views"]
    assert isinstance(views, list)
    assert [view["label"] for view in views] == ["all layers", *(layer.name for layer in results.layers)]
    traces = drawn["data"]
    assert isinstance(traces, list)
    bank = next(index for index, trace in enumerate(traces) if trace["name"] == "bank")
    matmul = traces[bank]["y"].index("matmul")
    layer = results.layers[0]
    expected = layer.stalls["matmul"]["bank"] / layer.cycles
    assert views[1]["x"][bank][matmul] == pytest.approx(expected)


def test_a_difference_is_shown_as_bad(results):
    first = results.layers[0].model_copy(update={"bit_exact": False, "model_cycles": 1})
    changed = results.model_copy(update={"layers": (first, *results.layers[1:])})
    states = {tile["label"]: (tile["value"], tile["state"]) for tile in tiles(changed)}
    assert states["bit exact"] == ("7 / 8", "bad")
    assert states["cycle model = RTL"] == ("7 / 8", "bad")
    assert 'class="no"' in own(render(changed))


def test_an_empty_timeline_and_missing_energy_are_said(results, tmp_path):
    bare = results.devices[1].model_copy(update={"energy_j": None, "energy_note": "no power is known"})
    changed = results.model_copy(update={"timeline": (), "devices": (bare,), "quality": {}})
    write_report(changed, tmp_path / "report.html")
    text = own((tmp_path / "report.html").read_text())
    assert "recorded no timeline" in text
    assert "No energy: no power is known" in text


def test_trace_for_perfetto(results, tmp_path):
    write_trace(results.timeline, tmp_path / "trace.json")
    trace = json.loads((tmp_path / "trace.json").read_text())
    assert trace == chrome_trace(results.timeline)
    spans = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    names = {
        event["tid"]: event["args"]["name"]
        for event in trace["traceEvents"]
        if event["name"] == "thread_name"
    }
    assert sorted(names.values()) == ["load", "matmul", "store", "vector"]
    assert len(spans) == len(results.timeline)
    first = results.timeline[0]
    assert spans[0]["ts"] == pytest.approx(first.start_s * 1e6)
    assert spans[0]["dur"] == pytest.approx(first.duration_s * 1e6)
