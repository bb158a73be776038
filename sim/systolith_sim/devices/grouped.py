"""Products of routed experts on a GPU: rows gathered by expert into tiles, one matrix of weights an expert.

Form and constants: docs/reference/kernel-cost.md. A library picks its tile by how many tokens it sees, or from its
tuned shapes; waves, operands and memory are those of any product (``gemm.tiled_gemm``).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache, cached_property
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from systolith_sim.devices.gemm import K_STEP, Array, Grouping, Machine, Terms, tiled_gemm
from systolith_sim.devices.tiles import NARROW, TileConstants

HEIGHTS = (16, 32, 64, 128)
"""Rows of the tiles that rows of one expert fill, the last one padded."""
ALIGNED = 16
"""Depths that this does not divide are read element by element (Triton specializes on it)."""
ELEMENT_BYTES = 2.0


@dataclass(frozen=True)
class Routing:
    """Where the rows of grouped products go: arrays of equal length, means where routings vary."""

    rows: Array
    """Rows of all experts that the device holds."""
    active: Array
    """Of these experts, those that have rows."""
    tiles: Mapping[int, Array]
    """By tile height, tiles that the rows fill when each expert's are padded to whole ones."""
    tokens: Array
    """Tokens that the library sees in one call, wherever their experts stand."""
    held: Array
    """Experts whose weights the device holds."""

    @classmethod
    def even(cls, *, rows: float, active: float, tokens: float, held: float) -> "Routing":
        """Each of ``active`` experts with the same share of the rows."""
        each = rows / max(active, 1)
        tiles = {height: np.array([active * np.ceil(each / height)]) for height in HEIGHTS}
        return cls(
            rows=np.array([float(rows)]), active=np.array([float(active)]), tiles=tiles,
            tokens=np.array([float(tokens)]), held=np.array([float(held)]),
        )  # fmt: skip

    def part(self, chosen: NDArray[np.intp]) -> "Routing":
        """The entries that an index chooses."""
        kept = {item.name: getattr(self, item.name)[chosen] for item in fields(self) if item.name != "tiles"}
        return Routing(**kept, tiles={height: tiles[chosen] for height, tiles in self.tiles.items()})


@dataclass(frozen=True)
class GroupedLibrary:
    """One library's grouped products in 16 bits; shares are of what single products reach on the same device."""

    rate_share: float
    """Rate of a unit's multiplications, against that of the largest tile of a single product."""
    tuned_rate_share: float
    """The same of the shapes it is tuned for."""
    sharpness: float
    """Exponent of the smooth maximum of multiplications and memory; 1 hides nothing."""
    bandwidth_share: float
    """Share of the sustained memory bandwidth that weights arrive at."""
    step_share: float
    """Latency of one step of the K loop, however deep, against a step of 64 of a single product."""
    gather_loss: float
    """Time that multiplications lose where rows are gathered from far more than ``gather_reach_bytes``."""
    gather_reach_bytes: float
    """Bytes that rows are gathered from without a loss; beyond, the share outside loses."""
    unaligned_s: float
    """Seconds of one unit for each element that it reads alone."""
    sort_s_per_expert: float
    """Sorting the rows by expert, for each expert of the layer."""
    few: tuple[int, int, int] = (16, 32, 64)
    """Tile (m, n, depth of a step) where the tokens are no more than the experts held."""
    many: tuple[int, int, int] = (64, 64, 32)
    """Tile where they are more."""
    tuned_tiles: tuple[tuple[int, int], ...] = ()
    """Tiles (m, n) of tuned shapes, which take what suits them best."""
    tuned_depth: int = 64
    """Depth of a step of theirs."""
    tuned: frozenset[tuple[int, int]] = frozenset()
    """(experts held, width of one expert) that the library brings tuned tiles for."""
    resident_tiles: int = 8
    """Most tiles resident on one unit."""
    resident_area: float = 5 * 64 * 64
    """Elements of output that they share."""

    @cached_property
    def constants(self) -> TileConstants:
        """As ``tiled_gemm`` takes them: every tile multiplies at one rate, a single row has no kernel of its own."""
        return replace(
            NARROW, tile_loss=0.0, vector_steps=0.0, resident_max=self.resident_tiles,
            resident_area=self.resident_area, memory_sharpness=self.sharpness,
        )  # fmt: skip


Shapes = dict[int, tuple[int, ...]]
_TUNED: dict[str, Shapes] = {
    "a100-40": {8: (1792, 3584), 16: (1344,)},
    "a100-80": {
        1: (1792, 3584, 7168, 14336), 8: (1792, 2048, 3584, 4096, 7168), 64: (640, 1280), 128: (192,), 512: (64, 128),
        16: (1344, 1792, 2688, 3584, 7168, 14336),
    },
    "h100-sxm": {
        1: (3072,), 8: (1792, 2048, 3584, 4096, 7168), 16: (1344, 1792, 2688), 62: (256, 512), 64: (320, 640, 1280),
        72: (384, 768), 128: (192, 512, 928, 1856), 256: (512,), 512: (128, 256, 512),
    },
    "h200": {
        8: (1792, 2048, 3584, 4096, 7168, 14336), 16: (1024, 2048), 64: (320, 640, 1280, 2560),
        128: (192, 384, 768, 1024), 512: (64, 128, 256, 512),
    },
    "b200": {16: (1024,), 32: (1408,), 64: (1408,), 128: (768,), 512: (64, 128, 256, 512)},
    "l40s": {8: (3584,), 128: (928, 1856)},
    "mi300x": {
        8: (1792, 2048, 3584, 4096, 7168, 8192, 14336, 16384), 16: (1024,), 60: (176, 352, 704, 1408),
        62: (128, 256, 512), 72: (192, 384, 768), 128: (1024,), 160: (192,),
    },
    "mi325x": {8: (1792, 2048, 3584, 4096, 7168, 8192, 14336, 16384)},
}  # fmt: skip


def _pairs(shapes: Shapes) -> frozenset[tuple[int, int]]:
    return frozenset((experts, width) for experts, widths in shapes.items() for width in widths)


TUNED: Mapping[str, frozenset[tuple[int, int]]] = MappingProxyType(
    {device: _pairs(shapes) for device, shapes in _TUNED.items()}
)
"""By device, (experts held, width of one expert) that vLLM 0.14's release brings a tuned file for in 16 bits."""
VLLM = GroupedLibrary(
    rate_share=0.5082, tuned_rate_share=0.6945, sharpness=1.373, bandwidth_share=1.2, step_share=1.555,
    gather_loss=0.9716, gather_reach_bytes=7.871e7, unaligned_s=1.15e-10, sort_s_per_expert=7.927e-8,
    tuned_tiles=tuple((m, n) for m in HEIGHTS for n in (32, 64, 128, 256) if m * n <= 128 * 128),
    tuned=TUNED["a100-80"],
)  # fmt: skip
"""vLLM 0.14's Triton kernel on A100, fitted by benchmarks/fit_moe.py. Its tiles are facts of its release; the
bandwidth share is set so that weights arrive at 0.91 of the peak."""


@cache
def library_on(device: str) -> GroupedLibrary:
    """The library with the shapes it is tuned for on a device, by id; none where the release has no file."""
    return replace(VLLM, tuned=TUNED.get(device, frozenset()))


def grouped_gemm(
    machine: Machine,
    library: GroupedLibrary,
    routing: Routing,
    *,
    k: ArrayLike,
    n: ArrayLike,
    width: ArrayLike,
    gathered_bytes: ArrayLike,
    reuse_bytes: ArrayLike,
    weight_bytes: float = ELEMENT_BYTES,
) -> Terms:
    """Seconds of one grouped product in 16 bits: each expert's rows (rows, k) by its matrix (k, n).

    Parameters
    ----------
    width : array_like
        Width of one expert, by which the library knows a tuned shape.
    gathered_bytes : array_like
        Bytes of the tensor that the rows of a tile are picked from.
    reuse_bytes : array_like
        Bytes that pass before the same weights are read again.
    weight_bytes : float
        Of one weight, which may be stored in fewer bits than it is multiplied in.
    """
    given = np.broadcast_arrays(routing.rows, *(np.asarray(item, float) for item in (k, n, width, gathered_bytes)))
    sizes = np.array([*given[1:], np.broadcast_to(np.asarray(reuse_bytes, float), given[0].shape)])
    found = np.empty((4, len(routing.rows)))
    for chosen, heights, depth, tuned in _plans(library, routing, sizes[2]):
        part, best = routing.part(chosen), None
        for height, widths in heights.items():
            terms = _tiles(machine, library, part, sizes[:, chosen], height, widths, depth, tuned, weight_bytes)
            now = np.array([terms.total_s, terms.launch_s, terms.compute_s, terms.memory_s])
            best = now if best is None else np.where(now[0] < best[0], now, best)
        found[:, chosen] = best
    return Terms(*found)


Plan = tuple[NDArray[np.intp], Mapping[int, tuple[int, ...]], int, bool]
"""Entries, widths of tiles by height, depth of a step, whether tuned."""


def _plans(library: GroupedLibrary, routing: Routing, width: Array) -> Iterator[Plan]:
    known = zip(routing.held.tolist(), width.tolist(), strict=True)
    tuned = np.array([(int(held), int(wide)) in library.tuned for held, wide in known])
    few = ~tuned & (routing.tokens <= routing.held)
    by_height = {m: tuple(n for other, n in library.tuned_tiles if other == m) for m, _ in library.tuned_tiles}
    for mask, (m, n, depth) in ((few, library.few), (~tuned & ~few, library.many)):
        if mask.any():
            yield np.flatnonzero(mask), {m: (n,)}, depth, False
    if tuned.any():
        yield np.flatnonzero(tuned), by_height, library.tuned_depth, True


def _tiles(
    machine: Machine,
    library: GroupedLibrary,
    routing: Routing,
    sizes: Array,
    height: int,
    widths: tuple[int, ...],
    depth: int,
    tuned: bool,
    weight_bytes: float,
) -> Terms:
    """Terms with tiles of one height; ``sizes`` are k, n, width, gathered and reuse bytes."""
    k, n, _, gathered, reuse = sizes
    own = replace(
        machine,
        compute_efficiency=machine.compute_efficiency * (library.tuned_rate_share if tuned else library.rate_share),
        memory_efficiency=machine.memory_efficiency * library.bandwidth_share,
        k_step_s=machine.k_step_s * library.step_share * K_STEP / depth,
        feed_bytes_per_s=np.inf,  # the rate is that of tiles that read their operands
    )
    outside = np.clip(1 - library.gather_reach_bytes / np.maximum(gathered, 1.0), 0.0, None)
    slower = 1 + (0.0 if tuned else library.gather_loss) * outside
    # Of the widths, the narrowest stands for what a tile reads for each element it multiplies.
    rate = own.compute_efficiency * own.peak_ops_per_s / own.units
    alone = library.unaligned_s * (height + widths[0]) * rate / (2 * height * widths[0])
    tiles = routing.tiles[height]
    return tiled_gemm(
        own, batch=tiles, m=np.where(tiles > 0, routing.rows / np.maximum(tiles, 1e-9), 1.0), k=k, n=n,
        input_bytes=ELEMENT_BYTES, weight_bytes=weight_bytes, output_bytes=ELEMENT_BYTES, reuse_bytes=reuse,
        candidates=np.array([(height, wide, 1) for wide in widths], float), constants=library.constants,
        grouping=Grouping(routing.active, slower + alone * (k % ALIGNED != 0)),
    )  # fmt: skip

