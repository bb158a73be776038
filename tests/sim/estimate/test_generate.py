"""Estimates of static batches: physics that must hold, memory, schema, and the figures' relations."""

import json
from dataclasses import replace
from importlib import resources

import jsonschema
import pytest

from systolith_model.formats import Formats
from systolith_sim.devices.library import find_device
from systolith_sim.estimate.closed_loop import closed_loop
from systolith_sim.estimate.engine import engine_names, find_engine, parse_engine
from systolith_sim.estimate.generate import estimate
from systolith_sim.estimate.models import find_model
from systolith_sim.estimate.replica import Replica
from systolith_sim.estimate.request import Request
from systolith_sim.estimate.result import json_schema, results_json
from systolith_sim.estimate.served import estimate_served
from systolith_sim.parallel.layout import Layout

REQUEST = Request(batch=8, prompt=256, generate=64)
FIELDS = {
    "schema", "model", "device", "devices", "parallel", "format", "engine", "ttft_s", "tpot_s", "total_s",
    "tokens_per_s", "energy_j", "energy_j_per_token", "power_w", "price_usd_per_million_tokens", "memory_bytes",
    "fits", "bound_by", "interval", "provenance", "host_power_w", "energy_with_host_j", "energy_with_host_j_per_token",
    "pue", "carbon_g_per_million_tokens",
}  # fmt: skip


def run(name="llama-2-7b", device="h100-sxm", request=REQUEST, layout=None, engine="none"):
    return estimate(name, find_model(name), find_device(device), request, layout or Layout(), find_engine(engine))


def test_the_packaged_schema_is_current():
    packaged = resources.files("systolith_sim.schemas") / "estimate-1.json"
    assert packaged.read_text("utf-8") == json_schema(), "write json_schema() to schemas/estimate-1.json"


def rate(one):
    """Tokens a second, where tokens are counted."""
    assert one.result.tokens_per_s is not None
    return one.result.tokens_per_s


def step_s(one):
    """Time per token, where there is one."""
    assert one.result.tpot_s is not None
    return one.result.tpot_s


@pytest.mark.parametrize(
    ("name", "device", "layout"),
    [
        ("llama-2-7b", "h100-sxm", Layout()),
        ("llama-3-70b", "a100-80", Layout(tp=4, pp=2, dp=2)),
        ("mixtral-8x7b", "h200", Layout(tp=2, dp=2, ep=4)),
        ("deepseek-v2-lite", "mi300x", Layout(tp=2)),
        ("gemma-2-9b", "tpu-v5e", Layout(tp=2)),
        ("t5-base", "l40s", Layout()),
        ("bert-base-uncased", "xeon-8480plus", Layout()),
        ("gpt2", "raspberry-pi-5", Layout()),
    ],
)
def test_every_family_gives_the_promised_fields(name, device, layout):
    result = run(name, device, layout=layout).result
    data = json.loads(results_json([result]))
    jsonschema.validate(data, json.loads(json_schema()))
    assert set(data[0]) == FIELDS
    for field, (low, high) in data[0]["interval"].items():
        assert low <= data[0][field] <= high, field
    assert data[0]["total_s"] == pytest.approx(
        data[0]["ttft_s"] + (data[0]["tpot_s"] or 0) * (REQUEST.generate - 1)
    )
    assert data[0]["devices"] == layout.devices
    assert data[0]["memory_bytes"]["total"] == pytest.approx(
        sum(data[0]["memory_bytes"][part] for part in ("weights", "kv", "activations"))
    )
    if data[0]["energy_j"] is not None:
        assert data[0]["power_w"] == pytest.approx(data[0]["energy_j"] / data[0]["total_s"])


def test_a_step_is_no_faster_than_the_memory():
    """Llama-2-7B in bf16 reads 13.2 GB of layers a token, at 3.35 TB/s."""
    one = run(request=Request(batch=1, prompt=128, generate=64))
    assert step_s(one) > 2 * 6.6e9 / 3.35e12
    assert one.result.bound_by == "memory"


def test_prefill_is_no_faster_than_the_peak():
    """2 x 6.6e9 operations a token at 989 TFLOP/s."""
    result = run(request=Request(batch=8, prompt=1024, generate=1)).result
    assert result.ttft_s is not None
    assert result.ttft_s > 2 * 6.6e9 * 8192 / 989.4e12
    assert result.tpot_s is None
    assert result.bound_by == "compute"


