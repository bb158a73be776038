"""Architecture: the shape of a transformer, encoder or decoder or both; sizes only, no weights, no torch."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, model_validator

Share = Annotated[float, Field(ge=0, le=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True,
                              allow_inf_nan=False)


class LatentAttention(_Frozen):
    """Multi-head latent attention (MLA): keys and values from one narrow latent, which is what is cached."""

    kv_rank: PositiveInt
    """Width of the latent of keys and values."""
    q_rank: PositiveInt | None = None
    """Width of the latent of queries; None where queries come from the residual stream."""
    nope_dim: PositiveInt
    """Width of a head's query and key that carries no position."""
    rope_dim: PositiveInt
    """Width of a head's query that carries the position; its key is shared by all heads."""
    v_dim: PositiveInt
    """Width of a head's value."""

    @property
    def cached(self) -> int:
        """Elements cached per token and layer."""
        return self.kv_rank + self.rope_dim


class Experts(_Frozen):
    """Mixture of experts in place of an MLP."""

    n_experts: Annotated[int, Field(ge=2)]
    """Routed experts of a layer."""
    top_k: PositiveInt
    """Experts that a token goes to; at most n_experts."""
    intermediate_size: PositiveInt
    """Width of one routed expert."""
    shared_size: NonNegativeInt = 0
    """Width of the experts that every token goes to, summed; 0 for none."""
    shared_gate: bool = False
    """Whether a learned gate scales the shared experts."""
    first_dense: NonNegativeInt = 0
    """First layers that keep a dense MLP."""
    every: PositiveInt = 1
    """Of the others, layers number every, 2 every, ... (counted from 1) have experts."""
    bias: bool = False
    """Whether the experts' matrices have biases."""
    router_bias: bool = False
    """Whether the router has a bias, or a correction, per expert."""
    imbalance: Annotated[float, Field(ge=1)] = 1.0
    """Tokens of the busiest expert over the mean; 1 for a balanced load. A fact of the traffic."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.top_k > self.n_experts:
            raise ValueError(f"top_k must be <= n_experts = {self.n_experts}, not {self.top_k}")
        if self.imbalance > self.n_experts / self.top_k:  # then every token goes to the busiest
            raise ValueError(
                f"imbalance must be <= n_experts / top_k = {self.n_experts / self.top_k:g}, not {self.imbalance:g}"
            )
        return self


class Patches(_Frozen):
    """Square patches of an image in place of tokens (ViT), behind one class token."""

    image_size: PositiveInt
    """Edge of the image, pixels."""
    patch_size: PositiveInt
    """Edge of a patch, pixels; divides image_size."""
    channels: PositiveInt = 3
    """Colours."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.image_size % self.patch_size:
            raise ValueError(f"patch_size must divide image_size = {self.image_size}, not {self.patch_size}")
        return self

    @property
    def count(self) -> int:
        """Patches of an image."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def elements(self) -> int:
        """Numbers of one patch."""
        return self.channels * self.patch_size**2


class Architecture(_Frozen):
    """Shape of a transformer; the defaults are those of the Llama family."""

    kind: Literal["decoder", "encoder", "encoder_decoder"] = "decoder"
    """Encoders see all tokens; decoders those before; an encoder-decoder's decoder also the encoder's output."""
    vocab_size: PositiveInt
    """Tokens; classes where the input is patches."""
    hidden_size: PositiveInt
    """Width D of the residual stream."""
    n_layers: PositiveInt
    """Layers of the one stack, or of the decoder."""
    n_encoder_layers: NonNegativeInt = 0
    """Layers of the encoder beside a decoder."""
    n_heads: PositiveInt
    """Query heads H."""
    n_kv_heads: PositiveInt
    """Key and value heads; divides n_heads."""
    head_dim: PositiveInt
    """Width of one head."""
    intermediate_size: PositiveInt
    """Width F of a dense MLP."""
    max_positions: PositiveInt = 2048
    """Longest sequence."""
    latent: LatentAttention | None = None
    """Sizes of latent attention in place of n_kv_heads and head_dim."""
    experts: Experts | None = None
    """Mixture of experts in place of some MLPs."""
    patches: Patches | None = None
    """Image patches in place of tokens."""
    window: PositiveInt | None = None
    """Keys that a query sees in a windowed layer, itself included."""
    windowed: tuple[bool, ...] = (True,)
    """Which layers have the window; repeated over the layers."""
    norm: Literal["rmsnorm", "layernorm", "layernorm_nobias"] = "rmsnorm"
    """Normalization; a layernorm has a weight and a bias."""
    norm_placement: Literal["pre", "post", "sandwich"] = "pre"
    """Before a block, after its residual sum, or before and after the block."""
    parallel: bool = False
    """Whether attention and MLP read the same stream and are summed at once."""
    shared_norm: bool = False
    """Whether parallel attention and MLP share one norm."""
    embedding_norm: bool = False
    """Whether the embeddings are normalized."""
    final_norm: bool = True
    """Whether the last layer's output is normalized."""
    qk_norm: bool = False
    """Whether each head's query and key are normalized."""
    activation: Literal["silu", "gelu", "gelu_tanh", "relu"] = "silu"
    """Nonlinearity of the MLP."""
    gated: bool = True
    """Whether the MLP multiplies by a gate: three matrices instead of two."""
    position: Literal["rope", "learned", "alibi", "relative", "none"] = "rope"
    """How positions enter."""
    rotary_share: Share = 1.0
    """Share of a head that rotary positions turn."""
    learned_positions: NonNegativeInt = 0
    """Rows of each stack's table of learned positions."""
    relative_buckets: NonNegativeInt = 0
    """Rows of each stack's table of relative positions."""
    token_types: NonNegativeInt = 0
    """Rows of the table of token types."""
    embedding_size: PositiveInt | None = None
    """Width of the token table where it is projected to hidden_size and back."""
    tied_embeddings: bool = False
    """Whether lm_head and the embedding are one matrix."""
    head: bool = True
    """Whether logits are computed."""
    pooler: bool = False
    """Whether a dense layer reads the first token's output."""
    bias_qkv: bool = False
    """Biases of queries, keys and values."""
    bias_out: bool = False
    """Bias of the attention's output."""
    bias_mlp: bool = False
    """Biases of dense MLPs."""
    bias_head: bool = False
    """Bias of the logits."""
    sinks: bool = False
    """Whether each head has a learned sink in its softmax."""

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_kv_heads must divide n_heads = {self.n_heads}, not {self.n_kv_heads}")
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        both = self.kind == "encoder_decoder"
        if both != (self.n_encoder_layers > 0):
            allowed = ">= 1" if both else "0"
            raise ValueError(
                f"n_encoder_layers must be {allowed} where kind is {self.kind!r}, not {self.n_encoder_layers}"
            )
        if both and (self.latent or self.parallel or self.window):
            raise ValueError("latent, parallel and window must be unset where kind is 'encoder_decoder'")
        if not self.windowed:
            raise ValueError("windowed must name at least one layer, not ()")
        if self.shared_norm and not self.parallel:
            raise ValueError("shared_norm must be false where parallel is false, not True")
        return self


