"""The instructions of one GEMM, from its cut: loads ahead, matmuls, read-outs and stores behind."""

from collections import deque
from typing import NamedTuple

from systolith_sim.compiler.assembler import Assembler, Region
from systolith_sim.compiler.inputs import Inputs, Operands
from systolith_sim.compiler.places import (
    ChipMatrix,
    Ring,
    data_slots,
    output_slot,
    parameter_tile,
    up,
)
from systolith_sim.compiler.tiling import Cut, Step


class _Block(NamedTuple):
    """Sums that are ready to be read out."""

    step: Step
    acc_address: int
    acc: Region


def emit_gemm(assembler: Assembler, cut: Cut, operands: Operands, *, first_bank: int = 0) -> int:
    """Append the instructions of a GEMM to the program.

    Parameters
    ----------
    first_bank : int
        Blocks of sums so far; they take the accumulator's banks in turn.

    Returns
    -------
    int
        Blocks of sums now.
    """
    emitter = _Emitter(assembler, cut, operands, first_bank)
    emitter.run()
    return emitter.blocks


class _Emitter:
    def __init__(self, assembler: Assembler, cut: Cut, operands: Operands, blocks: int) -> None:
        self._assembler, self._cut, self._operands, self.blocks = assembler, cut, operands, blocks
        self._inputs = Inputs(assembler, cut, operands)
        self._steps = cut.steps()
        self._planned: deque[Step] = deque()
        self._ahead: deque[int] = deque()
        core = cut.core
        self._bank_bytes = core.data_bytes // core.data_banks
        banks = range(0, core.acc_banks * core.acc_rows, core.acc_rows)
        self._accumulators = [assembler.region("accumulator", row, row + core.acc_rows) for row in banks]
        self._outputs = _Outputs(assembler, cut, operands)
        # The load queue must not fill up before the matmul that frees its slots is dispatched.
        self._most_ahead = max(1, core.queue_depth // 2)

    def run(self) -> None:
        number, finished = 0, None
        while self._plan_one() or self._planned:
            self._require(number)
            step = self._planned.popleft()
            block = self._matmul(step)
            if finished is not None:
                self._read_out(finished)
            finished = block if step.last else None
            self._prefetch(number)
            number += 1
        self._require(number)
        assert finished is not None
        self._read_out(finished)

    def _plan_one(self) -> bool:
        step = next(self._steps, None)
        if step is None:
            self._inputs.plan_parameters()
            return False
        self._planned.append(step)
        self._inputs.plan(step)
        return True

    def _require(self, number: int) -> None:
        """Emit the loads that must stand before step ``number``."""
        while self._inputs.loads and self._inputs.loads[0].needed <= number:
            self._load()
        while self._ahead and self._ahead[0] <= number:
            self._ahead.popleft()

    def _prefetch(self, number: int) -> None:
        """Emit loads for later steps, as many as are free to go after step ``number``."""
        while len(self._ahead) < self._most_ahead:
            if not self._inputs.loads:
                if len(self._planned) > self._cut.core.queue_depth or not self._plan_one():
                    return
            elif self._inputs.loads[0].after <= number:
                self._ahead.append(self._load())
            else:
                return

    def _load(self) -> int:
        load = self._inputs.loads.popleft()
        self._assembler.add("load", load.fields, reads=load.reads, writes=load.writes)
        return load.needed

    def _matmul(self, step: Step) -> _Block:
        bank = self.blocks % self._cut.core.acc_banks
        a, w = self._inputs.activations.popleft(), self._inputs.weights.popleft()
        address = bank * self._cut.core.acc_rows
        fields = {"accumulate": not step.first, "signed": self._operands.signed, "data_address": a.address,
                  "data_stride": a.stride, "weight_address": w.address, "weight_stride": w.stride,
                  "acc_address": address, "acc_stride": step.rows.size, "m": step.rows.size,
                  "k_tiles": step.chunk.tiles, "n_tiles": step.columns.tiles}
        port = self._assembler.port("read", a.address // self._bank_bytes)
        self._assembler.add("matmul", fields, reads=(*a.regions, w.region),
                            writes=(self._accumulators[bank], port))
        self.blocks += step.last
        return _Block(step, address, self._accumulators[bank])

    def _read_out(self, block: _Block) -> None:
        step, parameters = block.step, self._inputs.parameters.popleft()
        place = self._outputs.place(step)
        size, cols = parameter_tile(self._cut.core), self._cut.core.cols
        port = self._assembler.port("write", place.address // self._bank_bytes)
        offset = step.columns.start - step.group.start
        for tile in range(step.columns.tiles):
            fields = {"use_table": self._operands.table is not None, "table": self._operands.table_slot,
                      "acc_address": block.acc_address + tile * step.rows.size, "m": step.rows.size,
                      "n": min(cols, step.columns.width - tile * cols),
                      "data_address": place.address + offset + tile * cols, "data_stride": place.stride,
                      "parameter_address": parameters.address + tile * size,
                      "zero_point": self._operands.zero_point}
            self._assembler.add("vector", fields, reads=(block.acc, *parameters.regions),
                                writes=(*place.regions, port))
        if step.complete:
            self._outputs.store(step)


class _Place(NamedTuple):
    """Where the results of a group stand in the data scratchpad."""

    address: int
    stride: int
    regions: tuple[Region, ...]


class _Outputs:
    """Slots for results and the stores that empty them; or the place on chip where the results stay."""

    def __init__(self, assembler: Assembler, cut: Cut, operands: Operands) -> None:
        self._assembler, self._cut, self._y = assembler, cut, operands.y
        core = cut.core
        self._bank_bytes = core.data_bytes // core.data_banks
        if not isinstance(self._y, ChipMatrix):
            width = max(group.width for group in cut.groups)
            self._rows = output_slot(core, rows=max(rows.size for rows in cut.rows), columns=width)
            start, end = operands.output_half
            addresses = data_slots(core, start=start, end=end, size=self._rows.size)
            self._ring = Ring(assembler, "data", addresses, self._rows.size)

    def place(self, step: Step) -> _Place:
        """Where the first row of a block and the first column of its group go."""
        rows, group, y = step.rows, step.group, self._y
        if isinstance(y, ChipMatrix):
            address = y.address + rows.start * y.stride + group.start
            return _Place(address, y.stride, y.bands(rows.start, rows.size))
        slot = self._ring.slot((step.block, step.group.start))
        return _Place(slot.address + (rows.start - step.block.start) * self._rows.stride, self._rows.stride,
                      (slot.region.part(step.stored),))

    def store(self, step: Step) -> None:
        """Write what is complete to DRAM, unless it stays."""
        y, core = self._y, self._cut.core
        rows, start, width = step.stored
        if isinstance(y, ChipMatrix):
            return
        slot = self._ring.slot((step.block, step.group.start))
        fields = {"dram_address": y.address + rows.start * y.stride + start,
                  "local_address": (slot.address + (rows.start - step.block.start) * self._rows.stride
                                    + start - step.group.start)}
        if width == self._cut.shape.n and self._rows.stride == y.stride:
            fields |= {"rows": 1, "row_bytes": rows.size * y.stride}
        else:
            fields |= {"dram_stride": y.stride, "local_stride": self._rows.stride, "rows": rows.size,
                       "row_bytes": up(width, core.port_bytes)}
        port = self._assembler.port("read", slot.address // self._bank_bytes)
        self._assembler.add("store", fields, reads=(slot.region.part(step.stored),),
                            writes=(*y.bands(rows.start, rows.size), port))
