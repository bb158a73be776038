"""Closed loop: a replica that always has the same number of requests in flight, each replaced as it ends.

While a request generates, the prompts of those that enter pass through the same device, one for each of the others
during its own life. So each of its tokens waits for one step and its share of those prompts.
"""

from dataclasses import dataclass

from systolith_sim.estimate.replica import Replica
from systolith_sim.estimate.tally import Tally


@dataclass(frozen=True)
class ClosedLoop:
    """Steady state of one replica."""

    ttft_s: float
    """One step that is under way, then the prompt; no queue."""
    tpot_s: float
    """Mean time between two tokens of a request."""
    latency_s: float
    """Request to last token."""
    requests_per_s: float
    """Of the replica."""
    work: Tally
    """Passes that one request costs: its prompt, and its share of the steps."""
    interval_s: tuple[float, float]
    """(low, high) of ``tpot_s``, without the engine's own scored error."""


def closed_loop(
    replica: Replica, *, concurrency: int, prompt: int, generate: int, enter: Tally | None = None
) -> ClosedLoop:
    """``concurrency`` requests of ``prompt`` tokens in flight, each getting ``generate`` tokens.

    ``enter`` is the pass of one prompt, where it is known already.

    Raises
    ------
    ValueError
        If a size is below 1.
    """
    for name, value in (("concurrency", concurrency), ("prompt", prompt), ("generate", generate)):
        if value < 1:
            raise ValueError(f"{name} must be >= 1, not {value}")
    enter = enter or replica.prefill_tally(batch=1, prompt=prompt)
    step = replica.step_tally(batch=concurrency, prompt=prompt, done=1 + generate // 2)
    tpot_s = step.seconds + (concurrency - 1) * enter.seconds / generate
    share = (step + enter * ((concurrency - 1) / generate)).interval_s
    latency_s = enter.seconds + step.seconds + (generate - 1) * tpot_s
    return ClosedLoop(
        ttft_s=enter.seconds + step.seconds,
        tpot_s=tpot_s,
        latency_s=latency_s,
        requests_per_s=concurrency / latency_s,
        work=enter + step * ((generate - 1) / concurrency),
        interval_s=share,
    )
