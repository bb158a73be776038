"""Closed loop: a replica that always has the same number of requests in flight, each replaced as it ends.

While a request generates, the prompts of those that enter pass through the same device, one for each of the others
during its own life. So each of its tokens waits for one step and its share of those prompts. Where the engine mixes
them, a prompt costs what its step takes longer with it: weights are read once for both, but no graph launches it.
"""

from dataclasses import dataclass
from math import inf

from systolith_sim.estimate.replica import Replica
from systolith_sim.estimate.tally import Tally


@dataclass(frozen=True)
class ClosedLoop:
    """Steady state of one replica."""

    ttft_s: float
    """One step that is under way, then the pass with the prompt; no queue."""
    tpot_s: float
    """Mean time between two tokens of a request."""
    latency_s: float
    """Request to last token."""
    requests_per_s: float
    """Of the replica."""
    work: Tally
    """Passes that one request costs: its prompt, and its share of the steps."""
    interval_s: tuple[float, float]
    """(low, high) of ``tpot_s``, without the engine's own scored error; the low end holds also where prompts enter
    together, as many as a pass may hold."""


def closed_loop(
    replica: Replica, *, concurrency: int, prompt: int, generate: int, enter: Tally | None = None
) -> ClosedLoop:
    """``concurrency`` requests of ``prompt`` tokens in flight, each getting ``generate`` tokens.

    ``enter`` is the pass of one prompt alone, where it is known already.

    Raises
    ------
    ValueError
        If a size is below 1.
    """
    for name, value in (("concurrency", concurrency), ("prompt", prompt), ("generate", generate)):
        if value < 1:
            raise ValueError(f"{name} must be >= 1, not {value}")
    done, entering = 1 + generate // 2, (concurrency - 1) / generate
    step = replica.step_tally(batch=concurrency, prompt=prompt, done=done)
    if replica.mixes:
        together = max(1.0, entering)
        mixed = replica.mixed_tally(batch=concurrency, prompt=prompt, done=done, prompts=together)
        added, first_s = (mixed + step * -1.0) * (1 / together), mixed.seconds
        crowd = max(together, min(concurrency - 1, (replica.engine.pass_tokens or 0) // prompt))
        crowded = replica.mixed_tally(batch=concurrency, prompt=prompt, done=done, prompts=crowd)
        low_s = (step + (crowded + step * -1.0) * (entering / crowd)).interval_s[0]
    else:
        added = enter or replica.prefill_tally(batch=1, prompt=prompt)
        first_s, low_s = added.seconds, inf
    token = step + added * entering
    latency_s = first_s + step.seconds + (generate - 1) * token.seconds
    return ClosedLoop(
        ttft_s=first_s + step.seconds,
        tpot_s=token.seconds,
        latency_s=latency_s,
        requests_per_s=concurrency / latency_s,
        work=added + step * ((generate - 1) / concurrency),
        interval_s=(min(low_s, token.interval_s[0]), token.interval_s[1]),
    )
