"""A program on numpy memories, in program order, and a race detector over its semaphores.

Independent of compiler and gateware: written from docs/contracts/{numerics,layout}.md. What two queues touch
in one memory, one of them writing, must be ordered by semaphores: complete before start. So must what may
have one user at a time: the reader and the writer of a data bank, the reader of an accumulator bank. As the
n-th wait of a semaphore belongs to its n-th post, order is exact (vector clocks), and a program without a
race gives the same result in every schedule that the semaphores allow.
"""

import numpy as np

from systolith_hw.config import CoreConfig
from systolith_hw.isa import QUEUES, Load, Matmul, Memory, Store, Vector
from systolith_hw.operands import local_bytes
from systolith_hw.program import Program, check


class RaceError(AssertionError):
    """Two instructions that semaphores do not order use the same thing."""


class Clocks:
    """What is complete at the start of each instruction: for each queue a number of instructions."""

    def __init__(self) -> None:
        self.counts = np.zeros(4, dtype=np.int64)
        self.starts = np.zeros((4, 4), dtype=np.int64)
        self.posts: dict[int, list[np.ndarray]] = {}
        self.taken: dict[int, int] = {}

    def start(self, instruction) -> np.ndarray:
        """The clock at the start of the next instruction of its queue."""
        queue = QUEUES.index(instruction.queue)
        clock = self.starts[queue]
        for semaphore in range(16):
            if instruction.wait >> semaphore & 1:
                taken = self.taken.get(semaphore, 0)
                self.taken[semaphore] = taken + 1
                clock = np.maximum(clock, self.posts[semaphore][taken])
        self.starts[queue] = clock
        return clock

    def complete(self, instruction) -> None:
        """Its posts tell of everything complete before its start, and of itself."""
        queue = QUEUES.index(instruction.queue)
        self.counts[queue] += 1
        clock = self.starts[queue].copy()
        clock[queue] = self.counts[queue]
        for bit in range(4):
            if instruction.post >> bit & 1:
                assert getattr(instruction, "n_tiles", 1) == 1, "a post for each N tile is not modelled"
                self.posts.setdefault(4 * queue + bit, []).append(clock)


class Traced:
    """A memory whose every cell knows who used it last."""

    def __init__(self, name: str, values: np.ndarray) -> None:
        self.name, self.values = name, values
        self.read_by = np.full((4, len(values)), -1, dtype=np.int32)
        self.written_by = np.full((4, len(values)), -1, dtype=np.int32)


