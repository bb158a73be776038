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
    """Gradients of replicas are summed behind the backward pass instead of after it."""
    overlaps_sends: bool
    """Stages go on while what they send is under way, instead of waiting for it."""


RECIPES = {
    recipe.id: recipe
    for recipe in (
        Recipe("flash", "fused attention, no dropout, fp32 gradients", True, False, "fp32", True, True),
        Recipe(
            "megatron-2022",
            "Megatron-LM of 2022: separate attention kernels, dropout, fp32 gradients (arXiv 2205.05198)",
            False,
            True,
            "fp32",
            False,
            False,
        ),
    )
}
"""By name."""


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
