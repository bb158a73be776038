"""Device: one machine as data, every figure with its source and confidence.

The TOML of a device has exactly these fields. A figure is a table ``{ value, source, confidence }``, where
``source`` is a key of ``[sources]``; see docs/how-to/add-a-device.md.
"""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from systolith_model.graph import Format
from systolith_sim.devices.figures import Confidence, Datum, Figure, How, Strict
from systolith_sim.devices.parameters import CollectiveParameters, CustomParameters, LinkError

DeviceKind = Literal["cpu", "gpu", "tpu", "fpga"]
Regime = Literal["launch", "memory", "compute"]
REGIMES: tuple[Regime, ...] = ("launch", "memory", "compute")
Operator = Literal["matmul", "grouped", "attention", "streaming"]


class Units(Strict):
    """The identical units work is dealt to: SMs of a GPU, cores of a CPU, matrix units of a TPU."""

    name: str
    """What the vendor calls one."""
    count: PositiveInt
    """How many work in parallel."""
    source: str
    """Key of ``sources`` for the count."""
    confidence: Literal["read", "measured", "derived", "recalled"]
    """How the count is known."""
    clock_hz: Datum | None = None
    """Clock under load."""
    array_rows: PositiveInt | None = None
    """Rows of one matrix unit, along K; systolic machines only."""
    array_cols: PositiveInt | None = None
    """Columns of one matrix unit, along N; systolic machines only."""


class Memory(Strict):
    """One level of memory, shared by all units."""

    name: str
    """Technology, such as HBM3."""
    size_bytes: Datum
    """Capacity."""
    bandwidth_bytes_per_s: Datum
    """Peak of the datasheet, or the best measured rate; read and write together."""
    latency_s: Datum | None = None
    """One dependent access."""
    parts: PositiveInt = 1
    """Of a cache: parts that each keep their own copy of what the units at their side read."""
    energy_j_per_byte: Datum | None = None
    """Dynamic energy of one byte moved, with what lies between this memory and the units."""


class Link(Strict):
    """A connection to other devices or to a host."""

    name: str
    """Standard and width."""
    bandwidth_bytes_per_s: Datum
    """One direction."""
    latency_s: Datum | None = None
    """Smallest message."""
    collective: CollectiveParameters | None = None
    """Collectives of a library over it; without it, from the class of links."""
    custom: CustomParameters | None = None
    """An engine's own all-reduce over it."""


class Power(Strict):
    """Power of the device without its host."""

    tdp_w: Datum | None = None
    """Limit the vendor states; average power is never modelled above it."""
    idle_w: Datum | None = None
    """Powered, no work."""
    active_w: Datum | None = None
    """Floor while kernels run, before operations and bytes are counted; without it, ``idle_w``, on a GPU times the
    ratio of its class."""
    random_ops_per_s: Datum | None = None
    """Operations a second of a product of random bf16 matrices of 8192 x 8192, which the limit slows down; tables of
    products are measured with unfilled weights, mostly zeros, which draw less power."""


class Host(Strict):
    """The machine around the devices, with everything that draws power beside them, down to its supply's losses."""

    name: str
    """What it is."""
    devices: PositiveInt = 1
    """How many of the device share it."""
    load_w: Datum
    """Of the whole machine without its devices, while these work; 0 where ``power`` is that of the whole machine."""
    idle_w: Datum | None = None
    """The same while they wait; without it, ``load_w``."""


class FormatParameters(Strict):
    """What differs for one format, where a library has a kernel of its own for it."""

    launch_s: Datum | None = None
    """As in ``KernelParameters``."""
    compute_efficiency: Datum | None = None
    """As in ``KernelParameters``."""
    feed_bytes_per_s: Datum | None = None
    """As in ``KernelParameters``."""
    sequence_factor: Datum | None = None
    """Seconds to start an operation among others over those to start it again and again; measured machines only."""
    cold_factor: Datum | None = None
    """The same, of operations without products, behind weights that pushed their code and data out of the caches."""
    quantize_s_per_element: Datum | None = None
    """Seconds to quantize one element of the activations."""
    library: str = ""
    """Key of ``quantized.LIBRARIES``: whose kernels multiply in this format; without one, those of wider formats."""


class AttentionParameters(Strict):
    """Fused attention by one library on one device."""

    library: Literal["flash-attention-2", "flash-attention-3", "ragged-paged-attention"]
    """Whose tiles and planning; ``attention.LIBRARIES`` says what each does on a GPU, ``ragged`` on a TPU."""
    launch_s: Datum
    """Start to end of a fused attention that does nothing, without the kernel that writes the cache."""
    efficiency: Datum
    """Share of the peak rate that a thread block's products reach."""
    start_s: Datum
    """Start and end of one thread block, as one unit sees it; of one sequence on a TPU."""
    stream_share: Datum | None = None
    """Share of the main memory's bandwidth that keys and values arrive at; TPUs only."""
    quantized_launch_s: Datum | None = None
    """Added to ``launch_s`` where the cache is quantized."""


