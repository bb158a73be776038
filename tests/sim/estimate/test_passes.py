"""Sums over a growing context: exact where a step is affine, and close to every step summed where it is not."""

import numpy as np
import pytest

from systolith_model.formats import Formats
from systolith_sim.devices.library import find_device
from systolith_sim.devices.play import play
from systolith_sim.estimate.engine import find_engine
from systolith_sim.estimate.models import find_model
from systolith_sim.estimate.passes import FINEST, Kernels, sum_over
from systolith_sim.estimate.replica import Replica
from systolith_sim.parallel.layout import Layout


@pytest.mark.parametrize(("first", "last"), [(1, 1), (5, 6), (1, 100), (17, 100_000), (7, 6)])
def test_affine_steps_are_summed_exactly_from_few(first, last):
    asked = []

    def step(context):
        asked.append(context)
        return np.array([3.0 + 0.25 * context, 7.0])

    found = sum_over(step, first, last)
    every = range(first, last + 1)
    assert found == pytest.approx([sum(3.0 + 0.25 * context for context in every), 7.0 * len(every)])
    assert len(set(asked)) <= 3


def test_a_kink_is_found():
    def step(context):
        return np.array([1.0 + max(0, context - 3000) * 0.01])

    found = sum_over(step, 1, 8192)[0]
    every = sum(float(step(context)[0]) for context in range(1, 8193))
    assert found == pytest.approx(every, rel=1e-3)


@pytest.mark.parametrize("device", ["h100-sxm", "a100-40", "tpu-v5e", "epyc-9654"])
def test_a_generation_equals_the_full_play(device):
    """Every token's graph played event by event, kernel after kernel, against the few steps that are evaluated."""
    replica = Replica(find_device(device), find_model("llama-3-8b"), Layout(), find_engine("none"), Formats())
    steps = 3 * FINEST
    shortcut = replica.steps_tally(batch=4, prompt=500, steps=steps).seconds
    played = sum(
        play(replica.device, replica.graph(batch=4, prompt=500, done=done)).total_s for done in range(1, steps + 1, 8)
    )
    assert shortcut == pytest.approx(8 * played, rel=3e-3)


def test_a_pass_equals_its_play():
    replica = Replica(find_device("h100-sxm"), find_model("mixtral-8x7b"), Layout(), find_engine("none"), Formats())
    graph = replica.graph(batch=2, prompt=100)
    assert replica.work(batch=2, prompt=100).seconds == pytest.approx(play(replica.device, graph).total_s)


def test_equal_kernels_are_costed_once():
    replica = Replica(find_device("h100-sxm"), find_model("llama-3-70b"), Layout(), find_engine("none"), Formats())
    replica.work(batch=1, prompt=64)
    first = len(replica.kernels._known)
    replica.work(batch=1, prompt=64)
    assert len(replica.kernels._known) == first < 20
    assert isinstance(replica.kernels, Kernels)
