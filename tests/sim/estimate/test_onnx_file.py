"""Estimates of ONNX files: figures, sizes, formats, replicas, refusals, and what is imported."""

import json
import subprocess
import sys

import jsonschema
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from systolith_model.graph import totals
from systolith_sim.estimate.ask import Ask, answer
from systolith_sim.estimate.result import json_schema

LAYERS, WIDTH, WORDS = 4, 256, 512


def stored(name, *shape):
    return numpy_helper.from_array(np.zeros(shape, np.float32), name)


def stack(*shape):
    """Embedding, equal layers of a product and a ReLU, logits."""
    nodes = [helper.make_node("Gather", ["embed", "ids"], ["x0"], "/embed/Gather")]
    tensors = [stored("embed", WORDS, WIDTH)]
    for layer in range(LAYERS):
        tensors.append(stored(f"w{layer}", WIDTH, WIDTH))
        where = f"/layers.{layer}/linear"
        nodes.append(helper.make_node("MatMul", [f"x{layer}", f"w{layer}"], [f"y{layer}"], f"{where}/MatMul"))
        nodes.append(helper.make_node("Relu", [f"y{layer}"], [f"x{layer + 1}"], f"{where}/Relu"))
    tensors.append(stored("head", WIDTH, WORDS))
    nodes.append(helper.make_node("MatMul", [f"x{LAYERS}", "head"], ["logits"], "/head/MatMul"))
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, shape or ["batch_size", "sequence_length"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "stack", [ids], [logits], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    onnx.save(stack(), folder / "stack.onnx")
    onnx.save(stack(2, 128), folder / "fixed.onnx")
    onnx.save(stack("rows", 128), folder / "rows.onnx")
    onnx.save(helper.make_model(helper.make_graph([], "none", [], [])), folder / "empty.onnx")
    (folder / "text.onnx").write_text("no ONNX at all")
    return folder


def ask(files, name="stack.onnx", **options):
    options.setdefault("on", ("h100-sxm",))
    return answer(Ask(model=str(files / name), **options))


def test_figures_of_a_pass(files):
    (one,) = ask(files, batch=2, prompt=128)
    result = one.result
    assert (result.ttft_s, result.tpot_s, result.format, result.engine) == (None, None, "fp32/fp32/fp32", "none")
    assert one.passes["forward"].flops == 256 * (LAYERS * (2 * WIDTH**2 + WIDTH) + 2 * WIDTH * WORDS)
    assert result.memory_bytes.weights == 4 * (2 * WORDS * WIDTH + LAYERS * WIDTH**2)
    assert result.tokens_per_s == pytest.approx(256 / result.total_s)
    assert result.provenance["pass"] == "one pass of an ONNX file"
    assert result.provenance["module"].startswith(f"{2 * LAYERS + 2} kernels, one a node of the file")
    assert len([span for span in one.timeline() if span.track == "launch"]) == 2 * LAYERS + 2


def test_sizes_in_the_file_need_no_options(files):
    assert ask(files, "fixed.onnx")[0].result.total_s == ask(files, batch=2, prompt=128)[0].result.total_s


def test_formats(files):
    own, half, narrow = (ask(files, format=format)[0] for format in (None, "bf16", "int8/bf16"))
    assert 2 * half.result.memory_bytes.weights == own.result.memory_bytes.weights
    assert narrow.result.memory_bytes.weights < half.result.memory_bytes.weights
    assert half.passes["forward"].flops == own.passes["forward"].flops
    assert half.result.total_s < own.result.total_s


def test_replicas_share_the_batch(files):
    (one,), (four,) = ask(files, batch=2), ask(files, batch=8, dp=4)
    assert (four.result.devices, four.result.total_s) == (4, one.result.total_s)
    assert four.result.tokens_per_s == 4 * (one.result.tokens_per_s or 0)


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("stack.onnx", {"train": True}, "train must not be given for an ONNX file, which is one pass of inference, n"),
        ("stack.onnx", {"generate": 4}, "generate must not be given for an ONNX file"),
        ("stack.onnx", {"engine": "vllm"}, "engine must be none for an ONNX file, .*, not 'vllm'"),
        ("stack.onnx", {"tp": 2}, "tp, pp and ep must be 1 for an ONNX file, whose heads and layers are not known"),
        ("stack.onnx", {"dp": 2, "devices": 4}, "dp must be the 4 devices for an ONNX file, not 2"),
        ("fixed.onnx", {"batch": 4}, "batch must not be given for .*, none of whose inputs has a dimension named"),
        ("fixed.onnx", {"prompt": 4}, "prompt must not be given for .*, none of whose inputs .* tokens, not 4"),
        ("rows.onnx", {}, "model '.*rows.onnx': dimension 'rows' of input 'ids' must be a size in the file, or have"),
        ("missing.onnx", {}, "model must be an ONNX file that can be read, not '.*missing.onnx'"),
        ("text.onnx", {}, "model must be an ONNX file, which '.*text.onnx' is not: "),
        ("empty.onnx", {}, "model must be an ONNX file with nodes, not '.*empty.onnx', which has none"),
    ],
)
def test_refused_in_one_sentence(files, name, options, sentence):
    with pytest.raises(ValueError, match=sentence) as raised:
        ask(files, name, **options)
    assert "\n" not in str(raised.value)


def systolith(*arguments, before="", after=""):
    run = f"from systolith_sim.cli import main\ntry:\n    main()\nfinally:\n    {after or 'pass'}"
    code = f"import sys\n{before}\n{run}"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def test_the_command(files, tmp_path):
    out = tmp_path / "out"
    done = systolith(
        "estimate", str(files / "stack.onnx"), "--on", "h100-sxm,epyc-9654", "--json", "--out", str(out),
        after="print(sorted({'torch', 'onnx'} & set(sys.modules)), file=sys.stderr)",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "['onnx']\n")
    data = json.loads(done.stdout)
    jsonschema.validate(data, json.loads(json_schema()))
    assert [one["device"] for one in data] == ["h100-sxm", "epyc-9654"]
    assert "one pass of an ONNX file" in (out / "report.html").read_text()
    trace = json.loads((out / "trace-h100-sxm.json").read_text())["traceEvents"]
    products = [event for event in trace if event["name"] == "layers.*.linear.MatMul" and event["tid"] == 1]
    assert len(products) == LAYERS


def test_other_models_load_neither_torch_nor_onnx():
    done = systolith(
        "estimate", "llama-2-7b", "--on", "l4", "--json",
        after="print(sorted({'torch', 'onnx'} & set(sys.modules)), file=sys.stderr)",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "[]\n")


def test_the_command_refuses_in_one_sentence(files):
    file = str(files / "stack.onnx")
    for arguments, before, sentence in (
        (("estimate", file, "--on", "l4"), "sys.modules['onnx'] = None", "needs the Python package onnx"),
        (("advise", file, "--prompt", "1", "--generate", "1", "--rate", "1"), "", "not the ONNX file"),
        (("estimate", file, "--on", "l4", "--train"), "", "train must not be given for an ONNX file"),
    ):
        done = systolith(*arguments, before=before)
        assert (done.returncode, done.stdout) == (2, "")
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr


def test_what_is_estimated_is_the_graph(files):
    from systolith_model.workload.onnx_file import OnnxFile, onnx_graph

    found = onnx_graph(OnnxFile.read(files / "fixed.onnx"))
    (one,) = ask(files, "fixed.onnx")
    assert one.passes["forward"].bytes == totals(found.graph).traffic.total
    assert {operation.count for operation in found.graph if operation.name.startswith("layers")} == {LAYERS}
