"""The head of a queue against the rules T4 to T6, cycle by cycle."""

import random
from collections import deque

import pytest
from bench import simulate
from units import payload

from systolith_hw.config import CoreConfig
from systolith_hw.control.issue import Issue
from systolith_hw.isa import Opcode, Vector

CORE = CoreConfig(rows=2, cols=3, queue_depth=4)


def vector(rng):
    wait = rng.choice([0, 1 << rng.randrange(16), rng.getrandbits(16) & rng.getrandbits(16)])
    return Vector(acc_address=rng.randrange(64), m=rng.randint(1, 9), n=rng.randint(1, 3), data_address=0,
                  data_stride=0, parameter_address=0, wait=wait, post=rng.getrandbits(4))


def first_unmet(instruction, *, up, room):
    """One hot, in the order of rule T5."""
    if instruction is None:
        return 1
    missing = instruction.wait & ~up
    for queue in range(4):
        if missing >> 4 * queue & 15:
            return 2 << queue
    return 0 if room else 32


@pytest.mark.parametrize("seed", range(2))
def test_starts_and_stalls(seed):
    dut, rng = Issue(core=CORE, opcode=Opcode.VECTOR), random.Random(seed)
    totals = [0] * 6

    async def bench(ctx):
        queue, index, starts = deque(), 0, 0
        for _ in range(900):
            offered = vector(rng) if rng.random() < 0.5 else None
            free, room, run = rng.random() < 0.7, rng.random() < 0.8, rng.random() < 0.9
            up = rng.getrandbits(16) | rng.getrandbits(16) | rng.getrandbits(16)
            ctx.set(dut.i.valid, offered is not None)
            if offered:
                ctx.set(dut.i.payload, payload(CORE, offered, index=index))
            for signal, value in ((dut.unit.free, free), (dut.unit.room, room), (dut.run, run), (dut.up, up)):
                ctx.set(signal, value)
            head, head_index = queue[0] if queue else (None, 0)
            unmet = first_unmet(head, up=up, room=room)
            started = bool(run and free and not unmet)
            assert ctx.get(dut.unit.start) == started
            assert ctx.get(dut.lower) == (head.wait if head and started else 0)
            assert ctx.get(dut.busy) == (not free or started)
            assert ctx.get(dut.stall) == (unmet if free else 0)
            assert ctx.get(dut.waiting) == (head is not None)
            assert ctx.get(dut.i.ready) == (len(queue) < CORE.queue_depth)
            if head:
                assert ctx.get(dut.index) == head_index
                shown = ctx.get(dut.unit.instruction)
                expected = payload(CORE, head, index=head_index)
                assert {name: shown[name] for name in expected} == expected
            if free and unmet:
                totals[unmet.bit_length() - 1] += 1
            if offered and len(queue) < CORE.queue_depth:
                queue.append((offered, index))
                index += 1
            if started:
                queue.popleft()
                starts += 1
            await ctx.tick()
        assert starts > 50

    simulate(dut, bench)
    assert min(totals) > 2, totals
