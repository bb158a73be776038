"""The integer contract in torch: every operation the core does, exact (docs/contracts/numerics.md).

One operation a file: ``matmul`` (N1 to N4), ``requantize`` (N5, N6), ``table`` (N7), ``residual`` (N8),
and ``linear``, which runs N1 to N7 in order. Nothing rounds or saturates except where the contract says so.
"""
