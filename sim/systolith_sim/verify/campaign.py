"""Many random GEMMs on a fixed list of cores; any number of them from a seed."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from systolith_hw.config import CoreConfig
from systolith_hw.timing import MemoryTiming
from systolith_sim.cycle import RandomStalls, simulate
from systolith_sim.engine.build import Build, build_core
from systolith_sim.engine.memory import Stalls
from systolith_sim.verify.cases import CAMPAIGN_CORES, campaign_core, expected, random_gemm
from systolith_sim.verify.gemm import Progress, compile_case, execute, stalls_of
from systolith_sim.verify.results import CampaignResult

LONG_RUN = 20_000
"""Cycles from which on a run counts for the model's error with random stalls."""
LARGEST = 300
"""Largest M, K and N of a case."""


@dataclass
class _Tally:
    cores: dict[str, int] = field(default_factory=dict)
    cycles: int = 0
    bits: int = 0
    timing: int = 0
    errors: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def draw(seed: int, core: int, case: int) -> tuple[int, int, int]:
    """M, K and N of a case; small sizes are as likely as large ones."""
    rng = np.random.default_rng([seed, core, case])
    m, k, n = (int(rng.integers(1, rng.choice([8, 40, LARGEST]) + 1)) for _ in range(3))
    return m, k, n


def run_campaign(*, cases: int, seed: int = 0, stalls: bool = False, cores: tuple[str, ...] = CAMPAIGN_CORES,
                 progress: Progress = lambda what, done, total: None) -> CampaignResult:
    """Run ``cases`` random GEMMs, dealt evenly over ``cores``.

    Parameters
    ----------
    stalls : bool
        With the random memory: the model plays the waits of each seed, and is also asked for an estimate that knows
        only their mean.
    cores : tuple of str
        Entries as in ``CAMPAIGN_CORES``.
    """
    if cases < 1:
        raise ValueError(f"cases must be >= 1, not {cases}")
    tally, done = _Tally(), 0
    for number, text in enumerate(cores):
        core = campaign_core(text)
        share = len(range(number, cases, len(cores)))
        if not share:
            continue
        build = build_core(core, report=lambda what, text=text, done=done: progress(f"{text}: {what}", done, cases))
        for case in range(share):
            _run_case(build, core, text, (seed, number, case), stalls, tally)
            done += 1
            progress(text, done, cases)
    return CampaignResult(
        seed=seed, stalls=stalls, cores=tally.cores, cases=done, cycles=tally.cycles, bit_mismatches=tally.bits,
        cycle_mismatches=tally.timing, model_error=float(np.mean(tally.errors)) if tally.errors else None,
        long_runs=len(tally.errors), failures=tally.failures)


def _run_case(build: Build, core: CoreConfig, text: str, place: tuple[int, int, int], stalls: bool, tally: _Tally
              ) -> None:
    m, k, n = draw(*place)
    case, memory = random_gemm(m, k, n, seed=place), MemoryTiming()
    random = Stalls(seed=place[2]) if stalls else None
    program = compile_case(core, case, memory, play=False)
    status, y, _ = execute(build, program, memory, stalls=random)
    # With random stalls the model plays the very waits of the seed; the estimate below knows only their mean.
    model = simulate(core, program.instructions, memory, stalls=random and RandomStalls.of(random))
    counters = {queue: dict(causes) for queue, causes in status.counters.items()}
    bits = np.array_equal(y, expected(case))
    timing = status.cycles == model.cycles and stalls_of(counters) == stalls_of(model.counters)
    tally.cores[text] = tally.cores.get(text, 0) + 1
    tally.cycles += status.cycles
    tally.bits += not bits
    tally.timing += not timing
    if random is not None and status.cycles >= LONG_RUN:
        mean = RandomStalls(probability=random.probability, longest=random.longest)
        estimate = simulate(core, program.instructions, memory, stalls=mean).cycles
        tally.errors.append(abs(estimate / status.cycles - 1))
    if not (bits and timing):
        tally.failures.append(f"{text}: case {place}, {m} x {k} x {n}: {status.cycles} cycles, model {model.cycles}")


def lines(result: CampaignResult) -> Iterator[str]:
    """The result for people."""
    kind = "random stalls" if result.stalls else "deterministic memory"
    yield f"{result.cases} cases, seed {result.seed}, {kind}, {result.cycles:,} RTL cycles"
    yield f"bit mismatches {result.bit_mismatches}, cycle or stall counter mismatches {result.cycle_mismatches}"
    if result.stalls and result.model_error is not None:
        yield (f"estimate from mean waits off by {100 * result.model_error:.2f} % on average "
               f"over {result.long_runs} runs of at least {LONG_RUN:,} cycles")
    yield from result.failures
