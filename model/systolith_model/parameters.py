"""Parameters of an architecture, the bytes they take, and the elements that a token leaves in the cache."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Literal

from systolith_model.architecture import Architecture, LayerGroup, layer_groups
from systolith_model.formats import BITS, Format, Formats, storage_bytes


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Parameters by what they are; a tied matrix counts once, as an embedding."""

    embeddings: int = 0
    """Tables that rows are gathered from, patches' projection, projections beside a narrow table."""
    attention: int = 0
    """Matrices of attention."""
    mlp: int = 0
    """Matrices of dense MLPs and of shared experts."""
    experts: int = 0
    """Matrices of routed experts."""
    routers: int = 0
    """Matrices of routers."""
    head: int = 0
    """Matrices of logits and of the pooler."""
    vectors: int = 0
    """Norm weights, biases and sinks."""

    @property
    def total(self) -> int:
        """All parameters."""
        return sum(getattr(self, field.name) for field in fields(self))

    def __add__(self, other: "Parameters") -> "Parameters":
        return Parameters(
            **{field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(self)}
        )

    def times(self, count: int) -> "Parameters":
        """The same, ``count`` times."""
        return Parameters(**{field.name: count * getattr(self, field.name) for field in fields(self)})


def parameter_count(architecture: Architecture) -> int:
    """Parameters of the whole model, a tied matrix counted once."""
    return parameters(architecture).total


def active_parameter_count(architecture: Architecture) -> int:
    """Parameters that one token uses: of the routed experts the ``top_k`` it goes to, of all else everything."""
    return parameters(architecture, experts=architecture.experts.top_k if architecture.experts else 0).total


def parameters(architecture: Architecture, *, experts: int | None = None) -> Parameters:
    """Parameters by what they are; with ``experts`` of the routed ones of a layer instead of all."""
    total = outer_parameters(architecture)
    for group in layer_groups(architecture):
        total += layer_parameters(architecture, group, experts=experts).times(group.count)
    return total


def norm_size(architecture: Architecture) -> int:
    """Parameters of one norm over the residual stream."""
    return architecture.hidden_size * (2 if architecture.norm == "layernorm" else 1)


@dataclass(frozen=True)
class Matrix:
    """``stack`` weights of shape (k, n) of one layer."""

    role: Literal["attention", "mlp", "experts", "routers"]
    k: int
    n: int
    stack: int = 1

    @property
    def elements(self) -> int:
        """Elements of all."""
        return self.stack * self.k * self.n


def layer_parameters(architecture: Architecture, group: LayerGroup, *, experts: int | None = None) -> Parameters:
    """Parameters of one layer of a group; with ``experts`` of the routed ones instead of all."""
    sums = dict.fromkeys(("attention", "mlp", "experts", "routers"), 0)
    for matrix in layer_matrices(architecture, group, experts=experts):
        sums[matrix.role] += matrix.elements
    return Parameters(**sums, vectors=_layer_vectors(architecture, group, experts))


def layer_matrices(architecture: Architecture, group: LayerGroup, *, experts: int | None = None) -> Iterator[Matrix]:
    """Matrices of one layer of a group; with ``experts`` of the routed ones instead of all."""
    for _ in range(2 if group.cross else 1):
        yield from _attention_matrices(architecture)
    moe = architecture.experts if group.experts else None
    if moe is None:
        yield from _mlp_matrices(architecture, "mlp", architecture.intermediate_size)
        return
    yield Matrix("routers", architecture.hidden_size, moe.n_experts)
    count = moe.n_experts if experts is None else experts
    yield from _mlp_matrices(architecture, "experts", moe.intermediate_size, count)
    if moe.shared_size:
        yield from _mlp_matrices(architecture, "mlp", moe.shared_size)
    if moe.shared_gate:
        yield Matrix("routers", architecture.hidden_size, 1)


def _attention_matrices(a: Architecture) -> Iterator[Matrix]:
    latent = a.latent
    if latent is None:
        yield Matrix("attention", a.hidden_size, a.n_heads * a.head_dim)
        yield Matrix("attention", a.hidden_size, a.n_kv_heads * a.head_dim, 2)
        yield Matrix("attention", a.n_heads * a.head_dim, a.hidden_size)
        return
    if latent.q_rank:
        yield Matrix("attention", a.hidden_size, latent.q_rank)
    yield Matrix("attention", latent.q_rank or a.hidden_size, a.n_heads * (latent.nope_dim + latent.rope_dim))
    yield Matrix("attention", a.hidden_size, latent.cached)
    yield Matrix("attention", latent.kv_rank, a.n_heads * (latent.nope_dim + latent.v_dim))
    yield Matrix("attention", a.n_heads * latent.v_dim, a.hidden_size)


