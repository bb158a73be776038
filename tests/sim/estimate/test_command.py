"""The command: JSON and nothing else, quick and without torch, sentences for bad input, a page that stands alone."""

import json
import subprocess
import sys

import jsonschema
import pytest

from systolith_sim.estimate.result import json_schema


def systolith(*arguments):
    """Run the command as a user does, with the heavy modules it imported on stderr's last line."""
    code = (
        "import sys\nfrom systolith_sim.cli import main\ntry:\n    main()\nfinally:\n"
        "    print(sorted({'torch', 'plotly', 'amaranth', 'scipy'} & set(sys.modules)), file=sys.stderr)"
    )
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120,
                          check=False)  # fmt: skip


def test_json_follows_the_schema_and_imports_nothing_heavy():
    done = systolith("estimate", "llama-2-7b", "--on", "h100-sxm,tpu-v5e", "--json")
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    jsonschema.validate(data, json.loads(json_schema()))
    assert [one["device"] for one in data] == ["h100-sxm", "tpu-v5e"]
    assert done.stderr.strip() == "[]"


def test_a_folder_with_a_config_is_a_model(tmp_path):
    config = {
        "model_type": "llama", "vocab_size": 32000, "hidden_size": 4096, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "intermediate_size": 11008,
        "max_position_embeddings": 4096, "tie_word_embeddings": False,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = [
        json.loads(systolith("estimate", name, "--on", "h100-sxm", "--json").stdout)[0]
        for name in (str(tmp_path), "llama-2-7b")
    ]
    assert found[0]["total_s"] == found[1]["total_s"]


def test_a_page_and_the_figures(tmp_path):
    done = systolith("estimate", "gpt2", "--on", "l4,xeon-8480plus", "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "out" / "report.html").read_text()
    assert "xeon-8480plus" in page
    assert "plot-roofline-2" in page
    assert "http" not in page.partition("<script>")[0]
    assert json.loads((tmp_path / "out" / "estimate.json").read_text())[0]["model"] == "gpt2"
    trace = json.loads((tmp_path / "out" / "trace-l4.json").read_text())["traceEvents"]
    assert sum(event["name"] == "layer.attention" and event["tid"] == 1 for event in trace) == 2 * 12


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("estimate", "llama-2-7b", "--on", "h100-sxm", "--tp", "3"), "tp must divide the 32 heads"),
        (("estimate", "llama-2-7b", "--on", "h100-sxm", "--devices", "5", "--tp", "2"), "must be the 5 devices"),
        (("estimate", "llama-2-7b", "--on", "h100-sxm", "--devices", "0"), "devices must be >= 1, not 0"),
        (("estimate", "llama-2-7b", "--on", "h100-sxm", "--batch", "0"), "batch must be >= 1, not 0"),
        (("estimate", "llama-2-7b", "--on", "h100-sxm", "--format", "bf17"), "not 'bf17'"),
        (("estimate", "llama-2-7b", "--on", "h100-sxm", "--batch", "x"), "batch must be a whole number, not 'x'"),
        (("estimate", "llama-2-7b", "--on", "h100-sxm", "--grid", "x"), "grid must be a number, not 'x'"),
        (("estimate", "llama-2-7b", "--on", "h100-sxm", "--grid", "nan"), ">= 0 g/kWh and finite, not nan"),
        (("estimate", "llama-2-7b", "--on", "h100-sxm", "--ep", "0"), "ep must be >= 1, not 0"),
        (("estimate", "llama-2-7b", "--on", "h100-sxm", "--max-price", "1"), "must not be given without search, not 1"),
        (("estimate", "llama-2-7b", "--on", "h100-sxm", "--search", "--max-price", "inf"), "and finite, not inf"),
        (("estimate", "llama-2-7b", "--on", "h100-sxm", "--zero", "1"), "zero must not be given without train, not 1"),
        (("estimate", "llama-2-7b", "--on", "h100-sxm", "--engine", "x"), "engine must be one of none"),
        (("estimate", "llama-2-7b", "--on", "no-such-device"), "device 'no-such-device' is unknown"),
        (("estimate", "no-such-model", "--on", "h100-sxm"), "not 'no-such-model'"),
        (("estimate", "llama-2-7b", "--on", "h100-sxm", "--ep", "2", "--tp", "2"), "no experts, not 2"),
        (("advise", "llama-2-7b", "--prompt", "10", "--generate", "10", "--rate", "-1"), "rate must be above 0"),
        (("advise", "llama-2-7b", "--prompt", "0", "--generate", "10", "--rate", "1"), "prompt must be >= 1, not 0"),
    ],
)
def test_bad_input_is_one_sentence(arguments, sentence):
    done = systolith(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
