"""ZeRO's messages against the volumes of arXiv 1910.02054, and the play of a pass against closed forms."""

import pytest

from systolith_sim.parallel.zero import (
    Unit,
    gathered_ahead_s,
    play_units,
    reduced_behind_s,
    step_messages,
)

SENT = {"all_reduce": 2, "reduce_scatter": 1, "all_gather": 1}
"""Shares of a tensor that each of many devices sends: Rajbhandari et al., section 7.1."""


def sent(stage, micros):
    """Parameters that each device sends a step, in shares of all."""
    messages = step_messages(stage, micros=micros, weight_bytes=1.0, gradient_bytes=1.0)
    return sum(message.count * SENT[message.kind] * message.bytes for message in messages)


@pytest.mark.parametrize(("stage", "parameters"), [(0, 2), (1, 2), (2, 2), (3, 3)])
def test_volumes_are_the_published_ones(stage, parameters):
    """Section 7.2: 2 Psi with gradients and optimizer states split, 3 Psi with the weights too."""
    assert sent(stage, micros=1) == parameters


@pytest.mark.parametrize(("stage", "parameters"), [(0, 2), (1, 2), (2, 8 + 1), (3, 3 * 8)])
def test_what_is_not_kept_is_sent_for_every_micro_batch(stage, parameters):
    assert sent(stage, micros=8) == parameters


def test_weights_and_gradients_have_their_own_sizes():
    """bf16 weights, fp32 gradients: 2 + 2 + 4 bytes a parameter in stage 3."""
    messages = step_messages(3, micros=1, weight_bytes=2.0, gradient_bytes=4.0)
    assert [message.bytes for message in messages] == [2.0, 2.0, 4.0]
    assert {message.axis for message in messages} == {"dp"}


@pytest.mark.parametrize("layers", [1, 2, 5, 40])
@pytest.mark.parametrize(("work", "message"), [(3.0, 1.0), (1.0, 3.0), (2.0, 2.0)])
def test_one_message_a_layer_is_the_closed_form(layers, work, message):
    ahead = play_units([Unit(work, gather_s=message)] * layers)
    assert ahead == pytest.approx(gathered_ahead_s(layers, work_s=work, gather_s=message))
    behind = play_units([Unit(work, reduce_s=message)] * layers)
    assert behind == pytest.approx(reduced_behind_s(layers, work_s=work, reduce_s=message))


@pytest.mark.parametrize("layers", [2, 3, 17])
def test_backward_with_two_messages_a_layer_by_hand(layers):
    """Both hide behind long work but for the first gather and the last reduction; short work hides behind both."""
    gather, reduce = 1.0, 1.5
    long = play_units([Unit(4.0, gather, reduce)] * layers)
    assert long == pytest.approx(gather + layers * 4.0 + reduce)
    short = play_units([Unit(0.5, gather, reduce)] * layers)
    assert short == pytest.approx(layers * (gather + reduce))


def test_a_gather_waits_for_the_reduction_before_it():
    """By hand: gathers 0-1 and 1-2, work 1-3, the reduction 3-6, work 3-5 of the second, whose own ends at 9."""
    assert play_units([Unit(2.0, 1.0, 3.0), Unit(2.0, 1.0, 3.0)]) == pytest.approx(9.0)
    # With a third layer: its gather is asked for at 3, after the first reduction, and ends at 7.
    assert play_units([Unit(2.0, 1.0, 3.0), Unit(2.0, 1.0, 3.0), Unit(2.0, 1.0, 0.0)]) == pytest.approx(10.0)


def test_nothing_to_send_is_the_work_alone():
    assert play_units([]) == 0.0
    assert play_units([Unit(2.0), Unit(3.0)]) == 5.0
