"""Hosts, building, electricity and carbon: closed forms, what is not known stays unknown, refusals."""

import pytest

from systolith_sim.devices.library import find_device
from systolith_sim.estimate.advise import Demand, advise
from systolith_sim.estimate.ask import Ask, answer

KWH_J = 3.6e6


def result(device, **options):
    """The result for Llama-3.1-8B, eight sequences."""
    (one,) = answer(Ask(model="llama-3.1-8b", on=(device,), batch=8, **options))
    return one.result


@pytest.mark.parametrize("devices", [1, 2])
def test_hosts_draw_their_share_all_the_time(devices):
    """An HGX node of eight H100 draws 2,800 W beside them (1,141 .. 4,600 W) while they work."""
    found = result("h100-sxm", devices=devices)
    assert found.energy_j is not None
    assert found.energy_with_host_j is not None
    assert found.host_power_w == pytest.approx(2800 * devices / 8)
    assert found.energy_with_host_j == pytest.approx(found.energy_j + 350 * devices * found.total_s)
    assert found.energy_with_host_j_per_token == pytest.approx(found.energy_with_host_j / (8 * 128))
    for end, watts in ((0, 1141), (1, 4600)):
        alone = found.interval["energy_j"][end] + watts * devices / 8 * found.interval["total_s"][end]
        assert found.interval["energy_with_host_j"][end] == pytest.approx(alone)
    assert "arXiv 2412.08602" in found.provenance["host"]
    assert found.pue == 1


def test_devices_alone_stay_what_they_were():
    plain, sited = result("h100-sxm"), result("h100-sxm", pue=1.5, grid=400, electricity=0.2)
    for field in ("energy_j", "energy_j_per_token", "power_w", "host_power_w", "price_usd_per_million_tokens"):
        assert getattr(plain, field) == getattr(sited, field)
    assert plain.energy_with_host_j is not None
    assert sited.energy_with_host_j == pytest.approx(1.5 * plain.energy_with_host_j)
    assert sited.pue == 1.5
    assert plain.carbon_g_per_million_tokens is None
    assert "electricity included" in sited.provenance["price"]


def test_an_unknown_host_stays_unknown():
    found = result("jetson-orin", grid=100, pue=1.2)
    assert (found.host_power_w, found.energy_with_host_j) == (None, None)
    assert "states no host" in found.provenance["host"]
    assert found.energy_j_per_token is not None
    assert found.carbon_g_per_million_tokens == pytest.approx(1.2 * found.energy_j_per_token * 1e6 / KWH_J * 100)
    assert "not known" in found.provenance["carbon"]


def test_a_whole_machine_has_no_host_beside_it():
    found = result("raspberry-pi-5")
    assert found.host_power_w == 0
    assert found.energy_with_host_j == found.energy_j


def test_a_bought_board_pays_for_its_electricity():
    """Board over three years, and joules a token at 0.30 USD/kWh; both ends too."""
    found = result("raspberry-pi-5", electricity=0.3)
    board = find_device("raspberry-pi-5").price_usd
    assert board is not None
    assert found.energy_j_per_token is not None
    hourly = board.value / (3 * 365 * 24)
    paid = hourly / 3600 / found.tokens_per_s * 1e6 + found.energy_j_per_token * 1e6 / KWH_J * 0.3
    assert found.price_usd_per_million_tokens == pytest.approx(paid)
    low, high = found.interval["price_usd_per_million_tokens"]
    assert low < paid < high
    least = board.interval[0] / (3 * 365 * 24) / 3600 / found.interval["tokens_per_s"][1] * 1e6
    assert low == pytest.approx(least + found.interval["energy_j_per_token"][0] * 1e6 / KWH_J * 0.3)
    assert "with electricity at 0.3 USD/kWh" in found.provenance["price"]
    plain = result("raspberry-pi-5")
    assert plain.price_usd_per_million_tokens == pytest.approx(hourly / 3600 / found.tokens_per_s * 1e6)
    assert "no power" in plain.provenance["price"]


def test_carbon_holds_hosts_and_building():
    found = result("h100-sxm", grid=400, pue=1.1)
    assert found.energy_with_host_j_per_token is not None
    assert found.carbon_g_per_million_tokens == pytest.approx(found.energy_with_host_j_per_token * 1e6 / KWH_J * 400)
    ends = found.interval["energy_with_host_j_per_token"]
    assert found.interval["carbon_g_per_million_tokens"] == pytest.approx([end * 1e6 / KWH_J * 400 for end in ends])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"pue": 0.9}, "pue must be >= 1 and finite, not 0.9"),
        ({"pue": float("inf")}, "pue must be >= 1 and finite, not inf"),
        ({"electricity": -0.1}, "electricity must be >= 0 USD/kWh and finite, not -0.1"),
        ({"grid": float("nan")}, "grid must be >= 0 g/kWh and finite, not nan"),
    ],
)
def test_a_site_is_checked(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        Ask(model="llama-3.1-8b", on=("h100-sxm",), **options)


def test_a_fleet_draws_idle_power_between_requests():
    """2,000 W of host beside eight A100 at work, 1,460 W while they wait; 55 W a waiting device."""
    (option,) = advise("llama-3.1-8b", Demand(prompt=512, generate=128, rate=2), on=("a100-40",)).options
    assert option.power_w is not None
    assert option.power_with_host_w is not None
    hosts = (option.load * 2000 + (1 - option.load) * 1460) * option.devices / 8
    assert option.power_with_host_w == pytest.approx(option.power_w + hosts)
    assert option.power_w > (1 - option.load) * option.devices * 55
    assert option.power_w < option.devices * (option.load * 400 + (1 - option.load) * 55)
    (other,) = advise("llama-3.1-8b", Demand(prompt=512, generate=128, rate=2), on=("l4",)).options
    assert other.power_with_host_w is None