def test_more_of_anything_takes_longer():
    base = run().result.total_s
    for more in ({"batch": 32}, {"prompt": 2048}, {"generate": 256}):
        assert run(request=replace(REQUEST, **more)).result.total_s > base


def test_narrow_weights_save_memory_and_time_of_a_step():
    wide, narrow = run(), run(request=replace(REQUEST, formats=Formats.parse("int4/bf16/bf16")))
    assert narrow.result.memory_bytes.weights < 0.35 * wide.result.memory_bytes.weights
    assert step_s(narrow) < 0.6 * step_s(wide)


def test_groups_are_faster_and_replicas_do_more():
    one, group, copies = run(), run(layout=Layout(tp=4)), run(layout=Layout(dp=4))
    assert 0.2 * step_s(one) < step_s(group) < 0.7 * step_s(one)
    assert rate(copies) > 3 * rate(run(request=replace(REQUEST, batch=2)))
    assert group.result.memory_bytes.weights == pytest.approx(one.result.memory_bytes.weights / 4, rel=0.02)


def test_stages_take_as_long_and_hold_less():
    one, stages = run(), run(layout=Layout(pp=4))
    assert step_s(stages) == pytest.approx(step_s(one), rel=0.25)
    assert stages.tallies["prefill"].seconds < 0.6 * one.tallies["prefill"].seconds
    assert stages.result.memory_bytes.weights < 0.3 * one.result.memory_bytes.weights


def test_an_engine_adds_its_constants():
    """One constant a sequence, one for the share of launches: 64 steps of 8 sequences."""
    engine = find_engine("vllm")
    bare, with_engine = run(), run(engine="vllm")
    launches = sum(
        count * with_engine.passes[name].launch_s for name, count in (("prefill", 1), ("decode", REQUEST.generate - 1))
    )
    added = 64 * 8 * engine.sequence_s.value - (1 - engine.launch_share.value) * launches
    assert with_engine.result.total_s - bare.result.total_s == pytest.approx(added, rel=1e-6)


def test_what_does_not_fit_says_so():
    result = run("llama-3-70b", request=Request(batch=1)).result
    assert not result.fits
    # half of 70,553,706,496 parameters in two bytes, and a little
    assert ": tp 2 would fit, with 70.7 GB." in result.provenance["fit"]
    result = run(request=Request(batch=512, prompt=1024, generate=512)).result
    assert not result.fits
    words = result.provenance["fit"]
    assert "a batch of" in words
    fitting = int(words.partition("a batch of ")[2].split()[0])
    assert run(request=Request(batch=fitting, prompt=1024, generate=512)).result.fits
    assert not run(request=Request(batch=fitting + 1, prompt=1024, generate=512)).result.fits


def test_a_closed_loop_waits_for_the_prompts_of_the_others():
    model, device = find_model("llama-3.1-8b"), find_device("h100-sxm")
    replica = Replica(device, model, Layout(), find_engine("none"), Formats())
    alone = closed_loop(replica, concurrency=1, prompt=1024, generate=128)
    together = closed_loop(replica, concurrency=16, prompt=1024, generate=128)
    enter = replica.prefill_tally(batch=1, prompt=1024).seconds
    step = replica.step_tally(batch=16, prompt=1024, done=65).seconds
    assert together.tpot_s == pytest.approx(step + 15 * enter / 128)
    assert together.requests_per_s == pytest.approx(16 / together.latency_s)
    assert alone.requests_per_s < together.requests_per_s < 16 * alone.requests_per_s
    with pytest.raises(ValueError, match="concurrency must be >= 1, not 0"):
        closed_loop(replica, concurrency=0, prompt=1, generate=1)


def test_time_per_token_of_a_served_model():
    """Llama-3.1-8B in bf16 under TensorRT-LLM 1.0 on one H100 takes 7 to 10 ms a token with 8 to 32 requests.

    Range of the serving sample of ai-dynamo/aiconfigurator@095f58a, 1024 tokens in, 512 out.
    """
    model, device = find_model("llama-3.1-8b"), find_device("h100-sxm")
    replica = Replica(device, model, Layout(), find_engine("tensorrt-llm-1.0"), Formats())
    few = closed_loop(replica, concurrency=8, prompt=1024, generate=512).tpot_s
    more = closed_loop(replica, concurrency=32, prompt=1024, generate=512).tpot_s
    assert 6.5e-3 < few < 8e-3
    assert 9e-3 < more < 11e-3


