"""The zoo: every published count, the ways to name a model, and what is refused."""

import pytest

from systolith_model import zoo
from systolith_model.parameters import active_parameter_count, kv_elements_per_token, parameter_count

ENTRIES = [zoo.entry(name) for name in zoo.names() if name not in zoo.CHECKPOINTS]
EXACT = [entry for entry in ENTRIES if entry.parameters]
ROUNDED = [entry for entry in ENTRIES if entry.rounded_parameters]
ACTIVE = [entry for entry in ENTRIES if entry.rounded_active_parameters]


@pytest.mark.parametrize("entry", EXACT, ids=lambda entry: entry.name)
def test_parameters_equal_the_published_count(entry):
    assert parameter_count(entry.architecture) == entry.parameters


def test_as_many_exact_counts_as_were_collected():
    assert len(EXACT) == 87


@pytest.mark.parametrize("entry", ROUNDED, ids=lambda entry: entry.name)
def test_parameters_are_near_the_rounded_count(entry):
    # "600B" of GShard is the least precise: it counts the experts alone
    assert parameter_count(entry.architecture) == pytest.approx(entry.rounded_parameters, rel=0.04)


@pytest.mark.parametrize("entry", ACTIVE, ids=lambda entry: entry.name)
def test_active_parameters_are_near_the_published_ones(entry):
    # Publishers leave out embeddings or round: gpt-oss-20b's 3.6 B are 4.19 B with its 0.58 B embeddings.
    architecture = entry.architecture
    count = active_parameter_count(architecture)
    without = count - architecture.vocab_size * architecture.hidden_size
    published = entry.rounded_active_parameters
    assert min(abs(count / published - 1), abs(without / published - 1)) < 0.07


@pytest.mark.parametrize(
    ("name", "elements"),
    # two widths of keys and values a layer; one latent of 512 + 64 a layer of DeepSeek-V3
    [
        ("llama-2-7b", 32 * 2 * 4096),
        ("llama-3.1-70b", 80 * 2 * 1024),
        ("deepseek-v3", 61 * 576),
        ("bert-base-uncased", 0),
    ],
)
def test_elements_a_token_leaves_in_the_cache(name, elements):
    assert kv_elements_per_token(zoo.architecture(name)) == elements


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("LLAMA-2-7b", "llama-2-7b"),
        ("meta-llama/Llama-2-7b-hf", "llama-2-7b"),
        ("Llama-3.1-8B-Instruct", "llama-3.1-8b"),
        ("mixtral-8x7b-v0.1", "mixtral-8x7b"),
        ("bigscience/bloom", "bloom-176b"),
        ("Qwen3-30B-A3B", "qwen3-30b-a3b"),
    ],
)
def test_aliases(alias, name):
    assert zoo.entry(alias).name == name


def test_a_folder_and_a_file_are_models_too():
    folder = zoo.checkpoint_folder()
    from_name = zoo.architecture("kjv-737k")
    assert zoo.architecture(str(folder)) == zoo.architecture(str(folder / "config.json")) == from_name


def test_every_source_is_told():
    assert all(len(entry.source) > 20 and entry.confidence in ("read", "recalled") for entry in ENTRIES)


def test_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"model must be one of kjv-737k, .*llama-2-7b.*, not 'gpt-9'"):
        zoo.architecture("gpt-9")
    with pytest.raises(ValueError, match="not 'bert-large'; did you mean bert-large-uncased"):
        zoo.architecture("bert-large")
    with pytest.raises(ValueError, match="model must be one of kjv-737k, not 'llama-2-7b'"):
        zoo.checkpoint_folder("llama-2-7b")
