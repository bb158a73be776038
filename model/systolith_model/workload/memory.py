"""Memory of a training step: weights, gradients, states of the optimizer, and what the backward pass needs.

What is kept follows Korthikanti et al. 2022 (arXiv 2205.05198), section 4.1: the input of every product, norm
and nonlinearity, the softmax and what multiplies the values, and one byte an element for each dropout mask.
"""

from dataclasses import dataclass

from systolith_model.architecture import Architecture, LayerGroup, layer_groups
from systolith_model.formats import BITS, Format, Formats
from systolith_model.parameters import parameter_count
from systolith_model.workload.inference import check_sizes
from systolith_model.workload.training import OPTIMIZER_STATES, Optimizer, Recompute, check_choices

MASK_BYTES = 1


@dataclass(frozen=True, kw_only=True)
class LayerActivations:
    """Bytes a layer keeps for its backward pass.

    Tensor parallelism divides ``split`` and ``scores``; sequence parallelism divides ``whole`` too.
    """

    whole: int
    """Inputs of norms and of the first products, masks on the residual stream."""
    split: int
    """What lies between the products of a block."""
    scores: int
    """Softmax, its mask and its output: what selective recomputation drops."""
    input: int
    """The layer's input: what full recomputation keeps."""

    def kept(self, recompute: Recompute) -> int:
        """Bytes that stay until the backward pass."""
        if recompute == "full":
            return self.input
        return self.whole + self.split + (self.scores if recompute == "none" else 0)


@dataclass(frozen=True, kw_only=True)
class TrainingMemory:
    """Bytes of a training step on one machine."""

    weights: int
    gradients: int
    optimizer: int
    """States and master weights."""
    activations: int

    @property
    def total(self) -> int:
        """All bytes."""
        return self.weights + self.gradients + self.optimizer + self.activations


def layer_activations(
    architecture: Architecture,
    group: LayerGroup,
    *,
    tokens: int,
    batch: int = 1,
    source: int = 0,
    format: Format = "bf16",
    flash: bool = True,
    dropout: bool = False,
) -> LayerActivations:
    """What one layer of a group keeps.

    Parameters
    ----------
    flash : bool
        Whether attention keeps one number a query and head instead of the scores.
    dropout : bool
        Whether attention and both blocks end in dropout.
    """
    arch, size = architecture, BITS[format] // 8
    rows, width = batch * tokens, arch.hidden_size
    crosses = 1 if group.cross else 0
    norms = (2 + crosses) * (2 if arch.norm_placement == "sandwich" else 1) - arch.shared_norm
    inputs = (1 if arch.shared_norm else 2) + crosses
    whole = rows * width * ((norms + inputs) * size + (dropout * (2 + crosses) * MASK_BYTES))
    if group.cross:
        whole += batch * source * width * size  # the encoder's output, input of the cross keys and values
    q, kv, mixed = _attention_widths(arch)
    split = rows * size * ((1 + crosses) * (q + mixed) + kv) + crosses * batch * source * size * kv
    keys = [tokens, *([source] if group.cross else [])]
    if flash:
        scores = 0
        split += sum(4 * rows * arch.n_heads for _ in keys)  # logarithm of the sum, fp32
    else:
        per_score = 2 * size + MASK_BYTES if dropout else size
        scores = sum(per_score * rows * arch.n_heads * seen for seen in keys)
    inner, routed = _mlp_widths(arch, group)
    split += rows * inner * size
    return LayerActivations(whole=whole + rows * routed * size, split=split, scores=scores, input=rows * width * size)


def _attention_widths(arch: Architecture) -> tuple[int, int, int]:
    """Elements of queries, of keys and values, and of the mixed values, a token."""
    if (latent := arch.latent) is not None:
        size = latent.nope_dim + latent.rope_dim
        ranks = latent.cached + (latent.q_rank or 0)
        return arch.n_heads * size + ranks, arch.n_heads * (size + latent.v_dim), arch.n_heads * latent.v_dim
    return arch.n_heads * arch.head_dim, 2 * arch.n_kv_heads * arch.head_dim, arch.n_heads * arch.head_dim


def _mlp_widths(arch: Architecture, group: LayerGroup) -> tuple[int, int]:
    """Elements a token inside the MLP, and of rows copied to experts and back."""
    stages = 3 if arch.gated else 2  # gate, up and their product; or before and after the nonlinearity
    moe = arch.experts if group.experts else None
    if moe is None:
        return stages * arch.intermediate_size, 0
    inner = stages * (moe.top_k * moe.intermediate_size + moe.shared_size)
    return inner, 2 * moe.top_k * arch.hidden_size + moe.n_experts


def training_memory(
    architecture: Architecture,
    *,
    tokens: int,
    batch: int = 1,
    source: int = 0,
    formats: Formats | None = None,
    optimizer: Optimizer = "adam",
    recompute: Recompute = "none",
    flash: bool = True,
    dropout: bool = False,
    gradient_format: Format = "fp32",
    master_weights: bool = True,
) -> TrainingMemory:
    """Bytes of a training step on one machine, without the allocator's losses and temporary buffers.

    Parameters are those of `training_graph`; with full recomputation one layer at a time is whole.

    Raises
    ------
    ValueError
        If a size is outside what is allowed.
    """
    check_choices(optimizer, recompute)
    check_sizes(architecture, tokens=tokens, batch=batch, source=source)
    formats = formats or Formats()
    count = parameter_count(architecture)
    activations, largest = 0, 0
    for group in layer_groups(architecture):
        encoder = group.stack == "encoder" and architecture.kind == "encoder_decoder"
        layer = layer_activations(
            architecture, group, tokens=source if encoder else tokens, batch=batch, source=source,
            format=formats.residual, flash=flash, dropout=dropout,
        )  # fmt: skip
        activations += group.count * layer.kept(recompute)
        whole = layer.whole + layer.split + layer.scores
        if recompute == "full":
            largest = max(largest, whole)
        elif recompute == "selective":
            largest = max(largest, layer.scores)
    states = OPTIMIZER_STATES[optimizer] + master_weights
    return TrainingMemory(
        weights=count * BITS[formats.weight.format] // 8,
        gradients=count * BITS[gradient_format] // 8,
        optimizer=4 * count * states,
        activations=activations + largest + _ends(architecture, batch * tokens, formats.residual),
    )


def _ends(architecture: Architecture, rows: int, format: Format) -> int:
    """Bytes kept behind the layers: inputs of the last norm and of the logits, and these in fp32 for the loss."""
    stream = rows * architecture.hidden_size * BITS[format] // 8
    kept = stream if architecture.final_norm else 0
    return kept + (stream + 4 * rows * architecture.vocab_size if architecture.head else 0)
