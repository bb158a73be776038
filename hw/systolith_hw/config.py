"""CoreConfig: the one description of a core; presets; derived sizes in another type."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

INSTRUCTION_BYTES = 32
"""Bytes of one instruction (docs/contracts/isa.md)."""
SEMAPHORES_PER_QUEUE = 4
"""Semaphores that each queue can raise."""
PARAMETER_BYTES = 8
"""Bytes of one output channel's parameters: bias, mantissa, shift."""
TABLE_BYTES = 256
"""Bytes of one table function."""


def _power_of_two(name: str, value: int) -> None:
    if value & (value - 1):
        raise ValueError(f"{name} must be a power of two, not {value}")


class CoreConfig(BaseModel, frozen=True):
    """One accelerator core; gateware, compiler, cycle model and area model all read this and nothing else."""

    # frozen stands in the class line: type checkers see only there that a core can be hashed.
    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)

    rows: Annotated[int, Field(ge=1, le=64)]
    """Processing elements along K."""
    cols: Annotated[int, Field(ge=1, le=64)]
    """Processing elements along N."""
    weight_rows_per_cycle: Annotated[int, Field(ge=1, le=64)] = 1
    """Rows of the next weight tile that load in one cycle; at most ``rows``."""
    port_bytes: Annotated[int, Field(ge=1, le=32)] = 8
    """Width of the memory port, bytes per cycle; a power of two."""
    data_bytes: Annotated[int, Field(ge=256, le=1 << 22)] = 32768
    """Data scratchpad (activations and results), bytes; a power of two."""
    data_banks: Annotated[int, Field(ge=1, le=8)] = 2
    """Banks of the data scratchpad, each with one reader and one writer at a time; a power of two."""
    weight_bytes: Annotated[int, Field(ge=256, le=1 << 22)] = 32768
    """Weight scratchpad, bytes; a power of two."""
    acc_banks: Annotated[int, Field(ge=2, le=8)] = 2
    """Accumulator banks, each with one read and one write port; a power of two."""
    acc_rows: Annotated[int, Field(ge=16, le=4096)] = 512
    """Rows of ``cols`` 32-bit sums in one accumulator bank; a power of two."""
    # The default is never seen: _default_lanes fills in what depends on cols before fields are looked at.
    requant_lanes: Annotated[int, Field(ge=1, le=64)] = 0
    """Elements requantized per cycle; at most ``cols``. Unless given, a quarter of ``cols``, rounded up."""
    parameter_bytes: Annotated[int, Field(ge=256, le=1 << 20)] = 8192
    """Memory of output channel parameters (bias, mantissa, shift), bytes; a power of two."""
    table_slots: Annotated[int, Field(ge=1, le=16)] = 4
    """256-entry tables held on chip; a power of two."""
    multiplier_latency: Annotated[int, Field(ge=3, le=8)] = 4
    """Cycles from operands to product, on every platform."""
    memory_latency: Annotated[int, Field(ge=2, le=4)] = 2
    """Cycles from address to data of every on-chip memory."""
    queue_depth: Annotated[int, Field(ge=2, le=64)] = 16
    """Instructions waiting in each queue; a power of two."""
    fetch_instructions: Annotated[int, Field(ge=1, le=16)] = 8
    """Instructions fetched by one burst; two of these fit in the fetch buffer. A power of two."""
    dma_depth: Annotated[int, Field(ge=2, le=64)] = 16
    """Load instructions (and store instructions) in flight at once; a power of two."""
    watchdog_cycles: Annotated[int, Field(ge=256, le=(1 << 32) - 1)] = 1 << 20
    """Cycles without any progress after which a running core reports a deadlock (reset value of the register)."""
    dot: Literal[1] = 1
    """Products summed in one processing element; only 1 is built."""
    weights_per_pe: Literal[1] = 1
    """Weights held by one processing element; only 1 is built."""

    @model_validator(mode="before")
    @classmethod
    def _default_lanes(cls, values: Any) -> Any:
        if isinstance(values, dict) and "requant_lanes" not in values and isinstance(values.get("cols"), int):
            return {**values, "requant_lanes": max(1, -(-values["cols"] // 4))}
        return values

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("port_bytes", "data_bytes", "data_banks", "weight_bytes", "acc_banks", "acc_rows",
                     "parameter_bytes", "table_slots", "queue_depth", "fetch_instructions", "dma_depth"):
            _power_of_two(name, getattr(self, name))
        if self.fetch_instructions * INSTRUCTION_BYTES > 256 * self.port_bytes:
            raise ValueError(f"fetch_instructions must be <= {256 * self.port_bytes // INSTRUCTION_BYTES} "
                             f"(a burst of 256 beats), not {self.fetch_instructions}")
        if self.weight_rows_per_cycle > self.rows:
            raise ValueError(f"weight_rows_per_cycle must be <= rows = {self.rows}, not {self.weight_rows_per_cycle}")
        if self.requant_lanes > self.cols:
            raise ValueError(f"requant_lanes must be <= cols = {self.cols}, not {self.requant_lanes}")
        sizes = Sizes.of(self)
        if self.data_bytes // self.data_banks < 4 * sizes.data_word_bytes:
            raise ValueError(f"data_bytes must be >= {4 * sizes.data_word_bytes * self.data_banks} (4 words a bank), "
                             f"not {self.data_bytes}")
        if self.weight_bytes < 2 * sizes.weight_groups * sizes.weight_word_bytes:
            raise ValueError(f"weight_bytes must be >= {2 * sizes.weight_groups * sizes.weight_word_bytes} "
                             f"(two tiles), not {self.weight_bytes}")
        if self.parameter_bytes < 2 * sizes.requant_groups * sizes.parameter_word_bytes:
            raise ValueError(f"parameter_bytes must be >= {2 * sizes.requant_groups * sizes.parameter_word_bytes} "
                             f"(two tiles), not {self.parameter_bytes}")
        return self

    @property
    def sizes(self) -> "Sizes":
        """Sizes that follow from the fields."""
        return Sizes.of(self)

    @property
    def peak_macs_per_cycle(self) -> int:
        """Multiply-accumulates a cycle when every processing element works."""
        return self.rows * self.cols * self.dot

    def to_toml(self) -> str:
        """The core as TOML, every field written out; ``core_from_toml`` reads it back."""
        return "".join(f"{name} = {value}\n" for name, value in self.model_dump().items())


@dataclass(frozen=True)
class Sizes:
    """What follows from a CoreConfig; docs/contracts/layout.md says what each is for."""

    data_word_bytes: int
    """Word of the data scratchpad: the least power of two that holds rows, cols and the port."""
    weight_word_bytes: int
    """Word of the weight scratchpad: the least power of two that holds one group of weight rows and the port."""
    weight_group_bytes: int
    """Bytes of one group: ``weight_rows_per_cycle * cols``."""
    weight_groups: int
    """Groups (cycles of loading) of one weight tile."""
    read_granule: int
    """Activation addresses are multiples of this."""
    write_granule: int
    """Result addresses are multiples of this."""
    weight_granule: int
    """Weight addresses are multiples of this."""
    parameter_word_bytes: int
    """Parameters of one group of lanes: lanes rounded up to a power of two, times 8; at least the port."""
    requant_groups: int
    """Cycles in which the lanes treat a full row of ``cols`` sums."""
    partial_sum_bits: int
    """Width of the sums inside the array."""
    transfer_beats: int
    """Most beats of one DMA transfer (docs/contracts/memory.md)."""
    burst_beats: int
    """Most beats of one DMA burst; bursts do not cross multiples of this many beats."""

    @classmethod
    def of(cls, core: CoreConfig) -> Self:
        """Derive the sizes of ``core``."""
        data_word = _ceil_power_of_two(max(core.rows, core.cols, core.port_bytes))
        group = core.weight_rows_per_cycle * core.cols
        weight_word = _ceil_power_of_two(max(group, core.port_bytes))
        transfer = min(256, 4096 // core.port_bytes)
        return cls(
            data_word_bytes=data_word,
            weight_word_bytes=weight_word,
            weight_group_bytes=group,
            weight_groups=-(-core.rows // core.weight_rows_per_cycle),
            read_granule=gcd(core.rows, data_word),
            write_granule=gcd(core.cols, data_word),
            weight_granule=gcd(group, weight_word),
            parameter_word_bytes=max(PARAMETER_BYTES * _ceil_power_of_two(core.requant_lanes), core.port_bytes),
            requant_groups=-(-core.cols // core.requant_lanes),
            partial_sum_bits=17 + (core.rows - 1).bit_length(),
            transfer_beats=transfer,
            burst_beats=transfer // 2,
        )


def _ceil_power_of_two(value: int) -> int:
    return 1 << (value - 1).bit_length()


PRESETS: Mapping[str, CoreConfig] = MappingProxyType({
    "tiny": CoreConfig(rows=4, cols=4, port_bytes=4, data_bytes=8192, weight_bytes=8192, parameter_bytes=2048),
    "base": CoreConfig(rows=8, cols=8),
    "full": CoreConfig(rows=12, cols=12, data_bytes=65536, weight_bytes=65536),
    "wide": CoreConfig(rows=16, cols=16, port_bytes=16, data_bytes=65536, weight_bytes=65536),
    "long": CoreConfig(rows=4, cols=16, data_bytes=32768, weight_bytes=32768),
})
"""Cores by name; design.md section 4 says what each fits."""


def core_from_toml(text: str) -> CoreConfig:
    """Read a core from TOML, keys as the fields of CoreConfig.

    Raises
    ------
    ValueError
        One sentence: the field, what was given, what is allowed.
    """
    try:
        return CoreConfig.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"not TOML: {error}") from None
    except RecursionError:
        raise ValueError("not a core: nested too deeply, keys must be flat") from None
    except ValidationError as error:
        raise ValueError(sentence(error)) from None


def load_core(name: str) -> CoreConfig:
    """A core by the name of its preset or the path of its TOML file.

    Raises
    ------
    ValueError
        If there is neither such a preset nor such a file, or the file is wrong.
    """
    if name in PRESETS:
        return PRESETS[name]
    path, allowed = Path(name), f"one of {', '.join(PRESETS)} or a TOML file"
    try:
        if not path.is_file():
            raise ValueError(f"core must be {allowed}, not {name!r}")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not TOML: not UTF-8 text") from None
    except OSError as error:
        raise ValueError(f"core must be {allowed} that can be read, not {name!r}: {error.strerror}") from None
    try:
        return core_from_toml(text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def sentence(error: ValidationError, fields: Iterable[str] = CoreConfig.model_fields) -> str:
    """The first fault of a validation as one sentence: field, what is allowed, what was given.

    The sentence on an unknown field names ``fields`` as those allowed, if there are any.
    """
    first = error.errors(include_url=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    field = ".".join(str(part) for part in first["loc"])
    if not field:
        return message
    if first["type"] == "missing":
        return f"{field}: {message}"
    if first["type"] == "extra_forbidden":
        allowed = ", ".join(fields)
        return f"{field}: no such field" + (f"; allowed are {allowed}" if allowed else "")
    return f"{field}: {message}, not {first['input']!r}"
