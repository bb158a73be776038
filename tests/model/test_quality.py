"""Loss over windows against a loop over the tokens."""

from math import exp, log

import pytest
import torch

from systolith_model.quality import Quality, quality

VOCABULARY = 11


def after_the_sum(tokens):
    """A model whose logits depend on all tokens of the window so far."""
    table = torch.randn(VOCABULARY, VOCABULARY, generator=torch.Generator().manual_seed(1))
    return table[tokens.cumsum(1) % VOCABULARY]


@pytest.mark.parametrize("length", [2, 5, 6, 7, 100])
@pytest.mark.parametrize("context", [1, 5, 64])
def test_equals_a_loop_over_tokens(length, context):
    tokens = torch.randint(VOCABULARY, (length,), generator=torch.Generator().manual_seed(length))
    losses = []
    for place in range(1, length):
        start = (place - 1) // context * context
        logits = after_the_sum(tokens[None, start:place])[0, -1].tolist()
        losses.append(log(sum(exp(logit) for logit in logits)) - logits[int(tokens[place])])
    measured = quality(after_the_sum, tokens, context=context)
    assert measured.tokens == length - 1
    assert measured.loss_nats == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_a_model_that_knows_nothing():
    measured = quality(lambda tokens: torch.zeros(*tokens.shape, 64), torch.arange(40), context=16)
    assert measured.perplexity == pytest.approx(64)
    assert measured.bits_per_byte(bytes_per_token=3) == pytest.approx(2)


def test_perplexity_is_the_exponential():
    assert Quality(log(7), 1).perplexity == pytest.approx(7)


@pytest.mark.parametrize(("length", "context"), [(1, 4), (0, 4), (5, 0)])
def test_nothing_to_predict_is_refused(length, context):
    with pytest.raises(ValueError, match=f"tokens must be >= 2 and context >= 1, not {length} and {context}"):
        quality(after_the_sum, torch.zeros(length, dtype=torch.int64), context=context)
