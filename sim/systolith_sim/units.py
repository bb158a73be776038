"""Units: the one place where prefixes are defined and numbers are written for people.

A GB is 10^9 bytes, a GiB 2^30. Names elsewhere carry SI units (``latency_s``, ``energy_j``), so
conversions happen only where a person reads or a foreign file is written.
"""

from math import isfinite, log10

KIB, MIB, GIB = 2**10, 2**20, 2**30
GB = 10**9
US_PER_S = 1e6
BITS_PER_BYTE = 8

_PREFIXES = {-15: "f", -12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P"}


def si(value: float, unit: str, *, digits: int = 3) -> str:
    """A number with an SI prefix, for people.

    Parameters
    ----------
    value : float
        In ``unit``; any sign, finite.
    digits : int
        Significant digits.

    >>> si(3.35e12, "B/s"), si(2.5e-06, "s"), si(0, "J"), si(1500, "cycles", digits=2)
    ('3.35 TB/s', '2.5 µs', '0 J', '1.5 kcycles')
    """
    if value == 0 or not isfinite(value):
        return f"{value:g} {unit}"
    rounded = float(f"{value:.{digits}g}")
    exponent = min(15, max(-15, 3 * int(log10(abs(rounded)) // 3)))
    return f"{rounded / 10**exponent:.{digits}g} {_PREFIXES[exponent]}{unit}"


def pj_per_bit(value: float) -> float:
    """Picojoules per bit as joules per byte.

    >>> pj_per_bit(4.0)
    3.2e-11
    """
    return value * 1e-12 * BITS_PER_BYTE
