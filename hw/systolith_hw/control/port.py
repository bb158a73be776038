"""The control port: an AXI4-Lite subordinate with the registers of ``systolith_hw.registers``."""

from amaranth import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from systolith_hw.control.counters import COUNTERS
from systolith_hw.control.layouts import INDEX_BITS
from systolith_hw.memory.axi import AxiLite, AxiLitePort
from systolith_hw.registers import HOST_REGISTERS, IDENTIFIER, Control, Register, counter

VERSION = 1


class ControlPort(wiring.Component):
    """Registers for the host.

    Members
    -------
    bus : In(AxiLite), one access at a time; every response is OKAY.
    start, clear : Out(1), pulses.
    status, fault_instruction, cycles, first_row, last_row, counts : In, read by the host.
    program_address, program_count, watchdog, interrupt_enable : Out, written by the host.
    """

    bus: AxiLitePort
    start: Signal
    clear: Signal
    status: Signal
    fault_instruction: Signal
    cycles: Signal
    first_row: Signal
    last_row: Signal
    counts: data.View
    program_address: Signal
    program_count: Signal
    watchdog: Signal
    interrupt_enable: Signal

    def __init__(self, *, watchdog_cycles: int) -> None:
        self.watchdog_cycles = watchdog_cycles
        super().__init__({
            "bus": In(AxiLite()), "start": Out(1), "clear": Out(1), "status": In(32),
            "fault_instruction": In(INDEX_BITS), "cycles": In(32), "first_row": In(32), "last_row": In(32),
            "counts": In(data.ArrayLayout(32, len(COUNTERS))),
            "program_address": Out(32), "program_count": Out(INDEX_BITS),
            "watchdog": Out(32, init=watchdog_cycles),  # pyright: ignore[reportCallIssue]  # the stubs lack init
            "interrupt_enable": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._write(m)
        self._read(m)
        return m

    def _write(self, m: Module) -> None:
        bus, taken = self.bus, Signal()
        m.d.comb += [
            taken.eq(bus.awvalid & bus.wvalid & (~bus.bvalid | bus.bready)),
            bus.awready.eq(taken), bus.wready.eq(taken),
        ]
        m.d.sync += [self.start.eq(0), self.clear.eq(0)]
        with m.If(bus.bready):
            m.d.sync += bus.bvalid.eq(0)
        host = Signal(data.ArrayLayout(32, HOST_REGISTERS))
        self._host = host
        with m.If(taken):
            m.d.sync += bus.bvalid.eq(1)
            with m.Switch(bus.awaddr[2:]):
                with m.Case(Register.CONTROL >> 2):
                    m.d.sync += Cat(self.start, self.clear).eq(bus.wdata[:len(Control)])
                for register, target in ((Register.PROGRAM_ADDRESS, self.program_address),
                                         (Register.PROGRAM_COUNT, self.program_count),
                                         (Register.WATCHDOG, self.watchdog),
                                         (Register.INTERRUPT_ENABLE, self.interrupt_enable)):
                    with m.Case(register >> 2):
                        m.d.sync += target.eq(bus.wdata)
                for number in range(HOST_REGISTERS):
                    with m.Case((Register.HOST_0 >> 2) + number):
                        m.d.sync += host[number].eq(bus.wdata)

    def _read(self, m: Module) -> None:
        bus, taken = self.bus, Signal()
        m.d.comb += [taken.eq(bus.arvalid & (~bus.rvalid | bus.rready)), bus.arready.eq(taken)]
        with m.If(bus.rready):
            m.d.sync += bus.rvalid.eq(0)
        sources = {
            Register.IDENTIFIER: IDENTIFIER, Register.VERSION: VERSION, Register.STATUS: self.status,
            Register.FAULT_INSTRUCTION: self.fault_instruction, Register.PROGRAM_ADDRESS: self.program_address,
            Register.PROGRAM_COUNT: self.program_count, Register.WATCHDOG: self.watchdog,
            Register.INTERRUPT_ENABLE: self.interrupt_enable, Register.CYCLES: self.cycles,
            Register.FIRST_ROW: self.first_row, Register.LAST_ROW: self.last_row,
        }
        places = {int(register): value for register, value in sources.items()}
        places |= {Register.HOST_0 + 4 * number: self._host[number] for number in range(HOST_REGISTERS)}
        places |= {counter(*names): self.counts[number] for number, names in enumerate(COUNTERS)}
        with m.If(taken):
            m.d.sync += [bus.rvalid.eq(1), bus.rdata.eq(0)]
            with m.Switch(bus.araddr[2:]):
                for address, value in places.items():
                    with m.Case(address >> 2):
                        m.d.sync += bus.rdata.eq(value)
