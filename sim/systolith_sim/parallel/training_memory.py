"""Memory of a training step on one device of a layout: the fullest stage of the pipeline.

Activations follow Korthikanti et al. 2022 (arXiv 2205.05198): tensor parallelism splits what lies between the
products of a block, sequence parallelism the rest too, and a stage holds one set for each micro-batch in flight.
"""

from math import ceil

from systolith_model.architecture import Architecture, layer_groups
from systolith_model.formats import BITS, Format, Formats
from systolith_model.parameters import outer_parameters, parameter_count
from systolith_model.workload.memory import LayerActivations, layer_activations
from systolith_sim.parallel.layout import Layout
from systolith_sim.parallel.memory import Memory, own_experts
from systolith_sim.parallel.pipeline import in_flight

STATE_BYTES = 4
"""Of each of the optimizer's two states and of the master weights, fp32."""


def held_training_memory(
    model: Architecture,
    shard: Architecture,
    layout: Layout,
    *,
    tokens: int,
    micro_batch: int,
    micros: int,
    formats: Formats,
    gradient_format: Format,
    flash: bool,
    dropout: bool,
    usable: float,
) -> Memory:
    """Memory of the fullest device; ``micros`` micro-batches of ``micro_batch`` sequences a replica and step."""
    fullest = None
    for stage in {0, layout.pp - 1}:
        flying = in_flight(
            layout.schedule, stages=layout.pp, stage=stage, micros=micros, interleave=layout.interleave
        )
        one = Memory(
            weights=_states(own_experts(shard, layout), layout, stage, formats, gradient_format),
            kv=0.0,
            activations=_activations(model, layout, stage, flying, tokens, micro_batch, formats, flash, dropout)
            + _gathered(own_experts(shard, layout), layout, formats),
            usable=usable,
        )
        fullest = one if fullest is None or one.total > fullest.total else fullest
    assert fullest is not None  # there is one stage at least
    return fullest


def _states(own: Architecture, layout: Layout, stage: int, formats: Formats, gradient_format: Format) -> float:
    """Weights, gradients, master weights and Adam's two states of one stage; ZeRO splits them over replicas."""
    outer = outer_parameters(own)
    layers = own.n_layers + own.n_encoder_layers
    inner = (parameter_count(own) - outer.total) * ceil(layers / layout.pp) / layers
    head = outer.embeddings if own.tied_embeddings and layout.pp > 1 else outer.head
    ends = (outer.embeddings if stage == 0 else 0) + (head + outer.vectors if stage == layout.pp - 1 else 0)
    count = inner + ends
    sizes = (
        (3, BITS[formats.weight.format] / 8),
        (2, BITS[gradient_format] / 8),
        (1, 3 * STATE_BYTES),
    )
    return count * sum(size / (layout.dp if layout.zero >= least else 1) for least, size in sizes)


def _gathered(own: Architecture, layout: Layout, formats: Formats) -> float:
    """Weights that ZeRO stage 3 has gathered from other replicas: of the layer at work and of the next."""
    if layout.zero < 3 or layout.dp == 1:
        return 0.0
    layers = own.n_layers + own.n_encoder_layers
    layer = (parameter_count(own) - outer_parameters(own).total) / layers
    return min(2, layers) * layer * BITS[formats.weight.format] / 8 * (1 - 1 / layout.dp)


def _activations(
    model: Architecture,
    layout: Layout,
    stage: int,
    flying: float,
    tokens: int,
    micro_batch: int,
    formats: Formats,
    flash: bool,
    dropout: bool,
) -> float:
    """What the passes in flight keep, one layer whole under recomputation, and the ends of the model."""
    layers = model.n_layers + model.n_encoder_layers
    kept = largest = 0.0
    for group in layer_groups(model):
        source = tokens if model.kind == "encoder_decoder" else 0
        layer = layer_activations(
            model, group, tokens=tokens, batch=micro_batch, source=source, format=formats.residual, flash=flash,
            dropout=dropout,
        )  # fmt: skip
        kept += group.count * _share(layer, layout)
        if layout.recompute == "full":
            largest = max(largest, _split(layer.whole, layer.split + layer.scores, layout))
        elif layout.recompute == "selective":
            largest = max(largest, layer.scores / layout.tp)
    size, rows = BITS[formats.residual] / 8, tokens * micro_batch
    ends = 0.0
    if stage == layout.pp - 1 and model.head:
        logits = 4 * rows * ceil(model.vocab_size / layout.tp)
        ends = 2 * rows * model.hidden_size * size / (layout.tp if layout.sequence else 1) + logits
    return kept * ceil(layers / layout.pp) / layers * flying + largest + ends


def _share(layer: LayerActivations, layout: Layout) -> float:
    """What one device keeps of one layer and micro-batch."""
    if layout.recompute == "full":
        return layer.input / (layout.tp if layout.sequence else 1)
    scores = layer.scores if layout.recompute == "none" else 0
    return _split(layer.whole, layer.split + scores, layout)


def _split(whole: float, split: float, layout: Layout) -> float:
    return whole / (layout.tp if layout.sequence else 1) + split / layout.tp
