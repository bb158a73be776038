"""Estimates of modules from a user's file: figures, formats, replicas, training, refusals."""

import json
import subprocess
import sys

import jsonschema
import pytest

from systolith_model.config import TransformerConfig
from systolith_model.formats import Formats
from systolith_model.workload import forward_graph
from systolith_sim.devices.library import find_device
from systolith_sim.estimate.ask import Ask, answer
from systolith_sim.estimate.passes import Kernels
from systolith_sim.estimate.result import json_schema

FILE = """
import torch
from torch import nn
from systolith_model.config import TransformerConfig
from systolith_model.reference.decoder import Decoder

print("talk")
CONFIG = TransformerConfig(vocab_size=512, hidden_size=256, n_layers=4, n_heads=4, n_kv_heads=2, head_dim=64,
                           intermediate_size=704)

def decoder():
    with torch.device("meta"):
        return Decoder(CONFIG).to(torch.bfloat16), torch.zeros(2, 128, dtype=torch.int64)

class Mlp(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64))
        self.example_inputs = {"input": torch.zeros(8, 64)}

mlp = Mlp()

class Strange(nn.Module):
    def forward(self, x):
        print("more talk")
        return torch.linalg.qr(x)[0]

def strange():
    return Strange(), (torch.zeros(8, 8),)

class Reader(nn.Module):
    def forward(self, x):
        return x[: int(x.sum())]

def reads():
    return Reader(), torch.zeros(3)

def large():
    with torch.device("meta"):
        return nn.Sequential(*[nn.Linear(65536, 65536, bias=False) for _ in range(4)]), torch.zeros(1, 65536)

def linear(rows, k, n):
    with torch.device("meta"):
        return nn.Linear(k, n, bias=False, dtype=torch.bfloat16), torch.zeros(rows, k, dtype=torch.bfloat16)

def square(): return linear(8192, 8192, 8192)
def logits50257(): return linear(8192, 1024, 50257)
def logits50260(): return linear(8192, 1024, 50260)
def logits50264(): return linear(8192, 1024, 50264)

lonely = nn.Linear(3, 3)
number = 3
def gives_number(): return 3
def raises(): return [][1]
def leaves(): raise SystemExit(3)
def wrong_inputs(): return Mlp(), 5
def wrong_shape(): return Mlp(), torch.zeros(3)
"""

RAISES = FILE[: FILE.index("def raises")].count("\n") + 1
"""Line of the function that raises."""
READS = FILE[: FILE.index("return x[")].count("\n") + 1
"""Line that reads a value."""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("user") / "user_file.py"
    path.write_text(FILE)
    return path


def ask(file, name, **options):
    options.setdefault("on", ("h100-sxm",))
    return answer(Ask(model=f"{file}:{name}", **options))


def test_products_cost_what_those_of_the_same_shape_cost(file):
    config = TransformerConfig(
        vocab_size=512, hidden_size=256, n_layers=4, n_heads=4, n_kv_heads=2, head_dim=64, intermediate_size=704
    )
    (one,) = ask(file, "decoder", on=("l4",))  # where nobody measured what real numbers cost
    graph = forward_graph(config, tokens=128, batch=2, formats=Formats.plain("bf16"), all_logits=True)
    expected = sum(
        kernel.count * kernel.time.seconds
        for kernel in Kernels(find_device("l4")).cost(graph).kernels if kernel.operation.kind == "matmul"
    )  # fmt: skip
    found = sum(
        kernel.count * kernel.time.seconds
        for kernel in one.passes["forward"].kernels if kernel.operation.name.endswith(".mm")
    )  # fmt: skip
    assert found == pytest.approx(expected, rel=1e-6)


def test_real_numbers_run_at_the_rate_that_was_measured(file):
    (one,) = ask(file, "square")
    measured = find_device("h100-sxm").power.random_ops_per_s
    assert measured is not None
    assert 2 * 8192**3 / one.result.total_s == pytest.approx(measured.value, rel=0.01)
    assert "two H100 SXM5" in one.result.provenance["power"]


@pytest.mark.parametrize("words", [50257, 50260])
def test_rows_that_cannot_be_loaded_wide(file, words):
    (narrow,), (wide,) = ask(file, f"logits{words}"), ask(file, "logits50264")
    rate = 470 * 132 * 1.83e9  # operations a cycle and unit, units, clock
    work, launch_s = 2 * 8192 * 1024 * words, 2.691e-6
    assert narrow.result.total_s == pytest.approx(work / rate + launch_s, rel=1e-3)
    assert wide.result.total_s < narrow.result.total_s / 3


