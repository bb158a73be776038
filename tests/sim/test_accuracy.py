"""The scoreboard on rows made up here: what it counts, splits, leaves out and refuses."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BOARD = Path(__file__).resolve().parents[2] / "benchmarks" / "accuracy.py"
SITES = [(n, k) for n in (1024, 2048, 4096, 8192) for k in (1024, 3072, 4096)]
"""(n, k)."""


def board(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, BOARD, *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Every product exactly three times its bytes over A100's bandwidth, one row twice, one outlier of H100."""
    folder = tmp_path / "aiconfigurator"
    folder.mkdir()
    rows = ["gemm_dtype,m,n,k,latency"]
    for n, k in SITES:
        milliseconds = 3 * 2 * (8 * k + n * k + 8 * n) / 2.039e12 * 1e3
        rows += [f"bfloat16,8,{n},{k},{milliseconds}"] * (2 if (n, k) == (1024, 1024) else 1)
    (folder / "gemm_a100_sxm_vllm-0.14.0.csv").write_text("\n".join(rows) + "\n")
    outlier = ["gemm_dtype,m,n,k,latency", "bfloat16,8192,12288,4096,2.744", "bfloat16,1,12288,4096,0.04"]
    (folder / "gemm_h100_sxm_vllm-0.14.0.csv").write_text("\n".join(outlier) + "\n")
    return tmp_path


def test_scores_of_rows_made_up(data):
    done = board("--data", str(data), "--table", "matmul", "--json")
    assert done.returncode == 0, done.stderr
    lines = [line for line in json.loads(done.stdout)["scores"] if line["regime"] == "all"]
    mine = [line for line in lines if line["device"] == "a100-80"]
    # double keys count once, each site on one side of the split only
    never = sum(((n * 7919 + k * 104729) % 1000003) % 10 >= 7 for n, k in SITES)
    assert {line["used"]: line["rows"] for line in mine} == {True: len(SITES) - never, False: never}
    assert sum(line["rows"] for line in lines if line["device"] == "h100-sxm") == 1  # without the outlier
    for line in mine:
        assert line["rivals"]["roofline"] == pytest.approx(2 / 3)  # a third of what was measured
        assert line["mape"] > 0
        assert 0 <= line["inside"] <= 1


def test_other_machines_and_versions_are_never_used(data):
    fitted = data / "aiconfigurator" / "gemm_a100_sxm_vllm-0.14.0.csv"
    for name in ("gemm_b200_sxm_trtllm-1.csv", "gemm_a100_sxm_vllm-9.csv", "gemm_abacus_vllm-9.csv"):
        extra = "nvfp4,8,1024,1024,0.01\nfp8,8,1024,1024,0.01\n"  # the first no format here, the second not of an A100
        fitted.with_name(name).write_text(fitted.read_text() + extra)
    done = board("--data", str(data), "--table", "matmul", "--json")
    assert done.returncode == 0, done.stderr
    lines = [line for line in json.loads(done.stdout)["scores"] if line["regime"] == "all"]
    others = [line for line in lines if "-" in line["operation"]]
    found = {(line["device"], line["operation"]): (line["used"], line["rows"]) for line in others}
    assert found == {
        ("b200", "matmul bf16 trtllm-1"): (False, len(SITES)), ("b200", "matmul fp8 trtllm-1"): (False, 1),
        ("a100-80", "matmul bf16 vllm-9"): (False, len(SITES)),
    }  # fmt: skip


def test_a_table_that_is_not_there_is_refused(tmp_path):
    done = board("--data", str(tmp_path), "--table", "gemms")
    assert done.returncode == 2
    assert "--table: 'gemms' is unknown: allowed are " in done.stderr
    assert "matmul" in done.stderr


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    done = board("--data", str(tmp_path / "none"))
    assert done.returncode == 2
    assert "--data: " in done.stderr


def test_least_deviations_find_the_parameters_that_made_the_rows(monkeypatch):
    monkeypatch.syspath_prepend(str(BOARD.parent))
    from fitting import fit

    size = np.geomspace(1, 1e6, 200)
    seconds = 3e-6 + size / 2e9 + np.where(np.arange(200) % 10 == 0, 1.0, 0.0)  # a tenth are outliers
    found = fit(
        {"rows": lambda trial: np.log((trial["start"] + size / trial["rate"]) / seconds)},
        {"start": 1e-6, "rate": 1e10}, {}, rounds=60,
    )  # fmt: skip
    assert found == pytest.approx({"start": 3e-6, "rate": 2e9}, rel=0.03)


def test_routings_of_the_benchmark_keep_what_it_says_of_them(monkeypatch):
    monkeypatch.syspath_prepend(str(BOARD.parent))
    from accuracy_tables.moe_routing import calls

    # one token goes to its experts alone, of which a group holds at most its size
    (one,) = calls(1, 64, 4, 1, 1.2)
    assert (one.rows, one.active, one.tiles[0]) == (4, 4, 4)
    # all pairs are somewhere; each expert has at most a row a token, the busiest at least the mean
    (whole,), (busiest,) = calls(300, 32, 4, 1, 1.01), calls(1000, 3, 2, 3, 1.01)
    assert whole.rows == 1200
    assert 2000 / 3 <= busiest.rows <= 1000
    # calls of at most 16,384 tokens, which together hold every pair
    cut = calls(40000, 32, 4, 1, 1.2)
    assert [call.tokens for call in cut] == [16384, 16384, 7232]
    assert sum(call.rows for call in cut) == 160000


