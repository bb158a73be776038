"""A stand-in with the ports of a core: copies bursts and remembers the cycle of every handshake."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from systolith_hw.registers import IDENTIFIER, Control, Register, Status

COMMANDS = 64
EVENTS = 1024
ADDRESS, LENGTH, PUSH, SELECT, EVENT, COUNT, BUFFER, MISBEHAVE = (0x200 + 4 * n for n in range(8))
"""Registers: a command's address; its beats - 1, bit 8 for a write; push it; the event or beat to look at;
its cycle; events of its channel; the beat's response; what to do wrong."""
BOTH, REFUSE, MUTE, NARROW, EARLY = (1 << n for n in range(5))
"""Bits of MISBEHAVE: both addresses at once, rready low, no answer of the control port, wstrb, wlast."""
CHANNELS = ("ar", "r", "aw", "w", "b")


def master_ports(port_bytes: int) -> dict:
    """The core's memory port."""
    ports: dict = {"rid": In(1), "rdata": In(8 * port_bytes), "rresp": In(2), "rlast": In(1), "rvalid": In(1),
                   "rready": Out(1), "bid": In(1), "bresp": In(2), "bvalid": In(1), "bready": Out(1),
                   "wdata": Out(8 * port_bytes), "wstrb": Out(port_bytes), "wlast": Out(1), "wvalid": Out(1),
                   "wready": In(1)}
    for kind in ("ar", "aw"):
        ports |= {f"{kind}id": Out(1), f"{kind}addr": Out(32), f"{kind}len": Out(8), f"{kind}size": Out(3),
                  f"{kind}burst": Out(2), f"{kind}valid": Out(1), f"{kind}ready": In(1)}
    return ports


def control_ports() -> dict:
    """The core's control port."""
    ports: dict = {"wdata": In(32), "wstrb": In(4), "wvalid": In(1), "wready": Out(1), "bresp": Out(2),
                   "bvalid": Out(1), "bready": In(1), "rdata": Out(32), "rresp": Out(2), "rvalid": Out(1),
                   "rready": In(1)}
    for kind in ("ar", "aw"):
        ports |= {f"{kind}addr": In(12), f"{kind}prot": In(3), f"{kind}valid": In(1), f"{kind}ready": Out(1)}
    return ports


