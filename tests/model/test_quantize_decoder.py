"""The quantized small model: error against float, and the linear operations that a simulator is given."""

import pytest
import torch
from torch.nn import functional

from systolith_model import checkpoint, zoo
from systolith_model.config import TransformerConfig
from systolith_model.integer.linear import linear
from systolith_model.quality import quality
from systolith_model.quantize.decoder import linear_names, quantize, quantize_checkpoint, recorded
from systolith_model.quantize.layers import layer_runs
from systolith_model.quantize.linear import quantize_weight
from systolith_model.quantize.scale import scale_of_range
from systolith_model.reference.decoder import Decoder


@pytest.fixture(scope="module")
def trained():
    return checkpoint.load(zoo.checkpoint_folder())


@pytest.fixture(scope="module")
def quantized(trained):
    return quantize_checkpoint(trained, zoo.calibration_text())


@pytest.fixture(scope="module")
def prompt(trained):
    return trained.encode(zoo.held_out_text())[:24]


def test_every_linear_layer_is_quantized(trained, quantized):
    assert list(quantized.linears) == linear_names(trained.model)
    assert len(quantized.linears) == 7 * trained.config.n_layers + 1


def test_layers_keep_their_signal(quantized):
    for error in quantized.errors:
        assert error.sqnr_db > 18, error
        assert error.cosine > 0.99, error


def test_perplexity_of_int8_is_within_three_percent(trained, quantized):
    tokens = trained.encode(zoo.held_out_text())[:2049]
    exact, rounded = (
        quality(model, tokens, context=256) for model in (trained.model, quantized.integer_model())
    )
    assert exact.perplexity < 25
    assert rounded.perplexity < 1.03 * exact.perplexity


def test_chosen_scale_leaves_no_more_error_than_the_whole_range(trained):
    """Where one layer alone reads a tensor: the error behind it, with its int8 weights, summed in squares."""
    tokens = trained.encode(zoo.calibration_text())[:512].reshape(2, 256)
    quantized = quantize(trained.model, tokens)
    with recorded(trained.model, list(quantized.linears)) as seen, torch.no_grad():
        trained.model(tokens)
    better = 0
    for name, layer in quantized.linears.items():
        if not name.endswith(("o_proj", "down_proj", "lm_head")):
            continue
        x, y = seen[name]
        weight, steps = quantize_weight(trained.model.get_submodule(name).weight)
        real_weight = (weight * steps).to(torch.float32)
        whole = scale_of_range(float(x.min()), float(x.max()))
        left, right = (
            float((scale.rounded(x) @ real_weight - y).square().sum()) for scale in (layer.input, whole)
        )
        assert left <= 1.0001 * right, name
        better += left < 0.95 * right
    assert better >= 3


def test_layers_that_read_one_tensor_share_its_scale(quantized):
    for layer in range(4):
        path = f"model.layers.{layer}."
        attention = {quantized.linears[f"{path}self_attn.{name}_proj"].input for name in "qkv"}
        gated = {quantized.linears[f"{path}mlp.{name}_proj"].input for name in ("gate", "up")}
        assert len(attention) == len(gated) == 1


def test_runs_are_the_contract(quantized, prompt):
    runs = layer_runs(quantized, prompt)
    assert [run.name for run in runs] == list(quantized.linears)
    for run in runs:
        layer = run.linear
        acc = run.activations.to(torch.int64) @ layer.weight.to(torch.int64)
        assert torch.equal(run.accumulators.to(torch.int64), acc), run.name
        again = linear(
            run.activations, layer.weight,
            bias=layer.bias, mantissa=layer.mantissa, shift=layer.shift, zero_point=layer.zero_point,
            table=layer.table, signed=layer.signed,
        )  # fmt: skip
        assert torch.equal(run.expected, again), run.name
        assert run.activations.dtype == run.expected.dtype == torch.int8
        assert (run.layer is None) == (run.name == "lm_head")