class Curve(Strict):
    """Seconds measured at growing sizes; between and beyond them a power law (``devices/curves.py``)."""

    at: tuple[PositiveFloat, ...]
    """Sizes, ascending."""
    seconds: tuple[PositiveFloat, ...]
    """Measured at each size, or seconds a weight where the curve is a product's."""
    source: str
    """Key of ``sources``."""
    weights: tuple[PositiveInt, PositiveInt] | None = None
    """(k, n) of the weights where the curve is a product's."""

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if not self.at or len(self.at) != len(self.seconds) or list(self.at) != sorted(set(self.at)):
            raise ValueError("at must ascend and be as long as seconds")
        return self


class KernelParameters(Strict):
    """Physical parameters of the kernel cost models; docs/reference/kernel-cost.md says what each means."""

    launch_s: Datum
    """Start to end of a kernel that does nothing, replayed without the host."""
    compute_efficiency: Datum
    """Share of the peak rate a full unit sustains."""
    memory_efficiency: Datum
    """Share of the main memory's bandwidth a long stream sustains."""
    feed_bytes_per_s: Datum
    """Operand bytes one unit can take in per second."""
    k_step_s: Datum
    """Latency of one dependent step of 64 along K."""
    streaming_efficiency: Datum | None = None
    """Share of the main memory's bandwidth that a library's norms and elementwise kernels reach; without it,
    ``memory_efficiency`` and the caches count."""
    split_least_products: PositiveInt | None = None
    """Multiply-adds below which the library of this device does not split K; without it, it always may."""
    split_least_depth: PositiveFloat | None = None
    """K over the larger of m and n below which it does not split where the smaller is at most one small tile (64)."""
    formats: dict[str, FormatParameters] = Field(default_factory=dict)
    """By format, what differs; ``fp8_block`` is fp8 with a scale per block of weights."""
    attention: AttentionParameters | None = None
    """Fused attention; without it, two products and a pass over keys and values."""
    curves: dict[str, Curve] = Field(default_factory=dict)
    """A calibrated machine's own measurements, by operation and format; they stand before the parameters."""


class CorePart(Strict):
    """This project's core on an FPGA: its cycles come from the cycle model, at a stated clock."""

    preset: str
    """Preset of ``CoreConfig`` that fits the part."""
    clock_hz: Datum
    """Clock that turns cycles into seconds."""


class RegimeError(Strict):
    """Scored error of one kind of operation in one regime: interval of measured over predicted seconds."""

    operator: Operator
    """Kind of operation scored."""
    format: str = ""
    """Format it was scored in, as in ``KernelParameters.formats``; empty for bf16 and fp16."""
    regime: Regime
    """What the model said bounds the operation."""
    case: str = ""
    """What else tells rows apart: weights that are ``hot`` or ``cold`` in the last cache (products), ``prefill`` or
    ``decode`` (attention); empty for all."""
    low: Annotated[float, Field(gt=0, le=1)]
    """Lower end of what 90 % of other measurements over predictions lie in, at most 1."""
    high: Annotated[float, Field(ge=1)]
    """Upper end, at least 1."""
    mape: Annotated[float, Field(ge=0)]
    """Mean of abs(predicted / measured - 1)."""
    rows: PositiveInt
    """Measured rows the interval was set on; docs/reference/kernel-cost.md says how."""
    source: str
    """Key of ``sources``."""


class Achieved(Strict):
    """Published shares of a device's peaks, in place of its class's; the rest stays the class's."""

    compute: Datum | None = None
    """Share of the peak rate that large products reach."""
    memory: Datum | None = None
    """Share of the main memory's bandwidth that long streams reach."""


class Device(Strict):
    """One machine. Peak rates are dense and count two operations a multiply-accumulate."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
    """Short name, as used on the command line."""
    name: str
    """Full name."""
    kind: DeviceKind
    """Chooses the kernel models and the class its missing parameters come from."""
    aliases: tuple[str, ...] = ()
    """Other names it answers to."""
    note: str = ""
    """What a reader must know before trusting the figures."""
    sources: dict[str, str]
    """Documents and measurements, by the key the figures use."""
    units: Units
    """Parallel units."""
    peak_ops_per_s: dict[Format, Datum] = Field(default_factory=dict)
    """Peak rate by format of the operands; a format that is absent is computed in a wider one."""
    memories: dict[str, Memory]
    """By level, ``main`` and any caches (``l2``, ``l3``), whose bandwidth counts where a working set fits."""
    eager_launch_s: Datum | None = None
    """Time per small operation when a framework launches each from the host."""
    links: dict[str, Link] = Field(default_factory=dict)
    """To other devices and the host."""
    power: Power = Power()
    """Without the host."""
    host: Host | None = None
    """What is around it; without it, not known."""
    op_energy_j: dict[str, Datum] = Field(default_factory=dict)
    """Dynamic energy of an operation (half a multiply-accumulate) by format; of an event for an FPGA core."""
    price_usd_per_hour: Datum | None = None
    """On demand, one device; goes stale fast."""
    price_usd: Datum | None = None
    """Of a board, bought."""
    kernel: KernelParameters | None = None
    """Fitted on measurements of this device; without it, from ``same_die``, or its class and its peak rates."""
    same_die: str = ""
    """Packaged device with the same units at the same power, whose kernel parameters hold here too."""
    achieved: Achieved | None = None
    """What others reached on it, where it has no ``kernel`` of its own."""
    core: CorePart | None = None
    """This project's core on the part, instead of kernel parameters; FPGAs only."""
    errors: tuple[RegimeError, ...] = ()
    """Scored on measurements of this device; without it, its class's, which are wider."""
    link_errors: tuple[LinkError, ...] = ()
    """Collectives scored on measurements of this device; without it, those of the class of links."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if "main" not in self.memories:
            raise ValueError(f"memories must hold 'main', not only {', '.join(self.memories) or 'nothing'}")
        if not self.peak_ops_per_s:
            raise ValueError("peak_ops_per_s must hold at least one format")
        if self.core is not None and self.kind != "fpga":
            raise ValueError(f"core is for kind 'fpga' alone, not {self.kind!r}")
        for path, source in named_sources(self):
            if source not in self.sources:
                known = ", ".join(self.sources)
                raise ValueError(f"{path}: source {source!r} is not a key of sources ({known})")
        return self

    @property
    def main_memory(self) -> Memory:
        """The level that holds the model."""
        return self.memories["main"]

    def cite(self, datum: Datum) -> str:
        """Source of a figure in words, with its confidence."""
        return f"{self.sources[datum.source]} ({datum.confidence})"


def figures_of(item: object, path: str = "") -> Iterator[tuple[str, Datum]]:
    """Every figure below a model, with its dotted path as in the TOML."""
    if isinstance(item, Datum):
        yield path, item
    elif isinstance(item, Strict):
        for name in type(item).model_fields:
            yield from figures_of(getattr(item, name), f"{path}.{name}" if path else name)
    elif isinstance(item, dict):
        for key, value in item.items():
            yield from figures_of(value, f"{path}.{key}")


UNITS = {
    "ops_per_s": "op/s", "bytes_per_s": "B/s", "j_per_byte": "J/B", "usd_per_hour": "USD/h", "usd": "USD",
    "bytes": "B", "hz": "Hz", "j": "J", "w": "W", "s": "s",
}  # fmt: skip
"""Units by the end of a field's name; a name without one is a plain number."""
ORIGINS: dict[Confidence, How] = {
    "read": "published", "recalled": "published", "derived": "derived", "measured": "measured",
}  # fmt: skip
"""How a figure of a file was obtained, by its confidence."""


def published_figures(device: Device) -> dict[str, Figure]:
    """Figures of a device with unit, interval and source, by dotted path; without the fitted constants."""
    return {
        path: Figure(
            value=datum.value,
            unit=unit_of(path),
            how=ORIGINS[datum.confidence],
            source=device.cite(datum) + (f": {datum.note}" if datum.note else ""),
            low=datum.interval[0],
            high=datum.interval[1],
        )
        for path, datum in figures_of(device)
        if not path.startswith("kernel.") and ".collective." not in path and ".custom." not in path
    }


def unit_of(path: str) -> str:
    """Unit that the name of a field states.

    >>> unit_of("peak_ops_per_s.bf16"), unit_of("memories.main.energy_j_per_byte"), unit_of("power.tdp_w")
    ('op/s', 'J/B', 'W')
    """
    for part in reversed(path.split(".")):
        for end, unit in UNITS.items():
            if part.endswith(f"_{end}"):
                return unit
    return ""


def named_sources(device: Device) -> Iterator[tuple[str, str]]:
    """Every place of a device that names a source: (dotted path, key)."""
    yield "units", device.units.source
    for path, datum in figures_of(device):
        yield path, datum.source
    for index, error in enumerate(device.errors):
        yield f"errors.{index}", error.source
    for name, curve in (device.kernel.curves if device.kernel else {}).items():
        yield f"kernel.curves.{name}", curve.source
    for index, error in enumerate(device.link_errors):
        yield f"link_errors.{index}", error.source