class Interpreter:
    """Runs a program; ``output`` then gives the result."""

    def __init__(self, core: CoreConfig, program: Program, seed: int = 0) -> None:
        check(core, program)
        self.core, self.sizes, self.program = core, core.sizes, program
        rng = np.random.default_rng(seed)
        self.dram = Traced("DRAM", rng.integers(0, 256, program.memory_bytes, dtype=np.uint8))
        for segment in program.segments():
            self.dram.values[segment.address:segment.end] = np.frombuffer(segment.data, dtype=np.uint8)
        self.local = {memory: Traced(memory.name, rng.integers(0, 256, size, dtype=np.uint8))
                      for memory, size in local_bytes(core).items()}
        rows = core.acc_banks * core.acc_rows
        self.acc = Traced("accumulator", rng.integers(-2**31, 2**31, (rows, core.cols)))
        self.ports = {name: Traced(name, np.zeros(count)) for name, count in
                      (("data reader", core.data_banks), ("data writer", core.data_banks),
                       ("accumulator reader", core.acc_banks))}
        # The pass that wrote an accumulator row: its first row and its rows.
        self.passes = np.full((rows, 2), -1)
        self.clocks = Clocks()

    def run(self) -> "Interpreter":
        """Execute all instructions."""
        for index, instruction in enumerate(self.program.instructions):
            self.queue = QUEUES.index(instruction.queue)
            self.clock = self.clocks.start(instruction)
            self.at = index, instruction
            match instruction:
                case Load():
                    self.load(instruction)
                case Matmul():
                    self.matmul(instruction)
                case Vector():
                    self.vector(instruction)
                case Store():
                    self.store(instruction)
            self.clocks.complete(instruction)
        return self

    def output(self, name: str) -> np.ndarray:
        """A result as int8."""
        return self.program.output(name).read(self.dram.values)

    def use(self, traced: Traced, cells: np.ndarray, *, write: bool) -> None:
        """Check that all earlier uses that matter are complete, then note this one."""
        for other in range(4):
            if other != self.queue:
                last = traced.written_by[other, cells]
                if write:
                    last = np.maximum(last, traced.read_by[other, cells])
                late = last >= self.clock[other]
                if late.any():
                    raise RaceError(f"instruction {self.at} and {QUEUES[other]} "
                                    f"in {traced.name} at {cells[late][0]}")
        (traced.written_by if write else traced.read_by)[self.queue, cells] = self.clocks.counts[self.queue]

    def port(self, name: str, addresses: np.ndarray, size: int) -> None:
        """One queue at a time."""
        self.use(self.ports[name], np.unique(addresses // size), write=True)

    @property
    def data_bank(self) -> int:
        """Bytes of a bank of the data scratchpad."""
        return self.core.data_bytes // self.core.data_banks

    def load(self, i: Load) -> None:
        """DRAM to an on-chip memory."""
        source = rectangle(i.dram_address, i.dram_stride, i.rows, i.row_bytes).ravel()
        target = rectangle(i.local_address, i.local_stride, i.rows, i.row_bytes).ravel()
        local = self.local[Memory(i.memory)]
        self.use(self.dram, source, write=False)
        self.use(local, target, write=True)
        if i.memory == Memory.DATA:
            self.port("data writer", target, self.data_bank)
        local.values[target] = self.dram.values[source]

    def store(self, i: Store) -> None:
        """Data scratchpad to DRAM."""
        source = rectangle(i.local_address, i.local_stride, i.rows, i.row_bytes).ravel()
        target = rectangle(i.dram_address, i.dram_stride, i.rows, i.row_bytes).ravel()
        self.use(self.local[Memory.DATA], source, write=False)
        self.port("data reader", source, self.data_bank)
        self.use(self.dram, target, write=True)
        self.dram.values[target] = self.local[Memory.DATA].values[source]

    def weights(self, i: Matmul) -> tuple[np.ndarray, np.ndarray]:
        """(k_tiles * rows, n_tiles * cols) weights of a matmul, and the addresses it reads."""
        core, sizes = self.core, self.sizes
        groups, size = sizes.weight_groups, sizes.weight_group_bytes
        cells = rectangle(i.weight_address, i.weight_stride, i.k_tiles * groups, i.n_tiles * size)
        values = self.local[Memory.WEIGHT].values[cells].view(np.int8).astype(np.int64)
        tiles = values.reshape(i.k_tiles, groups, i.n_tiles, core.weight_rows_per_cycle, core.cols)
        full = tiles.transpose(0, 1, 3, 2, 4).reshape(i.k_tiles, -1, i.n_tiles * core.cols)
        return full[:, :core.rows].reshape(i.k_tiles * core.rows, -1), cells.ravel()

    def matmul(self, i: Matmul) -> None:
        """Activations times weight tiles into the accumulator."""
        core = self.core
        w, cells = self.weights(i)
        self.use(self.local[Memory.WEIGHT], cells, write=False)
        data = rectangle(i.data_address, i.data_stride, i.m, i.k_tiles * core.rows)
        # What meets only weights of 0 may be anything, even half loaded.
        self.use(self.local[Memory.DATA], data[:, w.any(axis=1)].ravel(), write=False)
        self.port("data reader", data.ravel(), self.data_bank)
        bytes_ = self.local[Memory.DATA].values[data]
        sums = (bytes_.view(np.int8) if i.signed else bytes_).astype(np.int64) @ w
        for tile in range(i.n_tiles):
            rows = i.acc_address + tile * i.acc_stride + np.arange(i.m)
            part = sums[:, tile * core.cols:(tile + 1) * core.cols]
            if i.accumulate:
                if (self.passes[rows] != (rows[0], i.m)).any():
                    raise RaceError(f"instruction {self.at} adds to rows of a pass of another shape")
                part = part + self.acc.values[rows]
            if i.accumulate or i.k_tiles > 1:
                self.port("accumulator reader", rows, core.acc_rows)
            self.use(self.acc, rows, write=True)
            assert abs(part).max() < 2**31
            self.acc.values[rows] = part
            self.passes[rows] = rows[0], i.m

    def vector(self, i: Vector) -> None:
        """Requantize accumulator rows into the data scratchpad."""
        core = self.core
        rows = i.acc_address + np.arange(i.m)
        self.use(self.acc, rows, write=False)
        self.port("accumulator reader", rows, core.acc_rows)
        columns = np.arange(i.n)
        at = (i.parameter_address + columns // core.requant_lanes * self.sizes.parameter_word_bytes
              + columns % core.requant_lanes * 8)
        cells = at[:, None] + np.arange(8)
        self.use(self.local[Memory.PARAMETER], cells.ravel(), write=False)
        channel = self.local[Memory.PARAMETER].values[cells].astype(np.int64)
        bias = (channel[:, :4] << np.arange(0, 32, 8)).sum(axis=1)
        bias -= (bias >> 31) << 32
        y = self.acc.values[rows][:, :i.n] + bias
        q = half_even(y * (channel[:, 4] + 256 * channel[:, 5]), channel[:, 6])
        out = np.clip(q + i.zero_point, -128, 127)
        if i.use_table:
            entries = i.table * 256 + (out & 255)
            self.use(self.local[Memory.TABLE], entries.ravel(), write=False)
            out = self.local[Memory.TABLE].values[entries]
        target = rectangle(i.data_address, i.data_stride, i.m, i.n)
        self.use(self.local[Memory.DATA], target.ravel(), write=True)
        self.port("data writer", target.ravel(), self.data_bank)
        self.local[Memory.DATA].values[target] = out & 255


def rectangle(address: int, stride: int, rows: int, row_bytes: int) -> np.ndarray:
    """Addresses of rows of bytes."""
    return address + np.arange(rows)[:, None] * stride + np.arange(row_bytes)


def half_even(value: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """value / 2**shift, rounded half to even."""
    floor = value >> shift
    twice = (value - (floor << shift)) - ((1 << shift) - (value - (floor << shift)))  # rest - (one - rest)
    return floor + ((twice > 0) | ((twice == 0) & (floor & 1 == 1)))