def test_short_passes_wait_for_python(file):
    (short,), (long,) = ask(file, "decoder"), ask(file, "square")
    said = short.result.provenance["module"]
    kernels, seconds = int(said.split()[0]), float(said.split("they take ")[1].split()[0])
    assert seconds == pytest.approx(kernels * 9.0e-6, rel=0.01)
    assert seconds > short.result.total_s
    assert "between launches is not counted" in long.result.provenance["module"]


def test_figures_of_a_pass(file):
    (one,) = ask(file, "decoder")
    result, parameters = one.result, 2 * 512 * 256 + 4 * (2 * 256 + 256 * (2 * 256 + 2 * 128 + 3 * 704)) + 256
    assert (result.ttft_s, result.tpot_s, result.format, result.engine) == (None, None, "bf16/bf16/bf16", "none")
    assert result.total_s == pytest.approx(one.passes["forward"].seconds)
    assert result.tokens_per_s == pytest.approx(256 / result.total_s)
    assert result.energy_j is not None
    assert result.energy_j_per_token == pytest.approx(result.energy_j / 256)
    assert result.memory_bytes.weights == 2 * parameters
    assert result.interval["total_s"][0] < result.total_s < result.interval["total_s"][1]
    assert sum(span.duration_s for span in one.timeline() if span.track == "launch") == pytest.approx(
        one.passes["forward"].launch_s
    )


def test_what_counts_tokens_is_null_without_tokens(file):
    (one,) = ask(file, "mlp")
    result = one.result
    counted = (result.tokens_per_s, result.energy_j_per_token, result.price_usd_per_million_tokens)
    assert counted == (None, None, None)
    assert result.provenance["tokens"].startswith("null: no input holds integers")
    assert result.provenance["price_of_passes"].endswith("USD for a million passes")
    assert result.format == "fp32/fp32/fp32"


def test_the_site_of_a_pass(file):
    with_tokens, without = (ask(file, name, grid=400, pue=1.2)[0].result for name in ("decoder", "mlp"))
    assert with_tokens.energy_with_host_j_per_token is not None
    grams = with_tokens.energy_with_host_j_per_token * 1e6 / 3.6e6 * 400
    assert with_tokens.carbon_g_per_million_tokens == pytest.approx(grams)
    assert without.energy_with_host_j is not None
    assert (without.carbon_g_per_million_tokens, without.provenance["carbon"]) == (None, "nothing counts tokens")


def test_what_was_approximated_is_said(file):
    (one,) = ask(file, "strange")
    assert one.result.provenance["approximated"].endswith(": aten::linalg_qr (1)")
    assert "approximated" not in ask(file, "mlp")[0].result.provenance


def test_formats(file):
    own, narrow, wide = (ask(file, "decoder", format=format)[0] for format in (None, "int8/bf16", "fp32"))
    assert narrow.result.memory_bytes.weights < 0.75 * own.result.memory_bytes.weights
    assert wide.result.memory_bytes.weights == 2 * own.result.memory_bytes.weights
    assert wide.passes["forward"].bytes > 1.3 * own.passes["forward"].bytes  # its softmax was in fp32 before
    assert wide.passes["forward"].flops <= own.passes["forward"].flops
    (board,) = ask(file, "decoder", on=("ulx3s-85f",))
    assert board.result.format == "int8/int8/int8"


def test_replicas_run_the_same_pass(file):
    (one,), (two,), (also,) = (ask(file, "decoder", **how) for how in ({}, {"dp": 2}, {"devices": 2}))
    assert (two.result.devices, two.result.total_s) == (2, one.result.total_s)
    assert two.result.tokens_per_s == 2 * (one.result.tokens_per_s or 0)
    assert two.result.energy_j == 2 * (one.result.energy_j or 0)
    assert also.result == two.result


