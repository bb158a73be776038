"""One GEMM on the RTL: what is refused before any work, and slow memories."""

import pytest

from systolith_hw.config import PRESETS
from systolith_hw.timing import MemoryTiming
from systolith_sim.verify.gemm import check_product, run_gemm

TINY = PRESETS["tiny"]


@pytest.mark.parametrize(("shape", "message"), [
    ((0, 1, 1), r"^M must be >= 1, not 0$"),
    ((1, 65794, 1), r"^K must be in 1\.\.65793, not 65794$"),
    ((1 << 40, 1, 1), r"^M, K and N must need at most 4294967296 bytes of DRAM, not \d+ as 1099511627776 x 1 x 1 do$"),
    ((30_000, 60_000, 20_000), r"^M, K and N must take at most 4294967295 cycles, which the core can count, not \d+"),
])
def test_products_that_no_core_can_run(shape, message):
    m, k, n = shape
    with pytest.raises(ValueError, match=message):
        check_product(TINY, m, k, n, MemoryTiming())


def test_a_memory_slower_than_the_watchdog_is_no_deadlock():
    result = run_gemm("tiny", TINY, 3, 3, 3, memory=MemoryTiming(latency=TINY.watchdog_cycles))
    assert result.exact
    assert result.cycles > 2 * TINY.watchdog_cycles