def test_bytes_mean_what_the_float_layer_computes(trained, quantized, prompt):
    """Each run's bytes, turned back into real numbers, against the float layer on the same real input."""
    for run in layer_runs(quantized, prompt):
        x = run.linear.input.dequantize(run.activations)
        real = x @ trained.model.get_submodule(run.name).weight.T
        if run.linear.table is not None:
            real = functional.silu(real)
        error = run.linear.output.dequantize(run.expected) - real
        assert float(error.norm() / real.norm()) < 0.12, run.name


def test_reference_is_the_float_model(trained, quantized, prompt):
    runs = layer_runs(quantized, prompt)
    assert all(run.sqnr_db > 12 and run.cosine > 0.97 for run in runs)
    logits = runs[-1]
    torch.testing.assert_close(logits.reference, trained.model(prompt[None])[0])
    assert logits.sqnr_db > 15
    assert logits.cosine > 0.98


def test_first_layer_reads_what_float_computes(trained, quantized, prompt):
    first = layer_runs(quantized, prompt, layers=range(1))[0]
    norm = trained.model.get_submodule("model.layers.0.input_layernorm")
    x = norm(trained.model.model.embed_tokens(prompt))
    assert torch.equal(first.activations, first.linear.input.quantize(x))


@pytest.mark.parametrize(
    ("layers", "count", "head"), [(range(0, 4), 29, True), (range(1, 3), 14, False), (range(3, 4), 8, True)]
)
def test_a_range_of_layers(quantized, prompt, layers, count, head):
    runs = layer_runs(quantized, prompt, layers=layers)
    assert len(runs) == count
    assert (runs[-1].name == "lm_head") == head
    assert {run.layer for run in runs} - {None} == set(layers)


def test_gate_without_its_table(trained, prompt):
    tokens = trained.encode(zoo.calibration_text())[None, :64]
    plain = quantize(trained.model, tokens, fuse_activation=False)
    assert all(layer.table is None for layer in plain.linears.values())
    logits = plain.integer_model()(prompt[None])
    assert float((logits - trained.model(prompt[None])).norm() / trained.model(prompt[None]).norm()) < 0.2


def test_one_token_and_a_model_of_zeros():
    config = TransformerConfig(
        vocab_size=9, hidden_size=6, n_layers=1, n_heads=3, n_kv_heads=1, head_dim=2, intermediate_size=5,
        max_positions=8,
    )  # fmt: skip
    model = Decoder(config).requires_grad_(False)
    model.get_parameter("model.layers.0.mlp.down_proj.weight").zero_()
    runs = layer_runs(quantize(model, torch.tensor([[3]])), torch.tensor([4]))
    assert [tuple(run.expected.shape) for run in runs] == [
        (1, 6),
        (1, 2),
        (1, 2),
        (1, 6),
        (1, 5),
        (1, 5),
        (1, 6),
        (1, 9),
    ]


@pytest.mark.parametrize(
    ("tokens", "layers", "message"),
    [
        ([], None, r"tokens must number 1\.\.256, not \(0,\)"),
        ([1] * 257, None, r"tokens must number 1\.\.256, not \(257,\)"),
        ([1000], None, r"tokens must be in 0\.\.999, not \[1000\]"),
        ([1], range(2, 2), "layers must be A:B with 0 <= A < B <= 4, not 2:2"),
        ([1], range(0, 5), "not 0:5"),
        ([1], range(-1, 2), "not -1:2"),
    ],
)
def test_refused_in_one_sentence(quantized, tokens, layers, message):
    with pytest.raises(ValueError, match=message):
        layer_runs(quantized, torch.tensor(tokens, dtype=torch.int64), layers=layers)


def test_calibration_needs_tokens(trained):
    with pytest.raises(ValueError, match="calibration text must have at least one token"):
        quantize_checkpoint(trained, "")
    with pytest.raises(ValueError, match=r"calibration tokens must have shape \(B, T\), not \(3,\)"):
        quantize(trained.model, torch.zeros(3, dtype=torch.int64))
