"""Intervals of kernel times: the scored errors of a device, or of its class, for an operation's regime and case."""

from collections.abc import Iterator, Mapping, Sequence

from systolith_sim.devices.classes import class_of
from systolith_sim.devices.device import Device, Operator, Regime, RegimeError
from systolith_sim.devices.library import find_device

SCORED_FORMATS = ("bf16", "fp16")
"""Formats the GPU and TPU errors were scored on; others get the interval ``UNSEEN_WIDER``."""

UNSEEN_WIDER = 2.0
"""Exponent on both ends for a format, or a kind of operation, that no scored row was of. Declared, not measured."""

SAME_DIE_WIDER = 2**0.5
"""Exponent on the ends of another part of a die: its own errors, and as much again for carrying them over, independent
of each other. Declared, not measured."""

UNSCORED = 2.0
"""Factor below and above where nothing of the kind was ever scored. Declared, not measured."""


def interval_factors(
    device: Device, operator: Operator, regime: Regime, variant: str, case: str = "", unseen: str = ""
) -> tuple[float, float, str]:
    """(low, high) factors of the 90 % interval, and where they come from; ``case`` as in ``RegimeError``.

    From the device's own scores in that format, else those of its die, else its class's; a format nobody scored takes
    those of bf16 twice as wide, as does what ``unseen`` names: a kind of the operation that no scored row was of. A
    regime nobody scored takes the widest of the operator's, an operator nobody scored ``UNSCORED``.
    """
    for errors, sources, wider, where in _scores(device):
        same = [error for error in errors if error.operator == operator]
        exact = [error for error in same if error.format == variant]
        scored = exact or [error for error in same if not error.format]
        chosen = errors_for(scored, regime, case)
        if chosen:
            low, high = min(error.low for error in chosen), max(error.high for error in chosen)
            source = sources[chosen[0].source] + where
            if device.kind != "cpu" and not exact and variant not in SCORED_FORMATS:
                unseen = unseen or variant
            if unseen:
                wider, source = wider * UNSEEN_WIDER, f"{source}; {unseen} not scored: twice as wide"
            return low**wider, high**wider, source
    return 1 / UNSCORED, UNSCORED, "no operation of this kind was scored: a factor of 2"


def errors_for(errors: Sequence[RegimeError], regime: str, case: str) -> Sequence[RegimeError]:
    """Those of a case; without any, those of the whole regime, then of all its cases, then all."""
    own = [error for error in errors if error.regime == regime]
    exact = [error for error in own if error.case == case]
    return exact or [error for error in own if not error.case] or own or errors


def _scores(device: Device) -> Iterator[tuple[Sequence[RegimeError], Mapping[str, str], float, str]]:
    """Errors and their sources in order of choice, with the exponent on both ends and a word on it."""
    yield device.errors, device.sources, 1.0, ""
    if device.same_die:
        sibling = find_device(device.same_die)
        yield sibling.errors, sibling.sources, SAME_DIE_WIDER, f"; {sibling.id}, the same die: wider by the root of two"
    family = class_of(device.kind)
    yield family.errors, family.sources, 1.0, ""
