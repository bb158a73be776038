"""CoreConfig: presets, derived sizes, TOML, refusals in one sentence."""

import pytest
from pydantic import ValidationError

from systolith_hw.config import PRESETS, CoreConfig, core_from_toml, load_core

# name: rows, cols, scratchpad KiB (data, weights), accumulator KiB, port bytes.
TABLE = {"tiny": (4, 4, 8, 8, 16, 4), "base": (8, 8, 32, 32, 32, 8), "full": (12, 12, 64, 64, 48, 8),
         "wide": (16, 16, 64, 64, 64, 16), "long": (4, 16, 32, 32, 64, 8)}


def test_presets():
    assert set(PRESETS) == set(TABLE)
    for name, (rows, cols, data, weights, accumulator, port) in TABLE.items():
        core = PRESETS[name]
        assert (core.rows, core.cols, core.port_bytes) == (rows, cols, port), name
        assert (core.data_bytes, core.weight_bytes) == (data << 10, weights << 10), name
        assert core.acc_banks * core.acc_rows * core.cols * 4 == accumulator << 10, name
        assert core.weight_rows_per_cycle * core.cols >= (port if name != "wide" else 16), name
        assert core.peak_macs_per_cycle == rows * cols


@pytest.mark.parametrize("rows", [1, 3, 8, 12, 64])
@pytest.mark.parametrize("cols", [1, 5, 16, 63])
@pytest.mark.parametrize("port", [1, 8, 32])
def test_sizes(rows, cols, port):
    per_cycle = min(rows, 3)
    core = CoreConfig(rows=rows, cols=cols, port_bytes=port, weight_rows_per_cycle=per_cycle)
    sizes = core.sizes
    word = next(1 << n for n in range(10) if 1 << n >= max(rows, cols, port))
    assert sizes.data_word_bytes == word
    assert sizes.weight_word_bytes == next(1 << n for n in range(10) if 1 << n >= max(per_cycle * cols, port))
    assert sizes.weight_groups * per_cycle >= rows > (sizes.weight_groups - 1) * per_cycle
    assert core.requant_lanes == max(1, (cols + 3) // 4)
    assert sizes.requant_groups * core.requant_lanes >= cols > (sizes.requant_groups - 1) * core.requant_lanes
    for granule, block in ((sizes.read_granule, rows), (sizes.write_granule, cols)):
        assert granule == max(n for n in range(1, 65) if block % n == 0 and word % n == 0)
    # The largest partial sum is that of activations 255 and weights -128.
    assert rows * 255 * 128 <= 1 << (sizes.partial_sum_bits - 1)
    assert sizes.transfer_beats == 2 * sizes.burst_beats
    assert sizes.transfer_beats * port <= 4096


def test_toml_round_trip(tmp_path):
    core = CoreConfig(rows=3, cols=5, weight_rows_per_cycle=2, port_bytes=2, memory_latency=3)
    assert core_from_toml(core.to_toml()) == core
    path = tmp_path / "core.toml"
    path.write_text(core.to_toml())
    assert load_core(str(path)) == core
    assert load_core("wide") is PRESETS["wide"]


@pytest.mark.parametrize(("text", "message"), [
    ("rows = 8", "cols: Field required"),
    ("rows = 0\ncols = 8", "rows: Input should be greater than or equal to 1, not 0"),
    ("rows = 65\ncols = 8", "rows: Input should be less than or equal to 64, not 65"),
    ("rows = 8.0\ncols = 8", "rows: Input should be a valid integer, not 8.0"),
    ("rows = 8\ncols = true", "cols: Input should be a valid integer, not True"),
    ("rows = 8\ncols = 8\ndepth = 1", "depth: no such field; allowed are rows, cols, .*weights_per_pe"),
    ("rows = 8\ncols = 8\nport_bytes = 12", "port_bytes must be a power of two, not 12"),
    ("rows = 8\ncols = 8\ndata_bytes = 1000", "data_bytes must be a power of two, not 1000"),
    ("rows = 2\ncols = 8\nweight_rows_per_cycle = 3", "weight_rows_per_cycle must be <= rows = 2, not 3"),
    ("rows = 2\ncols = 2\nrequant_lanes = 3", "requant_lanes must be <= cols = 2, not 3"),
    ("rows = 64\ncols = 8\ndata_bytes = 256", r"data_bytes must be >= 512 \(4 words a bank\), not 256"),
    ("rows = 64\ncols = 64\nweight_bytes = 4096", r"weight_bytes must be >= 8192 \(two tiles\), not 4096"),
    ("rows = 2\ncols = 64\nparameter_bytes = 512", r"parameter_bytes must be >= 1024 \(two tiles\), not 512"),
    ("rows = 2\ncols = 2\nport_bytes = 1\nfetch_instructions = 16",
     r"fetch_instructions must be <= 8 \(a burst of 256 beats\), not 16"),
    ("rows = 8\ncols = 8\ndot = 2", "dot: Input should be 1, not 2"),
    ("rows = 8\ncols = 8\nweights_per_pe = 4", "weights_per_pe: Input should be 1, not 4"),
    ("rows = ", "not TOML: .*"),
])
def test_wrong_cores_are_refused_in_one_sentence(text, message):
    with pytest.raises(ValueError, match=f"^{message}$") as caught:
        core_from_toml(text)
    assert "\n" not in str(caught.value)


def test_wrong_names_and_files(tmp_path):
    with pytest.raises(ValueError, match=r"^core must be one of tiny, base, full, wide, long or a .*'big'$"):
        load_core("big")
    path = tmp_path / "core.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"core\.toml: not TOML: not UTF-8 text$"):
        load_core(str(path))
    path.write_text("rows = 1")
    with pytest.raises(ValueError, match=r"core\.toml: cols: Field required$"):
        load_core(str(path))


def test_frozen():
    with pytest.raises(ValidationError):
        PRESETS["base"].rows = 9  # pyright: ignore[reportAttributeAccessIssue]  # what must fail