@pytest.mark.parametrize(
    ("width", "flight", "prompt", "generate", "measured_ms"),
    [(2, 32, 2048, 256, 9.66), (4, 16, 4096, 128, 8.08), (8, 32, 1024, 128, 7.46), (8, 32, 4096, 512, 5.64)],
)
def test_time_per_token_in_wide_groups(width, flight, prompt, generate, measured_ms):
    """Rows of the same sample; kernels alone say 5.5 ms of the third, whose passes with prompts wait for the host."""
    model, device = find_model("llama-3.1-8b"), find_device("h100-sxm")
    replica = Replica(device, model, Layout(tp=width), find_engine("tensorrt-llm-1.0"), Formats())
    loop = closed_loop(replica, concurrency=flight, prompt=prompt, generate=generate)
    assert loop.tpot_s == pytest.approx(measured_ms * 1e-3, rel=0.08)
    assert loop.interval_s[0] <= measured_ms * 1e-3 <= loop.interval_s[1]


def test_a_mixed_pass_reads_the_weights_once():
    """Llama-3.1-8B has 7.5e9 parameters in matrices: 15.0 GB, 4.5 ms at the 3.35 TB/s of an H100."""
    model, device = find_model("llama-3.1-8b"), find_device("h100-sxm")
    engine = find_engine("none").model_copy(update={"mixes": True})
    replica = Replica(device, model, Layout(), engine, Formats())
    replica.power = None  # a prompt alone would run at a lower clock than one that enters with a step
    step = replica.step_tally(batch=8, prompt=1024, done=65)
    enter = replica.prefill_tally(batch=1, prompt=1024)
    mixed = replica.mixed_tally(batch=8, prompt=1024, done=65)
    assert 4.0e-3 < step.seconds + enter.seconds - mixed.seconds < 6.0e-3
    assert mixed.flops == pytest.approx(step.flops + enter.flops, rel=1e-3)
    double = replica.mixed_tally(batch=8, prompt=1024, done=65, prompts=2)
    assert double.seconds == pytest.approx(mixed.seconds + enter.seconds)
    loop = closed_loop(replica, concurrency=8, prompt=1024, generate=128)
    assert loop.tpot_s == pytest.approx(step.seconds + 7 / 128 * (mixed.seconds - step.seconds))
    # Sixteen prompts enter while a token is generated: all in its pass.
    crowd = closed_loop(replica, concurrency=17, prompt=64, generate=1)
    many = replica.mixed_tally(batch=17, prompt=64, done=1, prompts=16)
    assert crowd.tpot_s == pytest.approx(many.seconds)


def test_prompts_alone_run_at_the_clock_that_power_leaves():
    """The limit of A100 slows products of 16,384 rows by at most 1.148 (295 / 257, Horace He), and no decode step."""
    model, device, engine = find_model("llama-2-7b"), find_device("a100-80"), find_engine("none")
    limited, free = (Replica(device, model, Layout(), engine, Formats.parse("fp16")) for _ in range(2))
    free.power = None
    slower = limited.prefill_tally(batch=16, prompt=1024).seconds / free.prefill_tally(batch=16, prompt=1024).seconds
    assert 1.02 < slower < 1.148
    steps = [one.step_tally(batch=16, prompt=1024, done=1).seconds for one in (limited, free)]
    assert steps[0] == steps[1]


def test_pipelines_and_other_engines_do_not_mix():
    model, device, engine = find_model("llama-3.1-8b"), find_device("h100-sxm"), find_engine("tensorrt-llm-1.0")
    assert Replica(device, model, Layout(tp=2), engine, Formats()).mixes
    assert not Replica(device, model, Layout(pp=2), engine, Formats()).mixes
    assert not Replica(device, model, Layout(), find_engine("vllm"), Formats()).mixes
    assert not Replica(device, find_model("t5-base"), Layout(), engine, Formats()).mixes


