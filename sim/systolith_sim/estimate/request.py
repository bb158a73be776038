"""What is asked: a static batch of prompts, answers of one length, and number formats."""

from dataclasses import dataclass
from typing import cast

from systolith_model.graph import BITS, Format


@dataclass(frozen=True)
class Formats:
    """Number formats of weights, activations and the key-value cache."""

    weights: Format = "bf16"
    activations: Format = "bf16"
    cache: Format = "bf16"

    @classmethod
    def parse(cls, text: str) -> "Formats":
        """``W``, ``W/A`` or ``W/A/KV``; one that is not given equals the one before.

        Raises
        ------
        ValueError
            If there are more than three or one is unknown: names it and what is allowed.

        >>> Formats.parse("int4/bf16")
        Formats(weights='int4', activations='bf16', cache='bf16')
        """
        parts = text.split("/")
        if len(parts) > 3:
            raise ValueError(f"format must be W, W/A or W/A/KV, not {text!r}")
        for part in parts:
            if part not in BITS:
                raise ValueError(f"format must be made of {', '.join(BITS)}, not {part!r}")
        given = [cast(Format, part) for part in parts]
        return cls(*given, *[given[-1]] * (3 - len(given)))

    def __str__(self) -> str:
        return f"{self.weights}/{self.activations}/{self.cache}"


@dataclass(frozen=True, kw_only=True)
class Request:
    """A static batch: ``batch`` prompts of ``prompt`` tokens start together, each gets ``generate`` tokens.

    Raises
    ------
    ValueError
        If a size is below 1.
    """

    batch: int = 1
    """Sequences at once, over all replicas."""
    prompt: int = 512
    """Tokens of each prompt."""
    generate: int = 128
    """Tokens generated for each; the first comes with the prompt's pass."""
    formats: Formats = Formats()
    """Number formats."""

    def __post_init__(self) -> None:
        for name in ("batch", "prompt", "generate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, not {getattr(self, name)}")

    @property
    def length(self) -> int:
        """Tokens of a sequence at its end."""
        return self.prompt + self.generate