@dataclass(frozen=True)
class LayerGroup:
    """Layers of one stack that are the same; ``count`` of them."""

    stack: Literal["decoder", "encoder"]
    name: str
    count: int
    experts: bool = False
    window: int = 0
    """Keys that a query sees at most; 0 for all."""
    cross: bool = False


def layer_groups(architecture: Architecture) -> Iterator[LayerGroup]:
    """Groups of equal layers, the encoder's first; in a stack by the first layer of each."""
    both = architecture.kind == "encoder_decoder"
    if both:
        yield from _groups(architecture, "encoder", architecture.n_encoder_layers, "encoder_layer", cross=False)
    stack = "encoder" if architecture.kind == "encoder" else "decoder"
    name = "decoder_layer" if both else "layer"
    yield from _groups(architecture, stack, architecture.n_layers, name, cross=both)


def _groups(
    architecture: Architecture, stack: Literal["decoder", "encoder"], layers: int, name: str, *, cross: bool
) -> Iterator[LayerGroup]:
    counts: dict[tuple[bool, int], int] = {}
    for layer in range(layers):
        kind = has_experts(architecture, layer), window_of(architecture, layer)
        counts[kind] = counts.get(kind, 0) + 1
    several_mlps = len({experts for experts, _ in counts}) > 1
    several_windows = len({window for _, window in counts}) > 1
    for (experts, window), count in counts.items():
        words = [name]
        if several_mlps:
            words.append("experts" if experts else "dense")
        if several_windows:
            words.append("local" if window else "global")
        yield LayerGroup(stack, "_".join(words), count, experts, window, cross)


def has_experts(architecture: Architecture, layer: int) -> bool:
    """Whether a layer, counted from 0, has experts."""
    experts = architecture.experts
    return experts is not None and layer >= experts.first_dense and (layer + 1) % experts.every == 0


def window_of(architecture: Architecture, layer: int) -> int:
    """Keys that a query of a layer, counted from 0, sees at most; 0 for all."""
    windowed = architecture.windowed[layer % len(architecture.windowed)]
    return architecture.window or 0 if windowed else 0
