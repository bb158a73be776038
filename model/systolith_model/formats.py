"""Number formats, and the bytes of a weight under a storage: scales, pruning, entropy coding.

A storage says how a matrix lies in memory, not how fast a machine works on it: only hardware that skips what
was pruned gains time, but bytes are gained everywhere.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil, prod
from types import MappingProxyType
from typing import Literal, Self, get_args

Format = Literal["fp32", "tf32", "bf16", "fp16", "fp8", "int8", "int4", "fp4", "int32"]
Pruning = Literal["none", "bitmap", "csr", "2:4", "structured"]

BITS: Mapping[str, int] = MappingProxyType(
    {"fp32": 32, "tf32": 32, "bf16": 16, "fp16": 16, "fp8": 8, "int8": 8, "int4": 4, "fp4": 4, "int32": 32}
)
"""Bits of one stored element; tf32 is fp32 in memory and rounded inside the multiplier."""

WHOLE = 0
"""In a scale block: the whole dimension."""

POINTER_BITS = 32
"""One row pointer of CSR."""


@dataclass(frozen=True, kw_only=True)
class Storage:
    """How a weight matrix (K, N), or a stack of them, is stored.

    Attributes
    ----------
    format : str
        Of one kept element.
    scale_block : (int, int), optional
        Elements along K and along N that share a scale, ``WHOLE`` for all: ``(0, 0)`` is one scale a matrix,
        ``(0, 1)`` one a column, ``(128, 1)`` one for 128 elements of a column. None for no scales.
    scale_bits, zero_point_bits : int
        Bits of one scale, and of the zero point that stands beside it.
    pruning : str
        ``bitmap``: one bit an element, and the kept ones. ``csr``: kept elements with the column of each and
        a pointer a row. ``2:4``: two of four along K, with a 2-bit index each. ``structured``: whole rows of
        K removed, a smaller dense matrix.
    density : float
        Kept share of the elements, above 0 and at most 1; 2:4 keeps half.
    entropy_ratio : float
        Bytes of the entropy-coded elements over their plain bytes, above 0 and at most 1; index and scales
        stay as they are.
    """

    format: Format = "bf16"
    scale_block: tuple[int, int] | None = None
    scale_bits: int = 16
    zero_point_bits: int = 0
    pruning: Pruning = "none"
    density: float = 1.0
    entropy_ratio: float = 1.0

    def __post_init__(self) -> None:
        if self.format not in BITS:
            raise ValueError(f"format must be one of {', '.join(BITS)}, not {self.format!r}")
        if self.pruning not in get_args(Pruning):
            raise ValueError(f"pruning must be one of {', '.join(get_args(Pruning))}, not {self.pruning!r}")
        for name, value in (("density", self.density), ("entropy_ratio", self.entropy_ratio)):
            if not 0 < value <= 1:
                raise ValueError(f"{name} must be above 0 and at most 1, not {value}")
        if self.pruning == "2:4" and self.density != 0.5:
            raise ValueError(f"density of 2:4 must be 0.5, not {self.density}")
        if self.pruning == "none" and self.density != 1:
            raise ValueError(f"density without pruning must be 1, not {self.density}")
        if self.scale_block is not None and min(self.scale_block) < 0:
            raise ValueError(f"scale_block must be sizes >= 0, not {self.scale_block}")

    @property
    def bits_per_element(self) -> float:
        """Bits a stored element costs in a large matrix, index and scales included, per dense element."""
        size = 1 << 14
        return 8 * storage_bytes((size, size), self) / size**2


def storage_bytes(shape: tuple[int, ...], storage: Storage) -> int:
    """Bytes of a weight of shape (..., K, N), or of a vector (N,), under a storage.

    >>> storage_bytes((4096, 4096), Storage(format="int4", scale_block=(128, 1)))
    8650752
    """
    k, n = (1, *shape)[-2:]
    stack = prod(shape[:-2])
    bits = BITS[storage.format]
    rows = ceil(storage.density * k) if storage.pruning == "structured" else k
    kept, index_bits = rows * n, 0
    if storage.pruning == "2:4":
        kept = 2 * ceil(k / 4) * n
        index_bits = 2 * kept
    elif storage.pruning == "bitmap":
        kept = ceil(storage.density * k * n)
        index_bits = k * n
    elif storage.pruning == "csr":
        kept = ceil(storage.density * k * n)
        index_bits = kept * _column_bits(n) + (k + 1) * POINTER_BITS
    values = ceil(stack * kept * bits * storage.entropy_ratio / 8)
    return values + ceil(stack * index_bits / 8) + ceil(stack * _scale_bits(rows, n, storage) / 8)


def _column_bits(columns: int) -> int:
    """Bits of a column index, the narrowest of 8, 16 and 32 that holds it."""
    return next(bits for bits in (8, 16, 32) if columns <= 1 << bits)


def _scale_bits(k: int, n: int, storage: Storage) -> int:
    if storage.scale_block is None:
        return 0
    along_k, along_n = (block or size for block, size in zip(storage.scale_block, (k, n), strict=True))
    return ceil(k / along_k) * ceil(n / along_n) * (storage.scale_bits + storage.zero_point_bits)


DEFAULTS: Mapping[str, Storage] = MappingProxyType(
    {
        # One fp32 scale an output channel: LLM.int8() (Dettmers et al. 2022, arXiv 2208.07339), section 3.1.
        "int8": Storage(format="int8", scale_block=(WHOLE, 1), scale_bits=32),
        # One fp32 scale an output channel: vLLM's and TensorRT-LLM's fp8 "rowwise" recipe.
        "fp8": Storage(format="fp8", scale_block=(WHOLE, 1), scale_bits=32),
        # Groups of 128 with an fp16 scale and a 4-bit zero: AWQ (Lin et al. 2024, arXiv 2306.00978), section 5.
        "int4": Storage(format="int4", scale_block=(128, 1), scale_bits=16, zero_point_bits=4),
        # Blocks of 32 with an 8-bit exponent: OCP Microscaling Formats (MX) v1.0, table 1.
        "fp4": Storage(format="fp4", scale_block=(32, 1), scale_bits=8),
    }
)
"""How weights of a narrow format are stored unless told otherwise."""

NAMED: Mapping[str, Storage] = MappingProxyType(
    {
        "mxfp4": DEFAULTS["fp4"],
        "mxfp8": Storage(format="fp8", scale_block=(32, 1), scale_bits=8),
        # Blocks of 16 with an fp8 scale (NVIDIA Blackwell); the one fp32 scale of the matrix is left out.
        "nvfp4": Storage(format="fp4", scale_block=(16, 1), scale_bits=8),
        # Blocks of 128 x 128 with an fp32 scale: DeepSeek-V3 (arXiv 2412.19437), section 3.3.2.
        "fp8_block": Storage(format="fp8", scale_block=(128, 128), scale_bits=32),
    }
)
"""Storages with a name of their own."""

_WEIGHT = re.compile(
    r"(?P<format>\w+?)(?:-(?:g(?P<group>[1-9]\d*)|(?P<scale>tensor|channel)))?"
    r"(?:\+(?P<pruning>2:4|bitmap|csr|structured)(?::(?P<density>\d*\.?\d+))?)?"
)
_GRAMMAR = "FORMAT[-gN|-tensor|-channel][+2:4|+bitmap:DENSITY|+csr:DENSITY|+structured:DENSITY]"


def weight_storage(text: str) -> Storage:
    """Storage of weights from a word such as ``bf16``, ``int4-g64``, ``nvfp4`` or ``int8+2:4``.

    Raises
    ------
    ValueError
        If the word is none.
    """
    match = _WEIGHT.fullmatch(text)
    if match is None:
        raise ValueError(f"weight format must be {_GRAMMAR}, not {text!r}")
    name, group, scale, pruning, density = match.groups()
    storage = NAMED.get(name) or DEFAULTS.get(name) or Storage(format=_format(name, "weight"))
    if group:
        storage = replace(storage, scale_block=(int(group), 1))
    if scale:
        storage = replace(storage, scale_block=(WHOLE, WHOLE if scale == "tensor" else 1), zero_point_bits=0)
    if pruning == "2:4":
        return replace(storage, pruning="2:4", density=float(density or 0.5))
    if pruning:
        if density is None:
            raise ValueError(f"weight format must name the density, as in +{pruning}:0.5, not {text!r}")
        return replace(storage, pruning=pruning, density=float(density))
    return storage


def _format(name: str, place: str) -> Format:
    for allowed in get_args(Format):
        if name == allowed and name != "int32":
            return allowed
    allowed = [known for known in BITS if known != "int32"] + (list(NAMED) if place == "weight" else [])
    raise ValueError(f"{place} format must be one of {', '.join(allowed)}, not {name!r}")


@dataclass(frozen=True, kw_only=True)
class Formats:
    """Formats of a run: weights with their storage, inputs of the products, the cache.

    ``stream`` is what norms, residuals and outputs of products are kept in; ``activation`` unless told otherwise.
    Vectors (norm weights, biases) and tables that are gathered are stored in ``stream``.
    """

    weight: Storage = Storage()
    activation: Format = "bf16"
    kv: Format = "bf16"
    stream: Format | None = None

    @property
    def residual(self) -> Format:
        """Format of the residual stream."""
        return self.stream or self.activation

    @classmethod
    def parse(cls, text: str) -> Self:
        """From ``W/A/KV``, ``W/A`` or one word for all three, e.g. ``int4/bf16/fp8``, ``bf16``.

        A missing KV is the activation's, a missing A the weight's. Activations narrower than 16 bits are
        those that enter products; the stream between is bf16 then.

        Raises
        ------
        ValueError
            If a part is no format.

        >>> Formats.parse("fp8/bf16").kv
        'bf16'
        """
        parts = text.split("/")
        if not 1 <= len(parts) <= 3:
            raise ValueError(f"format must be W, W/A or W/A/KV, not {text!r}")
        weight = weight_storage(parts[0])
        activation = _format(parts[1], "activation") if len(parts) > 1 else weight.format
        kv = _format(parts[2], "kv") if len(parts) > 2 else activation
        stream = "bf16" if BITS[activation] < 16 else None
        return cls(weight=weight, activation=activation, kv=kv, stream=stream)

    @classmethod
    def plain(cls, format: Format, *, weight: Format | None = None) -> Self:
        """Everything in one format without scales; the matrices in ``weight`` where given."""
        return cls(weight=Storage(format=weight or format), activation=format, kv=format)

    def __str__(self) -> str:
        return f"{self.weight.format}/{self.activation}/{self.kv}"
