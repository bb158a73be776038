"""The table function, rule N7: any table, any port width, use and pass-through mixed."""

import numpy as np
import pytest
from bench import play

from systolith_hw import timing
from systolith_hw.arith.table import TableFunction
from systolith_hw.config import CoreConfig


@pytest.mark.parametrize("memory_latency", [2, 3])
@pytest.mark.parametrize(("slots", "port_bytes"), [(4, 8), (1, 1), (2, 32), (3, 4)])
def test_entries_and_passing_bytes(slots, port_bytes, memory_latency):
    rng = np.random.default_rng(slots * port_bytes)
    tables = rng.integers(-128, 128, (slots, 256)).astype(np.int8)
    words = np.frombuffer(tables.tobytes(), np.uint8).reshape(-1, port_bytes)
    cycles = [{"w_en": 1, "w_address": number, "w_data": int.from_bytes(word.tobytes(), "little")}
              for number, word in enumerate(words)] + [{"w_en": 0}]
    lookups = [(byte, 1, slot) for slot in range(slots) for byte in range(-128, 128)]
    lookups += rng.integers((-128, 0, 0), (128, 2, slots), (200, 3)).tolist()
    cycles += [{"i": byte, "use": use, "slot": slot} for byte, use, slot in lookups]
    latency = timing.table_latency(CoreConfig(rows=1, cols=1, requant_lanes=1, memory_latency=memory_latency))
    dut = TableFunction(slots=slots, port_bytes=port_bytes, memory_latency=memory_latency)
    seen = play(dut, cycles + [{}] * latency, "o")[len(words) + 1 + latency:]
    assert seen == [int(tables[slot][byte & 255]) if use else byte for byte, use, slot in lookups]


@pytest.mark.parametrize(("parameters", "message"), [
    ({"slots": 0, "port_bytes": 8}, "slots must be >= 1, not 0"),
    ({"slots": 4, "port_bytes": 6}, "port_bytes must be a power of two in 1..32, not 6"),
])
def test_parameters_are_checked(parameters, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        TableFunction(memory_latency=2, **parameters)
