"""How the MoE benchmark of ai-dynamo/aiconfigurator deals tokens to experts: counts that follow a power law.

Each expert draws a share from a truncated power law; shares are rounded to counts of at most one row a token, and
what is over goes to the emptiest expert first, of equally empty ones to neighbours, which share a group. The experts
fall into groups of equal size, and the device under test holds the group with the most rows. Tokens fill the experts
column by column in falling order of their counts, which matters where the library cuts the tokens into calls.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from accuracy_tables import Array
from systolith_sim.devices.grouped import HEIGHTS

DRAWS = 20
"""Routings that a mean is taken over; the benchmark takes ten of its own."""
CHUNK = 16384
"""Most tokens of one call of the library."""
LARGEST_SHARE = 0.8
"""Upper end of the power law, of the tokens, where they outnumber the experts; its lower end is 1."""
SPARSE = (0.01, 2.0)
"""Ends of the power law where there are no more pairs than experts."""


class Call(NamedTuple):
    """One call of the library, means over routings."""

    tokens: int
    rows: float
    """Rows of the experts of the busiest group."""
    active: float
    """Its experts that have rows."""
    tiles: tuple[float, ...]
    """Tiles of rows, by ``grouped.HEIGHTS``."""


@cache
def calls(tokens: int, experts: int, top_k: int, groups: int, alpha: float) -> tuple[Call, ...]:
    """The calls that one layer makes for ``tokens`` tokens, on the device of the busiest of ``groups``."""
    seed = (tokens, experts, top_k, groups, round(1000 * alpha))
    counts = _counts(tokens, experts, top_k, alpha, np.random.default_rng(seed))
    busiest = counts.reshape(DRAWS, groups, -1).sum(2).argmax(1)
    own = np.arange(experts) // (experts // groups) == busiest[:, None]
    found = []
    for start in range(0, tokens, CHUNK):
        end = min(start + CHUNK, tokens)
        rows = np.where(own, _within(counts, tokens, top_k, start, end), 0.0)
        tiles = tuple(float(np.ceil(rows / height).sum(1).mean()) for height in HEIGHTS)
        found.append(Call(end - start, float(rows.sum(1).mean()), float((rows > 0).sum(1).mean()), tiles))
    return tuple(found)


def _counts(tokens: int, experts: int, top_k: int, alpha: float, random: np.random.Generator) -> Array:
    """Rows of each expert, shape (draws, experts), ``tokens * top_k`` in all."""
    pairs = tokens * top_k
    low, high = (1.0, LARGEST_SHARE * tokens) if pairs > experts else SPARSE
    uniform, power = random.random((DRAWS, experts)), 1 - alpha
    share = ((high**power - low**power) * uniform + low**power) ** (1 / power)
    counts = np.rint(share / share.sum(1, keepdims=True) * pairs)
    over = np.clip(counts - tokens, 0, None).sum(1, keepdims=True)
    counts = np.minimum(counts, tokens)
    order = np.argsort(counts, axis=1, kind="stable")  # the emptiest first, neighbours where they are equal
    room = np.take_along_axis(tokens - counts, order, 1)
    added = np.clip(over - (np.cumsum(room, axis=1) - room), 0, room)
    np.put_along_axis(counts, order, np.take_along_axis(counts, order, 1) + added, 1)
    for row in counts:
        _settle(row, int(pairs - row.sum()), tokens)
    return counts


def _settle(row: Array, missing: int, most: int) -> None:
    """Add or take single rows, the emptiest experts first, until the counts sum up."""
    order = np.argsort(row, kind="stable")
    while missing > 0:
        open_ones = order[row[order] < most][:missing]
        row[open_ones] += 1
        missing -= len(open_ones)
    for place in range(-missing):
        one = order[place % len(order)]
        row[one if row[one] > 0 else row.argmax()] -= 1


def _within(counts: Array, tokens: int, top_k: int, start: int, end: int) -> Array:
    """Rows of each expert that come from the tokens from ``start`` to ``end``."""
    if end - start == tokens:
        return counts
    order = np.argsort(-counts, axis=1, kind="stable")
    last = np.cumsum(np.take_along_axis(counts, order, 1), axis=1)
    first = last - np.take_along_axis(counts, order, 1)
    rows = np.zeros_like(counts)
    for column in range(top_k):
        from_here = np.minimum(last, column * tokens + end) - np.maximum(first, column * tokens + start)
        rows += np.clip(from_here, 0, None)
    found = np.empty_like(rows)
    np.put_along_axis(found, order, rows, 1)
    return found
