"""Load unit, store unit and memory port on their Verilog, against cocotbext-axi's memory with random stalls.

Loads fill one bank while stores empty the other, in rounds, so that the order of the two does not matter.
"""

import random
from collections import deque

import cocotb
import torch
from clocking import hush, stall_channels, start_clock_and_reset
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiBus, AxiRam
from dma_top import CORE

from systolith_hw.config import CoreConfig
from systolith_hw.control.layouts import instruction_layout
from systolith_hw.isa import Load, Memory, Opcode, Store

DRAM_BYTES, PORT = 1 << 16, CORE.port_bytes
BANK = CORE.data_bytes // CORE.data_banks


def random_block(rng, *, low, high):
    """Rows, bytes of a row, local stride and address of a block inside a bank."""
    rows, row = rng.choice([(1, rng.randint(1, 600)), (rng.randint(2, 9), rng.randint(1, 90))])
    stride = PORT * (row + rng.choice([0, 1, 5]))
    return {"rows": rows, "row_bytes": PORT * row, "local_stride": stride,
            "local_address": low + PORT * rng.randrange((high - low - rows * stride) // PORT)}


def random_program(rng, *, bank, count):
    """Loads into ``bank``, stores from the other one to the upper half of the memory, row by row."""
    loads, stores, free = [], [], DRAM_BYTES // 2
    for _ in range(count):
        block = random_block(rng, low=bank * BANK, high=(bank + 1) * BANK)
        loads.append(Load(memory=Memory.DATA, dram_address=PORT * rng.randrange(DRAM_BYTES // 4 // PORT),
                          dram_stride=PORT * rng.randrange(200), post=rng.getrandbits(4), **block))
        block = random_block(rng, low=(1 - bank) * BANK, high=(2 - bank) * BANK)
        free += PORT * rng.choice([0, 1, 3, 40])
        gap = block["row_bytes"] + PORT * rng.randrange(4)
        if free + block["rows"] * gap < DRAM_BYTES:
            stores.append(Store(dram_address=free, dram_stride=gap, post=rng.getrandbits(4), **block))
            free += block["rows"] * gap
    return loads, stores


def rows_of(memory, address, stride, op):
    """A view of the block's rows, with torch's own strides where rows do not overlap."""
    return [memory[address + row * stride:address + row * stride + op.row_bytes] for row in range(op.rows)]


async def issue(dut, name, ops, checks):
    """Start the instructions one after the other, whenever the unit takes one."""
    opcode = Opcode.LOAD if name == "load" else Opcode.STORE
    layout, face = instruction_layout(CORE, opcode), f"{name}__"
    port = {signal: getattr(dut, face + signal) for signal in ("instruction", "start", "free", "room")}
    for index, op in enumerate(ops):
        fields: dict[int | str, int] = {
            field: index if field == "index" else int(getattr(op, field)) for field in layout.members}
        port["instruction"].value = layout.const(fields).as_bits()
        port["start"].value = 1
        await RisingEdge(dut.clk)
        while not (port["free"].value and port["room"].value):
            await RisingEdge(dut.clk)
        port["start"].value = 0
        checks[name].append((op.post, index))
        for _ in range(random.choice([0, 0, 3, 60])):
            await RisingEdge(dut.clk)


async def completions(dut, name, ops, checks):
    """Instructions complete in order, with their own posts and indices."""
    face, seen = f"{name}__", 0
    while seen < len(ops):
        await RisingEdge(dut.clk)
        assert not getattr(dut, f"{name}_error").value
        if getattr(dut, face + "complete").value:
            post, index = int(getattr(dut, face + "post").value), int(getattr(dut, face + "index").value)
            assert (post, index) == checks[name].popleft(), f"{name} {seen}"
            seen += 1


def expected_bursts(core: CoreConfig, op):
    """Rule M2, from the address of every single beat: (address, beats)."""
    limit, bursts = core.sizes.burst_beats, []
    for row in range(op.rows):
        first = (op.dram_address + row * op.dram_stride) // PORT
        for beat in range(first, first + op.row_bytes // PORT):
            if beat == first or beat % limit == 0:
                bursts.append([beat * PORT, 0])
            bursts[-1][1] += 1
    return bursts


async def bursts_follow_the_contract(dut, channel, ops):
    """Every burst of an address channel, and addresses that stay until they are taken."""
    expected = deque(burst for op in ops for burst in expected_bursts(CORE, op))
    valid, ready, address, length = (getattr(dut, f"m_axi__{channel}{name}")
                                     for name in ("valid", "ready", "addr", "len"))
    waiting = None
    while expected:
        await RisingEdge(dut.clk)
        now = (int(address.value), int(length.value) + 1) if valid.value else None
        assert waiting in (None, now), "an address changed while it waited"
        waiting = now if now and not ready.value else None
        if now and ready.value:
            assert list(now) == expected.popleft()


@cocotb.test(timeout_time=300, timeout_unit="us")
@cocotb.parametrize(stall=[0, 0.5])
async def copies_match_torch(dut, stall):
    rng = random.Random(f"dma{stall}")
    random.seed(stall)
    ram = AxiRam(AxiBus.from_prefix(dut, "m_axi_"), dut.clk, dut.rst, size=DRAM_BYTES)
    hush(ram, "WARNING")
    stall_channels(ram, str(stall), stall)
    dram = torch.randint(0, 256, (DRAM_BYTES,), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
    ram.write(0, bytes(dram.tolist()))
    pad = torch.zeros(CORE.data_bytes, dtype=torch.uint8)
    dut.load__start.value = dut.store__start.value = 0
    await start_clock_and_reset(dut)
    everything = [Load(memory=Memory.DATA, dram_address=BANK * n, local_address=BANK * n, row_bytes=BANK)
                  for n in range(2)]
    for loads, stores in ((everything, []), *(random_program(rng, bank=bank, count=5) for bank in (0, 1))):
        checks = {"load": deque(), "store": deque()}
        tasks = [cocotb.start_soon(coroutine) for name, ops, channel in (
                     ("load", loads, "ar"), ("store", stores, "aw")) for coroutine in (
                     issue(dut, name, ops, checks), completions(dut, name, ops, checks),
                     bursts_follow_the_contract(dut, channel, ops))]
        for task in tasks:
            await task
        for op in stores:
            for target, source in zip(rows_of(dram, op.dram_address, op.dram_stride, op),
                                      rows_of(pad, op.local_address, op.local_stride, op), strict=True):
                target.copy_(source)
        for op in loads:
            for target, source in zip(rows_of(pad, op.local_address, op.local_stride, op),
                                      rows_of(dram, op.dram_address, op.dram_stride, op), strict=True):
                target.copy_(source)
        await RisingEdge(dut.clk)
        await RisingEdge(dut.clk)
        assert dut.quiet.value
        assert ram.read(0, DRAM_BYTES) == bytes(dram.tolist())
