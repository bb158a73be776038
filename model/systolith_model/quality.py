"""How good a language model is: loss in nats per token, perplexity, bits per byte of text."""

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, log

import torch
from torch import Tensor
from torch.nn import functional

BATCH_WINDOWS = 8
"""Windows that run at once; bounds memory, not the result."""


@dataclass(frozen=True)
class Quality:
    """Mean loss over the tokens of a text that were predicted."""

    loss_nats: float
    """Per token."""
    tokens: int
    """Predicted tokens."""

    @property
    def perplexity(self) -> float:
        """Per token."""
        return exp(self.loss_nats)

    def bits_per_byte(self, *, bytes_per_token: float) -> float:
        """Loss per byte of text: comparable between tokenizers."""
        return self.loss_nats / log(2) / bytes_per_token


def quality(logits_of: Callable[[Tensor], Tensor], tokens: Tensor, *, context: int) -> Quality:
    """Predict every token of a text but the first, in windows that do not overlap.

    A window's tokens see only those of their window, so the figure is worse than with a sliding context.

    Parameters
    ----------
    logits_of : callable
        From tokens (B, T) to logits (B, T, V): a model, float or quantized.
    tokens : Tensor
        (L,) int64, L >= 2.
    context : int
        Tokens in a window; at least 1.

    Raises
    ------
    ValueError
        If there is nothing to predict.
    """
    if len(tokens) < 2 or context < 1:
        raise ValueError(f"tokens must be >= 2 and context >= 1, not {len(tokens)} and {context}")
    predicted = len(tokens) - 1
    whole = predicted // context
    inputs = list(tokens[: whole * context].reshape(whole, context).split(BATCH_WINDOWS)) if whole else []
    targets = (
        list(tokens[1 : whole * context + 1].reshape(whole, context).split(BATCH_WINDOWS)) if whole else []
    )
    if predicted % context:
        inputs.append(tokens[whole * context : -1][None])
        targets.append(tokens[whole * context + 1 :][None])
    total = 0.0
    with torch.no_grad():
        for given, wanted in zip(inputs, targets, strict=True):
            logits = logits_of(given).flatten(0, 1).to(torch.float32)  # (B * T, V)
            total += float(functional.cross_entropy(logits, wanted.flatten(), reduction="sum"))
    return Quality(total / predicted, predicted)