def _mlp_matrices(a: Architecture, role: Literal["mlp", "experts"], width: int, stack: int = 1) -> Iterator[Matrix]:
    yield Matrix(role, a.hidden_size, width, (2 if a.gated else 1) * stack)
    yield Matrix(role, width, a.hidden_size, stack)


def _layer_vectors(a: Architecture, group: LayerGroup, experts: int | None) -> int:
    blocks = 3 if group.cross else 2
    norms = blocks * (2 if a.norm_placement == "sandwich" else 1) - a.shared_norm
    attention = a.n_heads if a.sinks else 0
    attention += a.hidden_size if a.bias_out else 0
    attention += a.head_dim * (a.n_heads + 2 * a.n_kv_heads) if a.bias_qkv else 0
    attention += 2 * a.head_dim if a.qk_norm else 0
    if a.latent:
        attention += a.latent.kv_rank + (a.latent.q_rank or 0)  # norms of the latents
    ups, mlp = (2 if a.gated else 1), 0
    moe = a.experts if group.experts else None
    if moe is None:
        mlp = ups * a.intermediate_size + a.hidden_size if a.bias_mlp else 0
    else:
        mlp = moe.n_experts if moe.router_bias else 0
        if moe.bias:
            count = moe.n_experts if experts is None else experts
            mlp += count * (ups * moe.intermediate_size + a.hidden_size)
    return norms * norm_size(a) + (blocks - 1) * attention + mlp


def outer_parameters(a: Architecture) -> Parameters:
    """Parameters outside the layers."""
    stacks = 2 if a.kind == "encoder_decoder" else 1
    width = a.embedding_size or a.hidden_size
    vectors = stacks * norm_size(a) * (a.embedding_norm + a.final_norm)
    tables = (stacks * a.learned_positions + a.token_types) * a.hidden_size
    tables += stacks * a.relative_buckets * a.n_heads
    if a.patches:
        tables += a.patches.elements * a.hidden_size
        vectors += 2 * a.hidden_size  # bias of the projection, class token
    else:
        tables += a.vocab_size * width
    if a.embedding_size:
        tables += 2 * a.embedding_size * a.hidden_size
    head = 0
    if a.head:
        head = 0 if a.tied_embeddings else a.vocab_size * width
        vectors += a.vocab_size if a.bias_head else 0
    if a.pooler:
        head += a.hidden_size**2
        vectors += a.hidden_size
    return Parameters(embeddings=tables, head=head, vectors=vectors)


def weight_bytes(architecture: Architecture, formats: Formats) -> int:
    """Bytes of all weights: matrices of attention, MLPs and experts in the weights' storage, all else plain.

    Embeddings, logits, routers and vectors stay in the stream's format, as checkpoints of quantized models
    keep them.
    """
    stored = matrices = 0
    for group in layer_groups(architecture):
        for matrix in layer_matrices(architecture, group):
            if matrix.role != "routers":
                stored += group.count * storage_bytes((matrix.stack, matrix.k, matrix.n), formats.weight)
                matrices += group.count * matrix.elements
    return stored + (parameter_count(architecture) - matrices) * BITS[formats.residual] // 8


def kv_elements_per_token(architecture: Architecture) -> int:
    """Elements that one token leaves in the caches of all layers, windows not counted; 0 for an encoder."""
    if architecture.kind == "encoder":
        return 0
    return architecture.n_layers * _cached(architecture)


def _cached(architecture: Architecture) -> int:
    if architecture.latent is not None:
        return architecture.latent.cached
    return 2 * architecture.n_kv_heads * architecture.head_dim


def kv_bytes(
    architecture: Architecture, *, tokens: int, batch: int = 1, source: int = 0, format: Format = "bf16"
) -> int:
    """Bytes of the caches of ``batch`` sequences of ``tokens``; a window bounds what its layers keep.

    Parameters
    ----------
    source : int
        Tokens of the encoder, whose keys and values each decoder layer of an encoder-decoder keeps.
    """
    elements = 0
    for group in layer_groups(architecture):
        if group.stack == "decoder":
            kept = min(tokens, group.window or tokens) + (source if group.cross else 0)
            elements += group.count * kept * _cached(architecture)
    return (batch * elements * BITS[format] + 7) // 8
