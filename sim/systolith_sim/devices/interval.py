"""Intervals of kernel times: the scored errors of a device, or of its class, for an operation's regime and case."""

from collections.abc import Sequence

from systolith_sim.devices.classes import class_of
from systolith_sim.devices.device import Device, Operator, Regime, RegimeError

SCORED_FORMATS = ("bf16", "fp16")
"""Formats the GPU and TPU errors were scored on; others get the interval twice as wide, in logarithm."""

UNSCORED = 2.0
"""Factor below and above where nothing of the kind was ever scored. Declared, not measured."""


def interval_factors(
    device: Device, operator: Operator, regime: Regime, variant: str, case: str = ""
) -> tuple[float, float, str]:
    """(low, high) factors of the 90 % interval, and where they come from; ``case`` as in ``RegimeError``.

    From the device's own scores in that format, else its class's; a format nobody scored takes those of bf16 twice
    as wide, a regime nobody scored the widest of the operator's, an operator nobody scored ``UNSCORED``.
    """
    for errors, sources in ((device.errors, device.sources), _class_errors(device)):
        same = [error for error in errors if error.operator == operator]
        exact = [error for error in same if error.format == variant]
        scored = exact or [error for error in same if not error.format]
        chosen = errors_for(scored, regime, case)
        if chosen:
            low, high = min(error.low for error in chosen), max(error.high for error in chosen)
            source = sources[chosen[0].source]
            if device.kind != "cpu" and not exact and variant not in SCORED_FORMATS:
                return low**2, high**2, f"{source}; {variant} not scored: twice as wide"
            return low, high, source
    return 1 / UNSCORED, UNSCORED, "no operation of this kind was scored: a factor of 2"


def errors_for(errors: Sequence[RegimeError], regime: str, case: str) -> Sequence[RegimeError]:
    """Those of a case; without any, those of the whole regime, then of all its cases, then all."""
    own = [error for error in errors if error.regime == regime]
    exact = [error for error in own if error.case == case]
    return exact or [error for error in own if not error.case] or own or errors


def _class_errors(device: Device) -> tuple[tuple[RegimeError, ...], dict[str, str]]:
    family = class_of(device.kind)
    return family.errors, family.sources
