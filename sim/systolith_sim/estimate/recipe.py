"""Recipes: what a training framework does that a model's shape does not say."""

from dataclasses import dataclass

from systolith_model.formats import Format


@dataclass(frozen=True)
class Recipe:
    """A framework's way of training."""

    id: str
    """Name on the command line."""
    name: str
    """Full name and source."""
    flash: bool
    """Attention in one kernel that keeps no scores."""
    dropout: bool
    """Dropout behind the softmax and behind each block, with masks kept."""
    gradient_format: Format
    """Gradients accumulate in it."""
    overlaps_gradients: bool
    """Gradients of replicas are summed behind the backward pass, layer by layer, instead of after it."""
    overlaps_sends: bool
    """Stages go on while what they send is under way, instead of waiting for it."""
    fused_accumulation: bool
    """Products add a weight's gradient to those of earlier micro-batches, instead of a kernel behind them."""
    fused_loss: bool
    """The loss reads the logits once, instead of a kernel for each step of it in fp32."""
    pass_bytes: float
    """Bytes a parameter that passes over gradients and weights move each step beside the optimizer's own."""


RECIPES = {
    recipe.id: recipe
    for recipe in (
        Recipe(
            id="flash", name="fused attention, no dropout, fp32 gradients", flash=True, dropout=False,
            gradient_format="fp32", overlaps_gradients=True, overlaps_sends=True, fused_accumulation=True,
            # zeroing 4, norm 4, clipping 8
            fused_loss=True, pass_bytes=16,
        ),
        Recipe(
            id="megatron-2021",
            name="Megatron-LM of August 2021: separate attention kernels, dropout, fp16 gradients that a kernel of its "
            "own adds (arXiv 2104.04473, examples/sc21)",
            flash=False, dropout=True, gradient_format="fp16", overlaps_gradients=False, overlaps_sends=False,
            # zeroing 2, division 4, copy to fp32 6, unscaling 8, norm 4, clipping 8, master weights for the copy 4,
            # and the optimizer reads fp32 where its graph has fp16
            fused_accumulation=False, fused_loss=False, pass_bytes=38,
        ),
        Recipe(
            id="megatron-2022",
            name="Megatron-LM of May 2022: separate attention kernels, dropout, fp32 gradients (arXiv 2205.05198)",
            flash=False, dropout=True, gradient_format="fp32", overlaps_gradients=False, overlaps_sends=False,
            # zeroing 4, division by the replicas 8, norm 4, clipping 8, reading master weights for the copy 4
            fused_accumulation=True, fused_loss=False, pass_bytes=28,
        ),
    )
}  # fmt: skip
"""By name. Bytes of the passes are those of megatron/optimizer and megatron/model/distributed.py at that time."""


def find_recipe(name: str | None) -> Recipe:
    """A recipe by its name; the first unless given.

    Raises
    ------
    ValueError
        If there is none.
    """
    if name is None:
        return RECIPES["flash"]
    if name not in RECIPES:
        raise ValueError(f"engine must be one of {', '.join(RECIPES)} for training, not {name!r}")
    return RECIPES[name]
