"""The race detector sees what it is for."""

from dataclasses import replace

import numpy as np
import pytest
from compiler.cases import CORES, activations, layer
from compiler.interpreter import Interpreter, RaceError

from systolith_hw.isa import QUEUES, Matmul
from systolith_sim.compiler import Tiling, chain, plan_gemm


def program(name, shape, tiling):
    rng = np.random.default_rng(5)
    a, data = activations(rng, *shape[:2]), layer(rng, *shape[1:])
    plan = plan_gemm(CORES[name], *shape, table=data.table is not None, signed=data.signed,
                     zero_point=data.zero_point, tiling=tiling)
    return chain(CORES[name], a, [data], plan=plan)


BASE = ("base", (96, 700, 40), Tiling(rows=32, first_rows=32, last_rows=32, tiles=2, k_tiles=30,
                                      group_columns=16, outer="n"))
ONE_BANK = ("8x8", (40, 60, 40), Tiling(rows=8, first_rows=8, last_rows=8, tiles=2, k_tiles=4,
                                        group_columns=16, outer="m"))


def without(whole, producer, consumer):
    """The program without the semaphore by which one queue waits for another."""
    bit = 1 << 4 * producer + consumer
    return replace(whole, instructions=tuple(
        replace(i, wait=i.wait & ~bit, post=i.post & ~((QUEUES.index(i.queue) == producer) << consumer))
        for i in whole.instructions))


@pytest.mark.parametrize(("case", "spare"), [
    pytest.param(BASE, {("load", "vector")}, id="base"),
    pytest.param(ONE_BANK, {("vector", "matmul"), ("store", "vector")}, id="one bank")])
def test_every_kind_of_wait_is_needed(case, spare):
    whole = program(*case)
    bits = {bit for i in whole.instructions for bit in range(16) if i.wait >> bit & 1}
    assert len(bits) >= 6
    for bit in bits:
        producer, consumer = divmod(bit, 4)
        if (QUEUES[producer], QUEUES[consumer]) in spare:  # implied by the others
            continue
        assert producer != consumer
        with pytest.raises(RaceError):
            Interpreter(CORES[case[0]], without(whole, producer, consumer)).run()


def test_adding_to_rows_of_another_pass_is_seen():
    whole = program(*BASE)
    broken = tuple(replace(i, m=i.m - 1) if isinstance(i, Matmul) and i.accumulate else i
                   for i in whole.instructions)
    with pytest.raises(RaceError, match="pass of another shape"):
        Interpreter(CORES["base"], replace(whole, instructions=broken)).run()