def test_a_training_step(file):
    (forward,), (step,), (many,) = (
        ask(file, "decoder"), ask(file, "decoder", train=True), ask(file, "decoder", train=True, dp=8),
    )  # fmt: skip
    assert list(step.passes) == ["forward", "backward", "optimizer"]
    assert step.result.total_s > 2.5 * forward.result.total_s
    # two states and master weights in fp32; bf16 gradients come as activations go
    weights = forward.result.memory_bytes.weights
    assert step.result.memory_bytes.weights == weights * (1 + 2 * 2 + 2)
    assert step.result.memory_bytes.activations > weights
    assert many.result.total_s >= step.result.total_s
    assert many.tallies.keys() == step.tallies.keys()


def test_what_does_not_fit_says_what_would(file):
    (one,) = ask(file, "large", on=("l4",))
    assert not one.result.fits
    assert "weights in fp8 would fit, with 17.2 GB" in one.result.provenance["fit"]


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("decoder", {"tp": 2}, "tp, pp and ep must be 1 for a module, whose heads and layers are not known, not 2, 1"),
        ("decoder", {"dp": 2, "devices": 4}, "dp must be the 4 devices for a module, not 2"),
        ("decoder", {"batch": 4}, "batch must not be given for a module, which runs on its own inputs, not 4"),
        ("decoder", {"generate": 4}, "generate must not be given for a module"),
        ("decoder", {"search": True}, "search must not be given for a module"),
        ("decoder", {"engine": "vllm"}, "engine must be none for a module, .*, not 'vllm'"),
        ("decoder", {"train": True, "format": "int8/bf16"}, "format must be one word for training a module"),
        ("decoder", {"format": "bf17"}, "not 'bf17'"),
        ("missing", {}, "must define missing, a module with example_inputs, or a callable"),
        ("lonely", {}, "inputs must be a tensor, a tuple of arguments or a dict of keyword arguments, not missing"),
        ("number", {}, "must be a module with example_inputs, or a callable .*, not int"),
        ("gives_number", {}, "not give int"),
        ("raises", {}, f"raises IndexError in line {RAISES}: list index out of range"),
        ("leaves", {}, f"raises SystemExit in line {RAISES + 1}: 3"),
        ("reads", {}, f"in line {READS}: module must not depend on values of tensors"),
        ("wrong_inputs", {}, "inputs must be .*, not int"),
        ("wrong_shape", {}, "module must run on its inputs: RuntimeError: .*"),
    ],
)
def test_refused_in_one_sentence(file, name, options, sentence):
    with pytest.raises(ValueError, match=sentence) as raised:
        ask(file, name, **options)
    assert "\n" not in str(raised.value)


def test_names_that_are_no_module():
    with pytest.raises(ValueError, match=r"model must be FILE.py:NAME, where NAME is a module .*, not 'net.py'"):
        answer(Ask(model="net.py", on=("l4",)))
    with pytest.raises(ValueError, match=r"of a file that can be read, not 'no/such.py:net'"):
        answer(Ask(model="no/such.py:net", on=("l4",)))


def systolith(*arguments):
    code = "from systolith_sim.cli import main\nmain()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def test_the_command(file, tmp_path):
    done = systolith(
        "estimate", f"{file}:decoder", "--on", "h100-sxm,epyc-9654", "--json", "--out", str(tmp_path / "out")
    )
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    jsonschema.validate(data, json.loads(json_schema()))
    assert [one["device"] for one in data] == ["h100-sxm", "epyc-9654"]
    assert done.stderr == "talk\n"
    assert "one pass of a module" in (tmp_path / "out" / "report.html").read_text()
    trace = json.loads((tmp_path / "out" / "trace-h100-sxm.json").read_text())["traceEvents"]
    ups = [event for event in trace if event["name"] == "model.layers.*.mlp.up_proj.mm" and event["tid"] == 1]
    assert len(ups) == 4  # one a layer


def test_what_a_forward_pass_prints_is_no_data(file):
    done = systolith("estimate", f"{file}:strange", "--on", "l4", "--json")
    assert (done.returncode, done.stderr) == (0, "talk\nmore talk\n")
    assert json.loads(done.stdout)[0]["provenance"]["approximated"].endswith(": aten::linalg_qr (1)")


def test_the_command_refuses_in_one_sentence(file):
    for arguments, sentence in (
        (("estimate", f"{file}:raises", "--on", "l4"), f"raises IndexError in line {RAISES}:"),
        (("advise", f"{file}:mlp", "--prompt", "1", "--generate", "1", "--rate", "1"), "not the module"),
    ):
        done = systolith(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr
