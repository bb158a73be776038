"""The weight-stationary systolic array."""

from amaranth.hdl import Cat, Module, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from systolith_hw.array.processing_element import ProcessingElement, sum_width


class SystolicArray(wiring.Component):
    """``rows x cols`` multiply-accumulate: every cycle a row of activations enters and a row of sums leaves.

    Free running: no enable, no ready. While a tile of weights works, the next one loads behind it. The caller
    presents group g of the next tile in cycle ``s - groups + g``, where s is the cycle of its ``swap``; swaps
    are at least ``groups`` cycles apart.

    Parameters
    ----------
    rows, cols : int
        Processing elements along K and along N; at least 1.
    weight_rows_per_cycle : int
        Rows of the next tile that load in one cycle, a group; in 1..rows.
    multiplier_latency : int
        Cycles from operands to product; at least 3.

    Members
    -------
    a : In(ArrayLayout(signed(9), rows)), one row of activations.
    swap : In(1), the tile loaded last works on the rows from the next cycle on.
    w : In(ArrayLayout(signed(8), weight_rows_per_cycle * cols)), element ``j * cols + c`` is for column c
        and row ``w_group * weight_rows_per_cycle + j``; a row past the end is ignored.
    w_valid : In(1)
    w_group : In(range(groups))
    o : Out(ArrayLayout(signed(17 + ceil(log2(rows))), cols)), the sums of the activations of
        ``rows + cols + multiplier_latency - 1`` cycles ago (`timing.array_latency`).
    """

    # Element (r, c) lives r + c cycles behind the ports. Activations and load enables travel right, weights
    # and sums travel down, each through one register an element; a swap depends on r + c alone.

    a: data.View
    swap: Signal
    w: data.View
    w_valid: Signal
    w_group: Signal
    o: data.View

    def __init__(
        self, *, rows: int, cols: int, weight_rows_per_cycle: int = 1, multiplier_latency: int = 4
    ) -> None:
        if rows < 1 or cols < 1:
            raise ValueError(f"rows and cols must be >= 1, not {rows} and {cols}")
        if not 1 <= weight_rows_per_cycle <= rows:
            raise ValueError(f"weight_rows_per_cycle must be in 1..{rows}, not {weight_rows_per_cycle}")
        self.rows, self.cols = rows, cols
        self.weight_rows_per_cycle, self.multiplier_latency = weight_rows_per_cycle, multiplier_latency
        self.groups = -(-rows // weight_rows_per_cycle)
        super().__init__({
            "a": In(data.ArrayLayout(signed(9), rows)),
            "swap": In(1),
            "w": In(data.ArrayLayout(signed(8), weight_rows_per_cycle * cols)),
            "w_valid": In(1),
            "w_group": In(range(self.groups)),
            "o": Out(data.ArrayLayout(signed(sum_width(rows)), cols)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        swaps = _bits(m, self.swap, self.rows + self.cols - 2, "swap")
        weights = self._weights(m)
        loads = self._loads(m)
        sums: list[Value] = []
        for row in range(self.rows):
            activations = _words(m, self.a[row], row + self.cols - 1, f"a{row}")
            above, sums = sums, []
            for col in range(self.cols):
                element = ProcessingElement(row=row, multiplier_latency=self.multiplier_latency)
                m.submodules[f"pe_{row}_{col}"] = element
                m.d.comb += [
                    element.a.eq(activations[row + col]),
                    element.w.eq(weights[row][col]),
                    element.load.eq(loads[row][col]),
                    element.swap.eq(swaps[row + col]),
                ]
                if row > 0:
                    m.d.comb += element.i_sum.eq(above[col])
                sums.append(element.o_sum)
        for col, total in enumerate(sums):
            m.d.comb += self.o[col].eq(_words(m, total, self.cols - 1 - col, f"sum{col}")[-1])
        return m

    def _weights(self, m: Module) -> list[list[Value]]:
        """What each element sees: a bus per column and lane, on which a weight moves down one row a cycle."""
        seen: list[list[Value]] = [[] for _ in range(self.rows)]
        for lane in range(self.weight_rows_per_cycle):
            taps = range(lane, self.rows, self.weight_rows_per_cycle)
            for col in range(self.cols):
                bus = _words(m, self.w[lane * self.cols + col], taps[-1] + col, f"w{lane}_{col}")
                for row in taps:
                    seen[row].append(bus[row + col])
        return seen

    def _loads(self, m: Module) -> list[list[Value]]:
        """The load enable of each element: the group moves down the left edge, its match moves right."""
        group = Signal(len(self.w_group) + 1)
        m.d.comb += group.eq(Cat(self.w_valid, self.w_group))
        loads = []
        for row, passing in enumerate(_words(m, group, self.rows - 1, "group")):
            load = Signal(name=f"load{row}")
            m.d.comb += load.eq(passing == 2 * (row // self.weight_rows_per_cycle) + 1)
            loads.append(_bits(m, load, self.cols - 1, f"loads{row}"))
        return loads


def _words(m: Module, value: Value, cycles: int, name: str) -> list[Value]:
    """``value`` of 0, 1, ... ``cycles`` cycles ago, a register each."""
    taps = [value]
    for cycle in range(1, cycles + 1):
        register = Signal.like(value, name=f"{name}_{cycle}", reset_less=True)
        m.d.sync += register.eq(taps[-1])
        taps.append(register)
    return taps


def _bits(m: Module, value: Value, cycles: int, name: str) -> list[Value]:
    """A bit of 0, 1, ... ``cycles`` cycles ago, in one shift register: a single move when simulated."""
    if cycles == 0:
        return [value]
    register = Signal(cycles, name=name, reset_less=True)
    m.d.sync += register.eq(Cat(value, register))
    return [value, *register]
