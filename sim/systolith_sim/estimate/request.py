"""What is asked: a static batch of prompts, answers of one length, and number formats."""

from dataclasses import dataclass, field

from systolith_model.formats import Formats


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
    formats: Formats = field(default_factory=Formats)
    """Number formats."""

    def __post_init__(self) -> None:
        for name in ("batch", "prompt", "generate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, not {getattr(self, name)}")

    @property
    def length(self) -> int:
        """Tokens of a sequence at its end."""
        return self.prompt + self.generate
