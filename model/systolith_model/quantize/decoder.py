"""A decoder whose linear layers run in the integer contract; scales chosen by the error they leave."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from systolith_model.checkpoint import Checkpoint
from systolith_model.quantize.error import cosine, sqnr_db
from systolith_model.quantize.linear import QuantizedLinear, quantize_linear, quantize_weight
from systolith_model.quantize.scale import Scale, candidates, sample
from systolith_model.reference.decoder import Decoder

SHARED = {
    "q_proj": "self_attn",
    "k_proj": "self_attn",
    "v_proj": "self_attn",
    "gate_proj": "mlp",
    "up_proj": "mlp",
}
"""Layers that read one tensor, which therefore has one scale."""


class IntegerLinear(nn.Module):
    """Stands where an ``nn.Linear`` stood: quantizes its input, runs the contract, gives back real values.

    Parameters
    ----------
    quantized : QuantizedLinear
        The layer.
    """

    def __init__(self, quantized: QuantizedLinear) -> None:
        super().__init__()
        self.quantized = quantized

    def forward(self, x: Tensor) -> Tensor:
        q = self.quantized(self.quantized.input.quantize(x))  # (..., M, N) int8
        return self.quantized.output.dequantize(q)


@dataclass(frozen=True, kw_only=True)
class LayerError:
    """How one quantized layer differs from the real one, fed with the same real activations."""

    name: str
    input_method: str
    """What chose the scale of the input."""
    output_method: str
    """What chose the scale of the output."""
    sqnr_db: float
    cosine: float


@dataclass(frozen=True)
class QuantizedDecoder:
    """A float decoder and its linear layers as the core runs them."""

    model: Decoder
    """The float model, unchanged."""
    linears: dict[str, QuantizedLinear]
    """By their path in the model, in the order they run."""
    errors: tuple[LayerError, ...]
    """Of each layer, on the calibration tokens."""

    def integer_model(self) -> Decoder:
        """The decoder with int8 linear layers; norms, rotary positions, softmax and residuals stay float."""
        model = deepcopy(self.model)
        for name, quantized in self.linears.items():
            path, _, leaf = name.rpartition(".")
            parent = model.get_submodule(path)
            setattr(parent, leaf, IntegerLinear(quantized))
            if quantized.table is not None:  # the table is the activation
                parent.activation = nn.Identity()
        return model


@contextmanager
def recorded(model: nn.Module, names: list[str]) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """Within the block, calls of the named modules leave their (input, output) in the mapping."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def keep(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda _module, given, made: seen.update({name: (given[0].detach(), made.detach())})

    handles = [model.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def linear_names(model: nn.Module) -> list[str]:
    """Paths of the linear layers, in the order they stand in the model."""
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]


def quantize(model: Decoder, tokens: Tensor, *, fuse_activation: bool = True) -> QuantizedDecoder:
    """Post-training quantization of every linear layer, lm_head included.

    Weights: symmetric int8 per channel. Activations: int8 per tensor with a zero point; the method among
    min-max, percentiles and least square error that leaves the least error behind the layers that read it.

    Parameters
    ----------
    model : Decoder
        In float.
    tokens : Tensor
        (B, T) int64, calibration; at least one token.
    fuse_activation : bool
        Make the SiLU behind gate_proj the table of its read-out.

    Raises
    ------
    ValueError
        If there are no tokens, or a layer's values leave the contract's ranges.
    """
    if tokens.dim() != 2 or not tokens.numel():
        raise ValueError(f"calibration tokens must have shape (B, T), not {tuple(tokens.shape)}")
    names = linear_names(model)
    with recorded(model, names) as seen, torch.no_grad():
        model(tokens)
    inputs = _input_scales(model, seen)
    linears, errors = {}, []
    for name, (x, y) in seen.items():
        function = functional.silu if fuse_activation and name.endswith("gate_proj") else None
        before_method, before = _output_scale(y, function) if function else ("", None)
        real = function(y) if function else y
        method, output = _output_scale(real)
        input_method, scale = inputs[_site(name)]
        layer = _linear(model, name)
        linears[name] = quantize_linear(
            name, layer.weight, layer.bias, input=scale, output=output, function=function, before=before
        )
        made = output.dequantize(linears[name](scale.quantize(x)))
        errors.append(
            LayerError(
                name=name,
                input_method=input_method,
                output_method=f"{before_method}, {method}" if function else method,
                sqnr_db=sqnr_db(real, made),
                cosine=cosine(real, made),
            )
        )
    return QuantizedDecoder(model, linears, tuple(errors))


def _linear(model: Decoder, name: str) -> nn.Linear:
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Linear)
    return layer


def _site(name: str) -> str:
    """The tensor a layer reads."""
    path, _, leaf = name.rpartition(".")
    return f"{path} input" if leaf in SHARED else f"{name} input"


def _input_scales(model: Decoder, seen: dict[str, tuple[Tensor, Tensor]]) -> dict[str, tuple[str, Scale]]:
    """For each tensor that layers read, the method and scale with the least error in what they make of it."""
    readers: dict[str, list[str]] = {}
    for name in seen:
        readers.setdefault(_site(name), []).append(name)
    chosen = {}
    for site, names in readers.items():
        x = seen[names[0]][0]
        reals = torch.cat([seen[name][1] / seen[name][1].norm() for name in names], dim=-1)  # (..., sum of N)
        weights = []
        for name in names:
            q, steps = quantize_weight(_linear(model, name).weight)
            weights.append((q * steps).to(torch.float32) / seen[name][1].norm())  # (K, N)
        joint = torch.cat(weights, dim=1)  # every reader counts alike, however large its values
        errors = {
            method: (float((scale.rounded(x) @ joint - reals).square().sum()), scale)
            for method, scale in candidates(x).items()
        }
        method = min(errors, key=lambda key: errors[key][0])
        chosen[site] = (method, errors[method][1])
    return chosen


def _output_scale(y: Tensor, function: Callable[[Tensor], Tensor] | None = None) -> tuple[str, Scale]:
    """The method and scale of values (behind which a function may stand) with the least error."""
    drawn = sample(y)
    real = drawn if function is None else function(drawn)
    errors = {}
    for method, scale in candidates(y).items():
        made = scale.rounded(drawn) if function is None else function(scale.rounded(drawn))
        errors[method] = (float((made - real).square().sum()), scale)
    method = min(errors, key=lambda key: errors[key][0])
    return method, errors[method][1]


def quantize_checkpoint(
    checkpoint: Checkpoint, text: str, *, fuse_activation: bool = True
) -> QuantizedDecoder:
    """`quantize` with a calibration text, cut into windows of the model's positions.

    Raises
    ------
    ValueError
        If the text is empty.
    """
    tokens = checkpoint.encode(text)
    window = min(len(tokens), checkpoint.config.max_positions)
    if not window:
        raise ValueError("calibration text must have at least one token, not none")
    whole = len(tokens) // window
    return quantize(
        checkpoint.model, tokens[: whole * window].reshape(whole, window), fuse_activation=fuse_activation
    )
