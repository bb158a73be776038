"""Random GEMMs on every core of the campaign: bits, cycles and stall counters (docs/how-to/repeat-the-campaign.md)."""

import pytest

from systolith_sim.verify.campaign import run_campaign
from systolith_sim.verify.cases import CAMPAIGN_CORES

SEED = 20


@pytest.mark.parametrize("core", CAMPAIGN_CORES)
def test_bits_cycles_and_stalls(core):
    """25 cases on each of 8 cores with the deterministic memory, and 5 with the random one."""
    exact = run_campaign(cases=25, seed=SEED, cores=(core,))
    assert (exact.bit_mismatches, exact.cycle_mismatches) == (0, 0), f"seed {SEED}: {exact.failures}"
    stalled = run_campaign(cases=5, seed=SEED, cores=(core,), stalls=True)
    assert (stalled.bit_mismatches, stalled.cycle_mismatches) == (0, 0), f"seed {SEED}: {stalled.failures}"