class Exerciser(wiring.Component):
    """Runs pushed commands in order: a read fills the buffer on, a write sends the buffer's next beats.

    Parameters
    ----------
    port_bytes : int
        Width of the memory port.
    """

    m_axi: wiring.FlippedInterface
    s_axil: wiring.FlippedInterface
    interrupt: Signal

    def __init__(self, *, port_bytes: int) -> None:
        self.port_bytes = port_bytes
        super().__init__({"m_axi": Out(wiring.Signature(master_ports(port_bytes))),
                          "s_axil": Out(wiring.Signature(control_ports())), "interrupt": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self.cycle, self.running, self.done = Signal(32), Signal(), Signal()
        self.enable, self.start, self.push = Signal(), Signal(), Signal()
        self.address, self.length, self.select, self.wrong = Signal(32), Signal(9), Signal(16), Signal(5)
        m.d.sync += self.cycle.eq(Mux(self.start, 1, self.cycle + 1))
        m.d.comb += self.interrupt.eq(self.done & self.enable)
        port = self.m_axi
        handshakes = {name: getattr(port, f"{name}valid") & getattr(port, f"{name}ready")
                      for name in CHANNELS}
        self._control(m, self._events(m, handshakes), self._memory_port(m, handshakes))
        return m

    def _events(self, m: Module, handshakes: dict) -> tuple:
        """The cycles of each channel's handshakes: the selected one's cycle, and all counts."""
        reads, counts = [], []
        for name in CHANNELS:
            m.submodules[f"log_{name}"] = log = memory.Memory(shape=32, depth=EVENTS, init=[])
            write, read, count = log.write_port(), log.read_port(domain="comb"), Signal(16, name=f"n_{name}")
            m.d.comb += [write.addr.eq(count), write.data.eq(self.cycle), write.en.eq(handshakes[name]),
                         read.addr.eq(self.select)]
            m.d.sync += count.eq(Mux(self.start, 0, count + handshakes[name]))
            reads.append(read.data)
            counts.append(count)
        channel = self.select[12:15]
        event, number = Signal(32), Signal(16)
        with m.Switch(channel):
            for n, (read, count) in enumerate(zip(reads, counts, strict=True)):
                with m.Case(n):
                    m.d.comb += [event.eq(read), number.eq(count)]
        return event, number

    def _memory_port(self, m: Module, handshakes: dict) -> Value:
        port, width = self.m_axi, 8 * self.port_bytes
        command = data.StructLayout({"address": 32, "beats": 8, "write": 1})
        m.submodules.commands = commands = memory.Memory(shape=command, depth=COMMANDS, init=[])
        m.submodules.buffer = buffer = memory.Memory(shape=width + 2, depth=EVENTS, init=[])
        push, pop = commands.write_port(), commands.read_port(domain="comb")
        fill, drain = buffer.write_port(), buffer.read_port(domain="comb")
        look = buffer.read_port(domain="comb")
        pushed, popped, filled, drained, left = (Signal(16, name=name) for name in
                                                 ("pushed", "popped", "filled", "drained", "left"))
        m.d.comb += [push.addr.eq(pushed), push.data.eq(Cat(self.address, self.length)),
                     push.en.eq(self.push), pop.addr.eq(popped), fill.addr.eq(filled),
                     fill.data.eq(Cat(port.rdata, port.rresp)),
                     fill.en.eq(handshakes["r"]), drain.addr.eq(drained), look.addr.eq(self.select)]
        m.d.sync += [pushed.eq(pushed + self.push), filled.eq(filled + handshakes["r"])]
        now = pop.data
        offered = self.running & (popped != pushed) & ~left.any()
        for kind, write in (("ar", 0), ("aw", 1)):
            m.d.comb += [getattr(port, f"{kind}valid").eq(offered & ((now.write == write) | self.wrong[0])),
                         getattr(port, f"{kind}addr").eq(now.address),
                         getattr(port, f"{kind}len").eq(now.beats),
                         getattr(port, f"{kind}id").eq(now.address[12]), getattr(port, f"{kind}burst").eq(1),
                         getattr(port, f"{kind}size").eq(self.port_bytes.bit_length() - 1)]
        m.d.comb += [port.wvalid.eq(left.any()), port.wlast.eq((left == 1) | self.wrong[4]),
                     port.wstrb.eq(Mux(self.wrong[3], 0, -1)), port.wdata.eq(drain.data),
                     port.rready.eq(~self.wrong[1]), port.bready.eq(1)]
        accepted = handshakes["ar"] | handshakes["aw"]
        m.d.sync += popped.eq(popped + accepted)
        with m.If(handshakes["aw"]):
            m.d.sync += left.eq(now.beats + 1)
        with m.If(handshakes["w"]):
            m.d.sync += [left.eq(left - 1), drained.eq(drained + 1)]
        self._status(m, handshakes, popped == pushed)
        return look.data[width:]

    def _status(self, m: Module, handshakes: dict, issued: Value) -> None:
        """Done when every issued burst has ended."""
        port, open_bursts = self.m_axi, Signal(16)
        ended = (handshakes["r"] & port.rlast) + handshakes["b"]
        m.d.sync += open_bursts.eq(open_bursts + (handshakes["ar"] + handshakes["aw"]) - ended)
        with m.If(self.start):
            m.d.sync += [self.running.eq(1), self.done.eq(0)]
        with m.Elif(self.running & issued & (open_bursts == 0)):
            m.d.sync += [self.running.eq(0), self.done.eq(1)]

    def _control(self, m: Module, events: tuple, looked: Value) -> None:
        port = self.s_axil
        event, number = events
        written, awake = Signal(), ~self.wrong[2]
        m.d.comb += [written.eq(port.awvalid & port.wvalid & ~port.bvalid & awake), port.awready.eq(written),
                     port.wready.eq(written), port.arready.eq(~port.rvalid & awake)]
        with m.If(port.bready):
            m.d.sync += port.bvalid.eq(0)
        with m.If(port.rready):
            m.d.sync += port.rvalid.eq(0)
        with m.If(written):
            m.d.sync += port.bvalid.eq(1)
            with m.Switch(port.awaddr):
                for register, target in ((ADDRESS, self.address), (LENGTH, self.length),
                                         (SELECT, self.select), (MISBEHAVE, self.wrong),
                                         (int(Register.INTERRUPT_ENABLE), self.enable)):
                    with m.Case(register):
                        m.d.sync += target.eq(port.wdata)
                with m.Case(PUSH):
                    m.d.comb += self.push.eq(1)
                with m.Case(int(Register.CONTROL)):
                    m.d.comb += self.start.eq(port.wdata & int(Control.START))
        with m.If(port.arvalid & port.arready):
            m.d.sync += [port.rvalid.eq(1), port.rdata.eq(0)]
            ended = Mux(self.done, int(Status.DONE | Status.QUIET), 0)
            status = Mux(self.running, int(Status.RUNNING), ended)
            with m.Switch(port.araddr):
                for register, value in ((EVENT, event), (COUNT, number), (BUFFER, looked),
                                        (int(Register.IDENTIFIER), IDENTIFIER),
                                        (int(Register.STATUS), status)):
                    with m.Case(register):
                        m.d.sync += port.rdata.eq(value)
