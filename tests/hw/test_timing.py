"""The closed forms of docs/contracts/timing.md, written out a second time."""

import random

import pytest

from systolith_hw.config import PRESETS, CoreConfig
from systolith_hw.timing import (
    MemoryTiming,
    accumulate_latency,
    array_latency,
    fetch_beats,
    matmul_cycles,
    matmul_done,
    pass_cycles,
    read_latency,
    requant_groups,
    store_buffer_delay,
    stream_delay,
    transfers,
    vector_cycles,
    vector_done,
    vector_latency,
)


@pytest.mark.parametrize(("name", "array", "accumulate", "vector"), [
    ("base", 19, 4, 19), ("wide", 35, 4, 19)])
def test_values_of_the_contract(name, array, accumulate, vector):
    core = PRESETS[name]
    assert array_latency(core) == array
    assert accumulate_latency(core) == accumulate
    assert vector_latency(core) == vector


def random_core(rng):
    rows, cols = rng.randint(1, 20), rng.randint(1, 20)
    return CoreConfig(rows=rows, cols=cols, weight_rows_per_cycle=rng.randint(1, rows),
                      port_bytes=1 << rng.randint(0, 5), requant_lanes=rng.randint(1, cols),
                      memory_latency=rng.randint(2, 4), multiplier_latency=rng.randint(3, 8))


@pytest.mark.parametrize("seed", range(50))
def test_rules(seed):
    rng = random.Random(seed)
    core = random_core(rng)
    m, n = rng.randint(1, 40), rng.randint(1, core.cols)
    k_tiles, n_tiles = rng.randint(1, 5), rng.randint(1, 5)
    ml, groups = core.memory_latency, -(-core.rows // core.weight_rows_per_cycle)
    length = max(m, groups, ml + 2)
    assert pass_cycles(core, m=m) == length
    assert matmul_cycles(core, m=m, k_tiles=k_tiles, n_tiles=n_tiles) == k_tiles * n_tiles * length
    assert stream_delay(core) == groups + 2
    assert read_latency(core) == ml + 1
    for j in range(n_tiles):
        assert matmul_done(core, m=m, k_tiles=k_tiles, tile=j) == (
            groups + 2 + ((j + 1) * k_tiles - 1) * length + (m - 1) + (ml + 1)
            + (core.rows + core.cols + core.multiplier_latency - 1) + 1)
    g = -(-n // core.requant_lanes)
    assert requant_groups(core, n=n) == g
    assert vector_cycles(core, m=m, n=n) == m * g
    # Memory, row, group register; lane; table; collector, and the post a cycle later.
    assert vector_latency(core) == (ml + 1 + 1) + (core.multiplier_latency + 6) + (ml + 1) + 2
    assert vector_done(core, m=m, n=n) == m * g + vector_latency(core)
    assert store_buffer_delay(core) == ml + 2
    assert fetch_beats(core, instructions=3) == 96 // core.port_bytes


def test_transfers_are_at_most_4_kib_and_lose_no_beat():
    rng = random.Random(7)
    for _ in range(200):
        core = random_core(rng)
        port, rows = core.port_bytes, rng.randint(1, 9)
        row_bytes = port * rng.randint(1, 900)
        parts = transfers(core, dram_address=port * rng.randrange(5000),
                          dram_stride=port * rng.randrange(5000), rows=rows, row_bytes=row_bytes)
        assert sum(part.beats for part in parts) * port == rows * row_bytes
        assert all(part.beats * port <= 4096 for part in parts)
        assert all(part.beats > core.sizes.burst_beats for part in parts[:-1])


@pytest.mark.parametrize(("field", "value"), [("latency", 0), ("burst_overhead", -1), ("write_latency", 0)])
def test_memory_is_checked(field, value):
    with pytest.raises(ValueError, match=rf"^{field} must be in [01]..1048576, not {value}$"):
        MemoryTiming(**{field: value})


def test_a_pass_has_rows():
    with pytest.raises(ValueError, match=r"^m must be >= 1, not 0$"):
        pass_cycles(PRESETS["base"], m=0)
