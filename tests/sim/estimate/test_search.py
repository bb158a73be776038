"""Search and advice: the best of all layouts, bounds that hold, demands that are refused in one sentence."""

import pytest

from systolith_sim.devices.library import find_device
from systolith_sim.estimate.advise import MOST_LOAD, Demand, advise
from systolith_sim.estimate.ask import Ask, answer
from systolith_sim.estimate.engine import find_engine
from systolith_sim.estimate.generate import estimate
from systolith_sim.estimate.models import find_model
from systolith_sim.estimate.request import Request
from systolith_sim.estimate.search import Bounds, layouts
from systolith_sim.parallel.layout import Layout

BASE = {"model": "llama-3-70b", "on": ("h100-sxm",), "batch": 16, "prompt": 512, "generate": 64}


def every(objective):
    model, device = find_model("llama-3-70b"), find_device("h100-sxm")
    request, engine = Request(batch=16, prompt=512, generate=64), find_engine("vllm")
    found = [estimate("m", model, device, request, layout, engine) for layout in layouts(model, 8, 16, Layout())]
    return min((one.result for one in found if one.result.fits), key=objective)


def test_the_best_layout_is_the_best_of_all():
    (best,) = answer(Ask(**BASE, devices=8, search=True))
    assert best.result.total_s == every(lambda result: result.total_s).total_s
    (most,) = answer(Ask(**BASE, devices=8, search=True, objective="throughput"))
    assert most.result.tokens_per_s == every(lambda result: -result.tokens_per_s).tokens_per_s


def test_layouts_use_all_devices_and_give_every_replica_a_sequence():
    found = list(layouts(find_model("mixtral-8x7b"), 8, 2, Layout()))
    assert all(layout.devices == 8 for layout in found)
    assert all(layout.dp <= 2 for layout in found)
    assert {layout.ep for layout in found} == {1, 2, 4, 8}
    assert len(set(found)) == len(found)


def test_bounds_hold_or_are_named():
    (best,) = answer(Ask(**BASE, devices=8, search=True, max_memory_gb=30))
    assert best.result.memory_bytes.total <= 30e9
    with pytest.raises(ValueError, match="no layout of 8 devices keeps the bound on latency"):
        answer(Ask(**BASE, devices=8, search=True, max_latency=1e-3))
    with pytest.raises(ValueError, match="no layout of 1 devices keeps the bound on memory: needs 145"):
        answer(Ask(**BASE, devices=1, search=True))
    with pytest.raises(ValueError, match="price_usd must be above 0, not -1"):
        Bounds(price_usd=-1)
    with pytest.raises(ValueError, match="devices must be given for a search"):
        answer(Ask(**BASE, search=True))
    with pytest.raises(ValueError, match="objective must be one of latency, throughput, price, not 'beauty'"):
        answer(Ask(**BASE, objective="beauty"))


def test_training_is_searched_too():
    ask = Ask(
        model="llama-3-8b", on=("h100-sxm",), devices=8, batch=8, prompt=2048, train=True, search=True,
        recompute="selective",
    )  # fmt: skip
    (best,) = answer(ask)
    assert best.result.fits
    assert best.result.devices == 8


def test_an_fpga_computes_in_what_it_has():
    (one,) = answer(Ask(model="stories15m", on=("ulx3s-85f",), prompt=8, generate=2))
    assert one.result.format == "int8/int8/int8"


def test_carbon_is_energy_times_the_grid():
    (one,) = answer(Ask(model="llama-2-7b", on=("h100-sxm",), grid=400))
    assert one.result.energy_j_per_token is not None
    grams = one.result.energy_j_per_token * 1e6 / 3.6e6 * 400
    assert one.result.provenance["carbon"].startswith(f"{grams:.3g} g CO2")
    with pytest.raises(ValueError, match="grid must be >= 0 g/kWh and finite, not -1"):
        answer(Ask(model="llama-2-7b", on=("h100-sxm",), grid=-1))


def test_one_server_for_a_small_model():
    advice = advise("llama-3.1-8b", Demand(prompt=512, generate=256, rate=2, latency_s=20))
    first = advice.options[0]
    assert first.replicas == 1
    assert first.latency_s <= 20
    assert "cheapest" in first.reason
    priced = [option.usd_per_hour for option in advice.options if option.usd_per_hour is not None]
    assert priced == sorted(priced)
    assert len({option.device for option in advice.options}) == len(advice.options)


def test_a_fleet_carries_the_rate():
    demand = Demand(prompt=1024, generate=512, rate=50, latency_s=60)
    advice = advise("llama-3.1-70b", demand, on=("h100-sxm", "h200", "tpu-v5e", "l40s"))
    for option in advice.options:
        assert option.devices == option.tp * option.replicas
        assert option.requests_per_s * MOST_LOAD >= 50 - 1e-6
        assert option.load <= MOST_LOAD + 1e-9
        assert option.latency_s <= 60
    assert advice.options[0].replicas > 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rate": 0}, "rate must be above 0 and finite, not 0"),
        ({"rate": float("nan")}, "rate must be above 0 and finite, not nan"),
        ({"latency_s": -3}, "latency must be above 0 and finite, not -3"),
        ({"budget_usd_per_hour": float("inf")}, "budget must be above 0 and finite, not inf"),
        ({"prompt": 0}, "prompt must be >= 1, not 0"),
    ],
)
def test_bad_demands_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Demand(**{"prompt": 128, "generate": 64, "rate": 1.0, **options})


def test_impossible_demands_say_what_would_be_possible():
    with pytest.raises(ValueError, match=r"latency must be at least .* s for this demand .*, not 0.001"):
        advise("llama-3.1-8b", Demand(prompt=512, generate=256, rate=1, latency_s=0.001), on=("l4", "h100-sxm"))
    demand = Demand(prompt=512, generate=256, rate=100, budget_usd_per_hour=0.001)
    with pytest.raises(ValueError, match=r"budget must be at least .* USD per hour for this demand, not 0\.001"):
        advise("llama-3.1-70b", demand, on=("h100-sxm",))
    with pytest.raises(ValueError, match=r"model 'llama-3\.1-70b' fits on none of these machines"):
        advise("llama-3.1-70b", Demand(prompt=512, generate=256, rate=1), on=("raspberry-pi-5",))
    with pytest.raises(ValueError, match="prompt \\+ generate must be <= 2048 positions"):
        advise("tinyllama-1.1b", Demand(prompt=4096, generate=256, rate=1))
