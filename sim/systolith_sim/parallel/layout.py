"""Layout: how one model is dealt to many devices, and what must hold for it."""

from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from systolith_model.workload.training import Recompute

Schedule = Literal["gpipe", "1f1b", "interleaved"]
SCHEDULES: tuple[Schedule, ...] = ("gpipe", "1f1b", "interleaved")
RECOMPUTE: tuple[Recompute, ...] = get_args(Recompute)


def recompute_of(text: str) -> Recompute:
    """What ``text`` names of what may be computed again.

    Raises
    ------
    ValueError
        If it names nothing of the kind.
    """
    for known in RECOMPUTE:
        if known == text:
            return known
    raise ValueError(f"recompute must be one of {', '.join(RECOMPUTE)}, not {text!r}")


class Splittable(Protocol):
    """What a layout must know of a model."""

    @property
    def n_layers(self) -> int: ...
    @property
    def n_heads(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Degrees of each kind of parallelism; ``tp * pp * dp`` devices.

    Tensor parallel groups are placed first and so stay within a node while they fit; pipeline stages come next
    and replicas last.

    Raises
    ------
    ValueError
        If a degree is below 1, or expert parallelism does not divide the devices that hold one layer.
    """

    tp: int = 1
    """Devices that share each matrix (heads, MLP width, vocabulary)."""
    pp: int = 1
    """Pipeline stages, each with its share of the layers."""
    dp: int = 1
    """Replicas, each with its share of the batch."""
    ep: int = 1
    """Devices that share the experts of a layer; divides ``tp * dp``."""
    sequence: bool = False
    """Norms and residuals split along the tokens of a tensor parallel group (training)."""
    micro_batch: int | None = None
    """Sequences of one micro-batch in the pipeline; without it, chosen by the estimate."""
    schedule: Schedule = "1f1b"
    """Order of forward and backward passes (training)."""
    interleave: int = 1
    """Chunks of layers a stage holds in the interleaved schedule."""
    zero: int = 0
    """ZeRO stage over the replicas: 1 optimizer states, 2 and gradients, 3 and weights."""
    recompute: Recompute = "none"
    """Activations computed again in the backward pass: the core of attention, or all of a layer."""

    def __post_init__(self) -> None:
        for name in ("tp", "pp", "dp", "ep", "interleave"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, not {getattr(self, name)}")
        if self.micro_batch is not None and self.micro_batch < 1:
            raise ValueError(f"micro_batch must be >= 1, not {self.micro_batch}")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, not {self.schedule!r}")
        recompute_of(self.recompute)
        if not 0 <= self.zero <= 3:
            raise ValueError(f"zero must be in 0..3, not {self.zero}")
        if (self.tp * self.dp) % self.ep:
            raise ValueError(f"ep must divide tp * dp = {self.tp * self.dp}, not {self.ep}")
        if self.interleave > 1 and (self.schedule != "interleaved" or self.pp == 1):
            raise ValueError(f"interleave must be 1 without an interleaved pipeline, not {self.interleave}")

    @property
    def devices(self) -> int:
        """Devices of the whole layout."""
        return self.tp * self.pp * self.dp

    def check(self, model: Splittable) -> None:
        """Refuse a model that cannot be split like this.

        Raises
        ------
        ValueError
            Names the degree, and what would divide.
        """
        if model.n_heads % self.tp:
            allowed = ", ".join(str(size) for size in divisors(model.n_heads))
            raise ValueError(f"tp must divide the {model.n_heads} heads ({allowed}), not be {self.tp}")
        if self.pp * self.interleave > model.n_layers:
            raise ValueError(f"pp x interleave must be <= {model.n_layers} layers, not {self.pp * self.interleave}")
        experts = int(getattr(model, "n_experts", 0) or 0)
        if self.ep > 1 and (not experts or experts % self.ep):
            has = f"{experts} experts" if experts else "no experts"
            raise ValueError(f"ep must divide the experts of a layer; this model has {has}, not {self.ep}")

    def __str__(self) -> str:
        parts = [f"{name}={getattr(self, name)}" for name in ("tp", "pp", "dp", "ep") if getattr(self, name) > 1]
        return " ".join(parts) or "one device"


def divisors(number: int) -> list[int]:
    """Divisors in rising order.

    >>> divisors(12)
    [1, 2, 3, 4, 6, 12]
    """
    return [size for size in range(1, number + 1) if number % size == 0]
