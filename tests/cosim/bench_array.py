"""The array on its Verilog: random tiles, rows, gaps; every sum against a torch product, in its cycle."""

import os
import random

import cocotb
import torch
from clocking import packed, start_clock_and_reset, unpacked
from cocotb.triggers import ReadOnly, RisingEdge

SHAPES = {"3x5_2": (3, 5, 2), "4x1_1": (4, 1, 1)}
"""Rows, columns, weight rows per cycle."""
MULTIPLIER_LATENCY = 4


def plan(rows, cols, per_cycle, *, passes, gap, seed):
    """What to drive in each cycle, and the products by the cycle in which they must leave.

    The groups of a tile enter in the cycles before its swap, its rows from the cycle after the swap on; the
    next tile may begin to load in the cycle of the swap.
    """
    rng, torch_rng = random.Random(seed), torch.Generator().manual_seed(seed)
    groups = -(-rows // per_cycle)
    drive, results, swap, stream_end = {}, {}, 0, 0
    for _ in range(passes):
        weights = torch.randint(-128, 128, (rows, cols), generator=torch_rng)
        lanes = torch.zeros(groups * per_cycle, cols, dtype=torch.int64)
        lanes[:rows] = weights
        swap = max(swap + groups, stream_end - 1) + rng.randint(0, gap)
        for group in range(groups):
            word = lanes[group * per_cycle:(group + 1) * per_cycle].flatten().tolist()
            drive.setdefault(swap - groups + group, {})["w"] = group, word
        drive.setdefault(swap, {})["swap"] = True
        m = rng.choice([1, 2, 7])
        low, high = rng.choice([(0, 256), (-128, 128), (255, 256), (-128, -127)])
        block = torch.randint(low, high, (m, rows), generator=torch_rng)
        for row, products in enumerate((block @ weights).tolist(), start=swap + 1):
            drive.setdefault(row, {})["a"] = block[row - swap - 1].tolist()
            results[row + rows + cols + MULTIPLIER_LATENCY - 1] = products
        stream_end = swap + 1 + m
    return drive, results


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(gap=[0, 5])
async def products_match_torch(dut, gap):
    rows, cols, per_cycle = SHAPES[os.environ["SHAPE"]]
    drive, results = plan(rows, cols, per_cycle, passes=40, gap=gap, seed=gap)
    bits = len(dut.o) // cols
    rng = random.Random(gap)
    await start_clock_and_reset(dut)
    for cycle in range(max(results) + 1):
        now = drive.get(cycle, {})
        group, word = now.get("w", (0, [rng.randint(-128, 127)] * (per_cycle * cols)))
        dut.w_valid.value = "w" in now
        dut.w.value = packed(word, 8)
        dut.w_group.value = group
        dut.swap.value = now.get("swap", False)
        dut.a.value = packed(now.get("a", [rng.randint(-128, 255) for _ in range(rows)]), 9)
        await ReadOnly()
        if cycle in results:
            assert unpacked(int(dut.o.value), bits, cols) == results[cycle], f"{cycle=}"
        await RisingEdge(dut.clk)
