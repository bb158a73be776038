"""Timelines end when the sums say, and show messages and bubbles."""

import pytest

from systolith_model.formats import Formats
from systolith_sim.devices.library import find_device
from systolith_sim.devices.timeline import busy_s, end_s
from systolith_sim.estimate.engine import find_engine
from systolith_sim.estimate.models import find_model
from systolith_sim.estimate.replica import Replica
from systolith_sim.estimate.timeline import pass_timeline
from systolith_sim.parallel.layout import Layout


@pytest.mark.parametrize("tp", [1, 4])
def test_a_timeline_ends_with_its_pass(tp):
    replica = Replica(
        find_device("h100-sxm"), find_model("llama-2-7b"), Layout(tp=tp), find_engine("none"), Formats()
    )
    spans = pass_timeline(replica, batch=2, prompt=64)
    # The embedding's sum and the gathered logits are not drawn: two of 66 messages.
    assert end_s(spans) == pytest.approx(replica.prefill_tally(batch=2, prompt=64).seconds, rel=0.02)
    links = [span for span in spans if span.track == "link"]
    assert len(links) == (64 if tp > 1 else 0)
    assert ("link" in busy_s(spans)) == (tp > 1)
    assert sum(span.name == "layer.attention" and span.track == "launch" for span in spans) == 32