def test_prompts_wait_for_a_host_that_launches_them_one_by_one():
    """Llama-3.1-8B: embedding, 9 kernels in each of 32 layers, norm and head; 2 sums a layer, embedding and logits."""
    model, device, engine = find_model("llama-3.1-8b"), find_device("h100-sxm"), find_engine("tensorrt-llm-1.0")
    replica = Replica(device, model, Layout(tp=8), engine, Formats())
    replica.power = None  # at full clock
    short = replica.prefill_tally(batch=1, prompt=16)
    host_s = (3 + 9 * 32 + 2 * 32 + 2) * engine.eager_operation_s.value
    assert short.seconds == pytest.approx(host_s + engine.step_s.value + engine.sequence_s.value)
    assert short.bound_by == "engine"
    assert replica.prefill_tally(batch=8, prompt=1024).bound_by == "link"  # sums of 64 MiB
    step = replica.step_tally(batch=1, prompt=16, done=1)
    assert step.seconds < short.seconds / 4  # a graph launches it


def test_engines_errors_by_width_and_device():
    """Rows on A100 40 GB: narrower and wider groups apart, and wider by the root of two in logarithm elsewhere."""
    engine = find_engine("vllm")
    one, two, four = engine.errors
    assert (one.tp, two.tp, four.tp) == (1, 2, 4)
    device, other = find_device("a100-40"), find_device("h100-sxm")
    assert engine.error_factors(device, 1) == (one.low, one.high)
    assert engine.error_factors(device, 3) == (two.low, two.high)
    assert engine.error_factors(device, 8) == (four.low, four.high)
    assert engine.error_factors(other, 8) == pytest.approx((four.low**1.41421356, four.high**1.41421356))
    assert find_engine("none").error_factors(device, 1) == (1.0, 1.0)


def test_a_served_estimate_is_the_closed_loop():
    model, device, engine = find_model("llama-3.1-8b"), find_device("h100-sxm"), find_engine("vllm")
    request = Request(batch=32, prompt=1024, generate=128)
    result = estimate_served("m", model, device, request, Layout(dp=2), engine).result
    loop = closed_loop(
        Replica(device, model, Layout(dp=2), engine, Formats()), concurrency=16, prompt=1024, generate=128
    )
    assert result.total_s == pytest.approx(loop.latency_s)
    assert result.tpot_s == pytest.approx(loop.tpot_s)
    assert result.tokens_per_s == pytest.approx(2 * loop.requests_per_s * 128)
    assert result.energy_j_per_token == pytest.approx(loop.work.joules[1] / 128, rel=0.01)
    for field, (low, high) in result.interval.items():
        assert low <= getattr(result, field) <= high
    with pytest.raises(ValueError, match="model must generate tokens"):
        estimate_served("bert", find_model("bert-base-uncased"), device, request, Layout(), engine)


def test_a_cache_that_the_device_must_convert_is_told():
    narrow = replace(REQUEST, formats=Formats.parse("fp16/fp16/fp8"))
    assert "a100-40 has no fp8" in run(device="a100-40", request=narrow).result.provenance["cache"]
    assert "cache" not in run(device="h100-sxm", request=narrow).result.provenance
    assert "cache" not in run(device="a100-40").result.provenance


def test_engines_are_files_and_refuse_what_is_wrong():
    assert {"none", "vllm", "tensorrt-llm"} <= set(engine_names())
    for name in engine_names():
        engine = find_engine(name)
        assert engine.id == name
        assert all(datum.source in engine.sources for datum in (engine.launch_share, engine.sequence_s))
    with pytest.raises(ValueError, match=r"engine must be one of none, .*, not 'llama\.cpp'"):
        find_engine("llama.cpp")
    with pytest.raises(ValueError, match=r"x\.toml: name: Field required"):
        parse_engine('id = "x"', "x.toml")


@pytest.mark.parametrize("field", ["batch", "prompt", "generate"])
def test_requests_refuse_nothing(field):
    with pytest.raises(ValueError, match=f"{field} must be >= 1, not 0"):
        replace(REQUEST, **{field: 0})


def test_lengths_beyond_the_positions_are_refused():
    with pytest.raises(ValueError, match=r"prompt \+ generate must be <= 4096 positions of llama-2-7b, not 4160"):
        run(request=Request(prompt=4096, generate=64))
