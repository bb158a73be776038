"""Graphs of what frameworks run as kernels of their own: the same work, and bytes by hand."""

import pytest
from published import gpt

from systolith_model.graph import flops, matmul_shape, traffic
from systolith_model.workload import training_graph
from systolith_sim.estimate.unfused import adding_gradients, joined, unfused, unfused_loss

SHAPE = gpt(512, 2, 8)


def graph(**how):
    return training_graph(SHAPE, tokens=128, batch=2, **how)


def work(graph, kinds):
    return sum(operation.count * flops(graph, operation) for operation in graph if operation.kind in kinds)


def moved(graph, part):
    return sum(
        operation.count * traffic(graph, operation).total for operation in graph if part in operation.name.split(".")
    )


def test_unfused_attention_does_the_same_work():
    plain = graph(flash=False)
    kept = unfused(plain, dropout=False)
    causal = work(plain, ("attention",))
    # Without a fused kernel the masked half is computed too: 128 x 128 pairs instead of 128 x 129 / 2.
    assert work(kept, ("matmul",)) - work(plain, ("matmul",)) == pytest.approx(causal * 2 * 128 / 129)
    assert not [operation for operation in kept if operation.kind == "attention"]
    assert len(unfused(plain, dropout=True).operations) == len(kept.operations) + 2


def test_causal_softmax_reads_what_is_not_masked():
    """2 layers x 2 sequences x 8 heads of 128 x 128 scores in bf16: half read, all written; backward reads two."""
    scores = 2 * 2 * 8 * 128 * 128
    kept = unfused(graph(flash=False), dropout=False)
    assert moved(kept, "softmax") == scores * (1 + 2)
    assert moved(kept, "dsoftmax") == scores * (2 * 1 + 2)


def test_loss_goes_over_the_logits_in_fp32():
    """Cast 2 + 4, max 4, subtraction 8, exponential 8, sum 4, division 8; backward 8 and 4 + 2 bytes a logit."""
    logits = 2 * 128 * 51200
    kept = unfused_loss(graph())
    steps = [operation for operation in kept if operation.name.startswith(("loss.", "backward.loss."))]
    total = sum(traffic(kept, operation).total for operation in steps)
    assert total == pytest.approx(logits * (38 + 14), rel=1e-3)
    assert not [operation for operation in kept if operation.name in ("loss", "backward.loss")]


def test_a_kernel_adds_each_gradient():
    """Written in bf16, then 2 bytes and 4 read and 4 written a weight; the same operations in products."""
    plain = graph()
    kept = adding_gradients(plain, product="bf16")
    weights = 2 * 12 * 512**2 + 51200 * 512
    assert moved(kept, "add") == 10 * weights
    assert work(kept, ("matmul",)) == work(plain, ("matmul",))


def test_queries_keys_and_values_are_one_product():
    plain = graph()
    kept = joined(plain)
    assert work(kept, ("matmul",)) == work(plain, ("matmul",))
    found = {operation.name: matmul_shape(kept, operation) for operation in kept if "qkv_proj" in operation.name}
    sizes = {name: (shape.m, shape.k, shape.n) for name, shape in found.items()}
    assert sizes == {
        "layer.qkv_proj": (256, 512, 1536),
        "backward.layer.qkv_proj.dx": (256, 1536, 512),
        "backward.layer.qkv_proj.dw": (512, 256, 1536),
    }


def test_only_forward_dropout_draws_random_numbers():
    made = unfused(graph(flash=False, recompute="full"), dropout=True)
    drawing = [operation.name for operation in made if operation.attributes.get("draws")]
    assert drawing == ["layer.attention.dropout", "recompute.layer.attention.dropout"]
    assert not any(operation.attributes.get("draws") for operation in unfused(graph(flash=False), dropout=False))
