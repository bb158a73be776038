"""Shards: what a tensor parallel group computes together is what the whole model computes."""

import pytest

from systolith_model.graph import flops
from systolith_model.parameters import parameter_count
from systolith_model.workload import forward_graph
from systolith_model.zoo import architecture
from systolith_sim.parallel.layout import Layout
from systolith_sim.parallel.memory import own_experts
from systolith_sim.parallel.shard import busiest_experts, expert_layers, pass_messages, shard, with_expert_share


def work(graph, kinds=("matmul", "attention")):
    return sum(operation.count * flops(graph, operation) for operation in graph if operation.kind in kinds)


@pytest.mark.parametrize("name", ["llama-2-7b", "llama-3-70b", "gpt2", "mixtral-8x7b"])
@pytest.mark.parametrize("tp", [2, 4])
def test_a_group_does_the_work_of_the_model(name, tp):
    whole = architecture(name)
    part = shard(whole, Layout(tp=tp))
    ours = tp * work(forward_graph(part, tokens=32, batch=2))
    theirs = work(forward_graph(whole, tokens=32, batch=2))
    # Routers, and key-value heads fewer than the group, are computed by each; widths are rounded up.
    assert ours == pytest.approx(theirs, rel=0.01)
    assert ours >= theirs


def test_few_key_value_heads_are_held_by_several_devices():
    part = shard(architecture("llama-3-8b"), Layout(tp=16))
    assert (part.n_heads, part.n_kv_heads) == (2, 1)


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="tp must divide the 32 heads, not be 3"):
        shard(architecture("llama-2-7b"), Layout(tp=3))


@pytest.mark.parametrize(("tp", "dp", "ep"), [(4, 1, 4), (4, 1, 2), (2, 4, 8), (1, 8, 8)])
def test_experts_of_a_group_are_all_experts(tp, dp, ep):
    """What all devices of a group compute for their experts is what all tokens of the group ask for."""
    model, layout = architecture("mixtral-8x7b"), Layout(tp=tp, dp=dp, ep=ep)
    part, rows = shard(model, layout), 64
    graph = with_expert_share(forward_graph(part, tokens=rows, fused=True), model, layout, rows)
    ours = sum(
        operation.count * flops(graph, operation) for operation in graph if operation.attributes.get("grouped")
    )
    replicas = max(1, ep // tp)
    plain = forward_graph(model, tokens=rows, fused=True)
    theirs = sum(
        operation.count * flops(plain, operation) for operation in plain if operation.attributes.get("grouped")
    )
    for operation in graph:
        if operation.attributes.get("grouped"):
            assert operation.attributes["experts"] == 8 // ep
            assert operation.attributes["tokens"] == replicas * rows
    devices = max(tp, ep)
    assert devices * ours == pytest.approx(replicas * theirs, rel=0.01)


@pytest.mark.parametrize(("ep", "busiest"), [(2, 4 / 7 + 2 * 3 / 7), (4, 6 / 7 + 2 / 7), (8, 1.0)])
def test_two_of_eight_experts_may_meet_on_one_device(ep, busiest):
    """One token goes to two experts of Mixtral; the second is on the first's device with (held - 1) / 7."""
    experts = architecture("mixtral-8x7b").experts
    assert experts is not None
    assert busiest_experts(experts, Layout(tp=8, ep=ep), 1) == pytest.approx(busiest)
    assert busiest_experts(experts, Layout(tp=8, ep=ep), 10_000) == 8 / ep


def test_held_experts_are_an_equal_share():
    model = architecture("mixtral-8x7b")
    layout = Layout(tp=8, ep=8)
    held = parameter_count(own_experts(shard(model, layout), layout))
    assert 8 * held == pytest.approx(parameter_count(model), rel=0.03)


def test_messages_of_a_pass():
    """Llama-2-7B, 2 devices: 2 sums a layer of rows x 4096 x 2 bytes, one of the embedding, logits of 32,000."""
    messages = pass_messages(
        architecture("llama-2-7b"), Layout(tp=2, pp=2), rows=10, sequences=3, element_bytes=2
    )
    found = {message.name: (message.kind, message.count, message.bytes) for message in messages}
    assert found == {
        "layer sums": ("all_reduce", 64, 10 * 4096 * 2),
        "embedding sum": ("all_reduce", 1, 10 * 4096 * 2),
        "logits": ("all_gather", 1, 3 * 32000 * 2),
        "stage to stage": ("send", 1, 10 * 4096 * 2),
    }
    assert pass_messages(architecture("llama-2-7b"), Layout(), rows=1, sequences=1, element_bytes=2) == ()


def test_rows_go_to_experts_of_other_groups_alone():
    model = architecture("mixtral-8x7b")
    far = pass_messages(model, Layout(dp=8, ep=8), rows=10, sequences=1, element_bytes=2)
    assert [(m.name, m.count, m.bytes) for m in far] == [("to and from experts", 64, 10 * 4096 * 2 * 2)]
    near = pass_messages(model, Layout(tp=8, ep=8), rows=10, sequences=1, element_bytes=2)
    assert "to and from experts" not in [message.name for message in near]


def test_layers_with_experts():
    assert expert_layers(architecture("deepseek-v3")) == 61 - 3
    assert expert_layers(architecture("llama-2-7b")) == 0
