"""Memory of a training step against published closed forms."""

import pytest

from systolith_model import zoo
from systolith_model.architecture import layer_groups
from systolith_model.parameters import parameter_count
from systolith_model.workload import training_memory
from systolith_model.workload.memory import layer_activations


@pytest.mark.parametrize(("name", "batch"), [("gpt2", 3), ("gpt3-175b", 1), ("mt-nlg-530b", 2)])
def test_activations_of_a_layer_are_those_of_korthikanti(name, batch):
    # Korthikanti et al. 2022 (arXiv 2205.05198), equations 1 and 2, and table 2
    architecture = zoo.architecture(name)
    (group,) = layer_groups(architecture)
    s, h, a = 1024, architecture.hidden_size, architecture.n_heads
    layer = layer_activations(architecture, group, tokens=s, batch=batch, flash=False, dropout=True)
    assert layer.whole == 10 * s * batch * h
    assert layer.split == 24 * s * batch * h
    assert layer.scores == 5 * a * s * s * batch
    assert layer.kept("none") == s * batch * (34 * h + 5 * a * s)
    assert layer.kept("selective") == 34 * s * batch * h
    assert layer.kept("full") == 2 * s * batch * h


@pytest.mark.parametrize(
    ("gradient_format", "bytes_per_parameter"),
    # ZeRO (Rajbhandari et al. 2020, arXiv 1910.02054), section 3.1: 16 bytes; Megatron-LM's fp32 gradients: 18
    [("bf16", 16), ("fp32", 18)],
)
def test_states_take_the_published_bytes(gradient_format, bytes_per_parameter):
    architecture = zoo.architecture("gpt2-xl")
    memory = training_memory(architecture, tokens=1024, gradient_format=gradient_format)
    states = memory.weights + memory.gradients + memory.optimizer
    assert states == bytes_per_parameter * parameter_count(architecture)
    assert memory.total == states + memory.activations


def test_recomputation_saves_in_order():
    for name in ("gpt2", "llama-2-7b", "mixtral-8x7b", "deepseek-v2-lite", "t5-small", "gemma-2-2b"):
        architecture = zoo.architecture(name)
        source = 512 if architecture.kind == "encoder_decoder" else 0
        kept = [
            training_memory(architecture, tokens=512, recompute=recompute, flash=False, source=source).activations
            for recompute in ("none", "selective", "full")
        ]
        assert kept == sorted(kept, reverse=True), name
        flash = training_memory(architecture, tokens=512, source=source).activations
        assert kept[1] < flash + 1e9
        assert flash < kept[0]


def test_choices_are_refused_in_one_sentence():
    with pytest.raises(ValueError, match="recompute must be one of none, selective, full, not 'all'"):
        training_memory(zoo.architecture("gpt2"), tokens=8, recompute="all")  # pyright: ignore[reportArgumentType]
