"""Memory against sums by hand and against published training figures."""

import pytest
from published import gpt

from systolith_model.formats import Formats
from systolith_model.zoo import architecture
from systolith_sim.parallel.layout import Layout
from systolith_sim.parallel.memory import (
    Change,
    Memory,
    advice,
    held_cache_bytes,
    held_weights_bytes,
    wider_layouts,
)
from systolith_sim.parallel.shard import shard
from systolith_sim.parallel.training_memory import held_training_memory

GIB = 2**30


def test_weights_of_one_device_and_of_stages():
    """Llama-2-7B has 6,738,415,616 parameters, 2 x 32,000 x 4096 of them outside the layers."""
    model, formats = architecture("llama-2-7b"), Formats()
    assert held_weights_bytes(model, Layout(), formats) == 2 * 6_738_415_616
    ends = 32000 * 4096
    stage = held_weights_bytes(model, Layout(pp=4), formats)
    assert stage == pytest.approx(2 * ((6_738_415_616 - 2 * ends) / 4 + ends), rel=1e-5)


@pytest.mark.parametrize(("kv", "size"), [("bf16", 2), ("fp8", 1)])
def test_cache_by_hand(kv, size):
    """Llama-3-8B: 2 x 32 layers x 8 heads x 128 x tokens, grouped heads."""
    model = architecture("llama-3-8b")
    held = held_cache_bytes(
        model, Layout(), batch=3, prompt=100, generate=28, formats=Formats.parse(f"bf16/bf16/{kv}")
    )
    assert held == 2 * 32 * 8 * 128 * 3 * 128 * size
    halves = shard(model, Layout(tp=2))
    assert held_cache_bytes(
        halves, Layout(tp=2, pp=2), batch=3, prompt=100, generate=28, formats=Formats.parse(f"bf16/bf16/{kv}")
    ) == pytest.approx(held / 4)


PUBLISHED = {
    # name: hidden, layers, heads, pp, batch, micro-batch, chunks, GiB of states, of activations without and with
    # sequence parallelism and selective recomputation. Korthikanti et al. 2022 (arXiv 2205.05198), figure 1 and
    # table 3; the digits of the figure are those of calculon-ai/calculon, calculon/llm/validation.py.
    "22B": (6144, 48, 64, 1, 4, 4, 1, 45.5625, 59.25, 9.5625),
    "175B": (12288, 96, 96, 8, 64, 1, 3, 45.5625, 66.84375, 12.3515625),
    "530B": (20480, 105, 128, 35, 280, 1, 3, 31.640625, 114.0234375, 23.076171875),
    "1T": (25600, 128, 160, 64, 512, 1, 1, 32.958984375, 131.25, 26.5625),
}


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("selective", [False, True])
def test_training_memory_is_the_published_one(name, selective):
    hidden, layers, heads, pp, batch, micro, chunks, states, plain, kept = PUBLISHED[name]
    model = gpt(hidden, layers, heads)
    layout = Layout(
        tp=8, pp=pp, interleave=chunks, schedule="interleaved" if chunks > 1 else "1f1b", sequence=selective,
        recompute="selective" if selective else "none",
    )  # fmt: skip
    memory = held_training_memory(
        model, shard(model, layout), layout, tokens=2048, micro_batch=micro, micros=batch // micro,
        formats=Formats(), gradient_format="fp32", flash=False, dropout=True, usable=80 * GIB,
    )  # fmt: skip
    published = states + (kept if selective else plain)
    assert memory.total / GIB == pytest.approx(published, rel=0.1)
    assert memory.activations / GIB == pytest.approx(kept if selective else plain, rel=0.1)


def test_zero_splits_states_over_replicas():
    model, layout = gpt(6144, 48, 64), Layout(tp=8, dp=4, micro_batch=4)
    sizes, kept = [], []
    for zero in range(4):
        split = Layout(tp=8, dp=4, micro_batch=4, zero=zero)
        memory = held_training_memory(
            model, shard(model, layout), split, tokens=2048, micro_batch=4, micros=1, formats=Formats(),
            gradient_format="fp32", flash=True, dropout=False, usable=80 * GIB,
        )  # fmt: skip
        sizes.append(memory.weights)
        kept.append(memory.activations)
    # 2 bytes of weight, 4 of gradient, 12 of states a parameter
    assert [size / sizes[0] for size in sizes] == pytest.approx([1, (6 + 3) / 18, (2 + 4) / 18, 4.5 / 18])
    # and what stage 3 has gathered: three quarters of two layers of 12 h^2 parameters, 2 bytes each, over 8 devices
    assert kept[0] == kept[1] == kept[2]
    assert kept[3] - kept[0] == pytest.approx(0.75 * 2 * 12 * 6144**2 * 2 / 8, rel=1e-3)


def test_advice_names_the_first_change_that_fits():
    memory = Memory(weights=9e10, kv=1e10, activations=0.0, usable=8e10)
    small = Memory(weights=4e10, kv=1e10, activations=0.0, usable=8e10)
    changes = [Change("a prayer", lambda: None), Change("tp 2", lambda: small), Change("tp 4", lambda: small)]
    assert not memory.fits
    short = "needs 100.0 GB a device, of which 80.0 GB can be used"
    assert advice(memory, changes) == f"{short}: tp 2 would fit, with 50.0 GB."
    assert advice(memory, []).endswith("would fit.")
    assert [layout.tp for layout in wider_layouts(Layout(tp=2), 16)] == [4, 8, 16]
