"""Attention over a paged cache on a TPU: one kernel that takes the sequences of a batch one after the other.

A sequence's keys and values stream into the scratchpad at a share of the bandwidth, or its scores pass the vector
unit, whichever is longer; form and constants: docs/reference/kernel-cost.md. Fitted by benchmarks/fit_tpu.py.
"""

from dataclasses import dataclass

import numpy as np

from systolith_sim.devices.attention import AttentionSizes
from systolith_sim.devices.gemm import CONSTANTS, Array, Machine, Terms, smooth_maximum


@dataclass(frozen=True)
class RaggedConstants:
    """What the kernel does on every TPU, fitted on v6e."""

    small_tokens: float = 7000.0
    """Cached tokens of a call below which the library takes smaller blocks of keys; read off the times."""
    small_share: float = 0.7377
    """Rate of keys and values in smaller blocks, against larger ones."""
    block: float = 256.0
    """Keys of one block of scores, half of which a causal mask wastes for each query. Declared."""


RAGGED = RaggedConstants()


@dataclass(frozen=True)
class RaggedFit:
    """What was fitted on one device."""

    launch_s: float
    """Start to end of a call that does nothing."""
    efficiency: float
    """Share of the peak rate that the products of long scores reach, whose softmax takes the vector unit."""
    start_s: float
    """Each sequence's beginning and end."""
    stream_share: float
    """Share of the main memory's bandwidth that keys and values arrive at."""


def ragged_attention(
    machine: Machine,
    s: AttentionSizes,
    fit: RaggedFit,
    *,
    causal: bool,
    kv_bytes: float,
    shared_values: bool = False,
    constants: RaggedConstants = RAGGED,
) -> Terms:
    """Seconds of a call: ``batch`` sequences of equal sizes; ``kv_bytes`` of an element of keys and values."""
    c = constants
    block = np.where(s.queries > 1, c.block, 0.0)
    mean = np.minimum(s.seen - (s.queries - 1) / 2 + block / 2, s.seen) if causal else s.seen
    work = 2 * s.heads * s.queries * np.minimum(mean, s.window) * (s.head_size + s.value_size)
    scores = work / (fit.efficiency * machine.peak_ops_per_s)
    token = s.kv_heads * (s.head_size + (0.0 if shared_values else s.value_size)) * kv_bytes
    share = fit.stream_share * np.where(s.batch * s.keys < c.small_tokens, c.small_share, 1.0)
    stream: Array = token * s.seen / (share * machine.bandwidth_bytes_per_s)
    body = s.batch * (fit.start_s + smooth_maximum(scores, stream, CONSTANTS.sharpness))
    launch = np.full_like(body, fit.launch_s)
    return Terms(launch + body, launch, s.batch * (fit.start_s + scores), s.batch * stream)
