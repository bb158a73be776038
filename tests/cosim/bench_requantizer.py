"""The requantizer on its Verilog: corners and random operands, one a cycle, against 64-bit torch integers."""

import random

import cocotb
import torch
from clocking import start_clock_and_reset, unpacked
from cocotb.triggers import ReadOnly, RisingEdge
from integers import requantize

from systolith_hw.arith.requantizer import Requantizer

DUT = Requantizer(multiplier_latency=4)
LATENCY = 10


def operands(count, generator):
    """Random ones of every size, many of them exact ties, and every combination of extremes."""
    def pick(low, high):
        return torch.randint(low, high, (count,), generator=generator)

    narrow = torch.tensor([4, 10, 20, 32])[pick(0, 4)]
    acc = pick(-(1 << 31), 1 << 31) >> (32 - narrow)
    bias = pick(-(1 << 31), 1 << 31) >> (32 - narrow)
    mantissa = torch.where(pick(0, 2) == 0, pick(0, 1 << 16), torch.ones_like(acc) << pick(0, 16))
    shift = torch.where(pick(0, 3) == 0, pick(0, 64), (narrow + pick(-3, 12)).clamp(0, 63))
    columns = torch.stack([acc, bias, mantissa, shift, pick(-128, 128)], dim=1)
    low, high = -(1 << 31), (1 << 31) - 1
    corners = torch.cartesian_prod(*(torch.tensor(values) for values in (
        [low, -1, 0, 1, high], [low, 0, high], [0, 1, 32768, 65535], [0, 1, 31, 48, 63], [-128, 0, 127])))
    return torch.cat([columns, corners])


@cocotb.test(timeout_time=500, timeout_unit="us")
async def results_match_torch(dut):
    rows = operands(4000, torch.Generator().manual_seed(1))
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(2))]
    expected = requantize(*rows.unbind(1)).tolist()
    names = ("acc", "bias", "mantissa", "shift", "zero_point")
    words = [DUT.i.shape().const(dict(zip(names, row, strict=True))).as_bits() for row in rows.tolist()]
    rng, due = random.Random(3), {}
    await start_clock_and_reset(dut)
    number = cycle = 0
    while due or number < len(words):
        if number < len(words) and rng.random() < 0.9:
            dut.en.value, dut.i.value = 1, words[number]
            due[cycle + LATENCY] = number
            number += 1
        else:
            dut.en.value, dut.i.value = 0, rng.getrandbits(len(dut.i))
        await ReadOnly()
        if cycle in due:
            place = due.pop(cycle)
            assert unpacked(int(dut.o.value), 8, 1) == [expected[place]], rows[place].tolist()
        await RisingEdge(dut.clk)
        cycle += 1
