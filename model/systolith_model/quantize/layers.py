"""The linear operations of a prompt, for a simulator: bytes in, parameters, bytes out, and the truth."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from systolith_model.config import TransformerConfig
from systolith_model.quantize.decoder import QuantizedDecoder, recorded
from systolith_model.quantize.error import cosine, sqnr_db
from systolith_model.quantize.linear import QuantizedLinear


@dataclass(frozen=True, kw_only=True)
class LayerRun:
    """One linear operation of a prompt of M tokens."""

    linear: QuantizedLinear
    """Its parameters: weight (K, N), bias, mantissa, shift, zero point, table, scales."""
    layer: int | None
    """Decoder layer it stands in; None for lm_head."""
    activations: Tensor
    """(M, K) int8, what the layer reads in the decoder with int8 linear layers."""
    accumulators: Tensor
    """(M, N) int32, rule N3."""
    expected: Tensor
    """(M, N) int8, rules N1 to N7."""
    reference: Tensor
    """(M, N) float32: the same place in the float model, so the error of all earlier layers counts too."""

    @property
    def name(self) -> str:
        """Path in the model."""
        return self.linear.name

    @property
    def sqnr_db(self) -> float:
        """Of the expected bytes against the float model, in dB."""
        return sqnr_db(self.reference, self.linear.output.dequantize(self.expected))

    @property
    def cosine(self) -> float:
        """Of the expected bytes against the float model."""
        return cosine(self.reference, self.linear.output.dequantize(self.expected))


def chosen_layers(config: TransformerConfig, layers: range | None) -> range:
    """The layers asked for, all of them where none are.

    Raises
    ------
    ValueError
        If they are outside the model.
    """
    wanted = range(config.n_layers) if layers is None else layers
    if wanted.step != 1 or not 0 <= wanted.start < wanted.stop <= config.n_layers:
        given = f"{wanted.start}:{wanted.stop}"
        raise ValueError(f"layers must be A:B with 0 <= A < B <= {config.n_layers}, not {given}")
    return wanted


def layer_runs(quantized: QuantizedDecoder, tokens: Tensor, *, layers: range | None = None) -> list[LayerRun]:
    """Each linear operation of the prefill of a prompt, in the order they run.

    Parameters
    ----------
    quantized : QuantizedDecoder
        From `decoder.quantize`.
    tokens : Tensor
        (M,) int64, at least one, at most the model's positions.
    layers : range, optional
        Decoder layers to give, step 1; all of them unless told otherwise. A range that reaches the last layer
        brings lm_head along.

    Raises
    ------
    ValueError
        If tokens or layers are outside the model.
    """
    config = quantized.model.config
    wanted = chosen_layers(config, layers)
    if tokens.dim() != 1 or not 1 <= len(tokens) <= config.max_positions:
        raise ValueError(f"tokens must number 1..{config.max_positions}, not {tuple(tokens.shape)}")
    if int(tokens.min()) < 0 or int(tokens.max()) >= config.vocab_size:
        raise ValueError(f"tokens must be in 0..{config.vocab_size - 1}, not {tokens.tolist()}")
    names = list(quantized.linears)
    integer_model = quantized.integer_model()
    with torch.no_grad():
        with recorded(quantized.model, names) as real:
            quantized.model(tokens[None])
        with recorded(integer_model, names) as seen:
            integer_model(tokens[None])
    runs = []
    for name, linear in quantized.linears.items():
        layer = int(name.split(".")[2]) if name.startswith("model.layers.") else None
        if (config.n_layers - 1 if layer is None else layer) not in wanted:
            continue
        q = linear.input.quantize(seen[name][0][0])  # (M, K)
        reference = real[name][1][0]  # (M, N)
        if linear.table is not None:
            reference = functional.silu(reference)
        runs.append(
            LayerRun(
                linear=linear, layer=layer, activations=q, accumulators=linear.accumulators(q),
                expected=linear(q), reference=reference,
            )
        )  # fmt: skip
    return runs