def test_layers_are_split_by_product_and_scored_once_more_by_class(tmp_path):
    folder = tmp_path / "llmservingsim"
    folder.mkdir()
    names = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj", "layernorm", "rotary_emb", "act_fn")
    rows = [f"{name},{tokens},100" for name in names for tokens in (1, 512)]
    text = "\n".join(["layer,tokens,time_us", *rows])
    (folder / "dense_RTX4090_Llama-3.1-8B_tp1.csv").write_text(text + "\n")
    done = board("--data", str(tmp_path), "--table", "layers", "--json")
    assert done.returncode == 0, done.stderr
    found = {
        (line["operation"], line["used"]): line for line in json.loads(done.stdout)["scores"] if line["regime"] == "all"
    }
    assert {key: line["rows"] for key, line in found.items() if key[0].startswith("matmul")} == {
        ("matmul bf16", True): 4, ("matmul bf16", False): 4, ("matmul bf16, by class", False): 8,
    }  # fmt: skip
    # the card's own rate and bandwidth are above those of its class
    assert found["matmul bf16, by class", False]["bias"] > found["matmul bf16", False]["bias"]


def test_rows_that_no_fit_has_seen(tmp_path):
    """A board a hundredth as fast as 4.6 bits of 3.2e9 weights at 1,008 GB/s; fp16, waves and others are left out."""
    boards = tmp_path / "llamacpp"
    boards.mkdir()
    rate = 1008e9 / (3.21e9 * 4.625 / 8) / 100
    (boards / "cpu_gpu_power_geerlingguy.csv").write_text(
        "model,system,engine,eval_tokens_per_s\n"
        f"Llama 3.2:3b,Pi CM5 - 16GB (Nvidia RTX 4090),GPU,{rate}\n"
        "Llama 3.2:3b,Pi 400 - 4GB,CPU,1.6\n"
    )
    argonne = tmp_path / "argonne-llm-inference-bench"
    argonne.mkdir()
    head = "Hardware,Num of Hardware,Framework,Model,Input Output Length,Batch Size,kv_cache_dtype,latency\n"
    row = 'Nvidia A100 GPU,1,vLLM,meta-llama/Meta-Llama-3-8B,{},{},"Weight = {}, KV Cache = {}",2.0\n'
    kept = row.format(128, 1, "fp16", "fp8")
    dropped = row.format(128, 1, "fp16", "fp16") + row.format(2048, 128, "fp16", "int8")  # 51 GB
    (argonne / "quant_a100_h100.csv").write_text(head + kept + dropped)
    done = board("--data", str(tmp_path), "--table", "boards", "--table", "quantized", "--json")
    assert done.returncode == 0, done.stderr
    narrow, fast = (line for line in json.loads(done.stdout)["scores"] if line["regime"] == "all")
    assert narrow["operation"] == "vllm, fp16 weights, fp8 cache"
    assert (fast["device"], fast["rows"], fast["used"]) == ("rtx-4090", 1, False)
    assert -0.99 < fast["bias"] < -0.95  # no faster than the memory, and no slower than a fifth of it
    assert (narrow["device"], narrow["rows"], narrow["used"]) == ("a100-40", 1, False)


def test_a_page_keeps_the_tables_that_are_not_written(monkeypatch):
    monkeypatch.syspath_prepend(str(BOARD.parent))
    import accuracy

    page = "<!-- board: begin -->\n### attention\n\none\n\n### served\n\ntwo\n<!-- board: end -->\n"
    assert accuracy.board(page, [], {}) == "### attention\n\none\n\n### served\n\ntwo"
    matmul = accuracy.tables(["matmul"])
    found = accuracy.board(page, matmul, {"matmul": []}).split("\n\n")
    assert found == ["### attention", "one", "### served", "two", "### matmul", f"Split {matmul[0].rule}."]


def test_regimes_hold_what_their_lines_hold(monkeypatch):
    monkeypatch.syspath_prepend(str(BOARD.parent))
    import accuracy

    def line(table, regime, rows, inside, half_width, used=False):
        return accuracy.Score(table, "some", "matmul", regime, used, rows, 0.1, 0.1, 0.0, inside, half_width, {})

    found = accuracy.by_regime([
        line("matmul", "all", 400, 0.8, 0.3), line("matmul", "memory", 100, 1.0, 0.1),
        line("attention", "memory", 300, 0.9, 0.2), line("attention", "memory", 900, 0.0, 0.9, used=True),
        line("matmul, device left out", "memory", 50, 0.5, 0.4),
    ])  # fmt: skip
    assert found.splitlines()[2:] == [
        "| as their files are | memory | 400 | 92.5% | 20% |", "| left out | memory | 50 | 50.0% | 40% |",
    ]  # fmt: skip
