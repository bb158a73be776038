"""The memory port: arbitration, addresses, routing of beats and answers, quiet; random waits."""

import random

import pytest
from bench import simulate

from systolith_hw.config import CoreConfig
from systolith_hw.memory.port import MemoryPort

FETCH, LOAD, STORE = range(3)


class Client:
    """Transfers of one requester: lists of (address in beats, beats); idle for a while between them."""

    def __init__(self, rng, count, bursts):
        self.transfers = [[(rng.randrange(1 << 20), rng.randint(1, 9)) for _ in range(rng.randint(1, bursts))]
                          for _ in range(count)]
        self.rng, self.idle, self.since = rng, 3, None

    def step(self, cycle):
        """Whether a transfer waits in this cycle."""
        if self.since is None and self.transfers:
            self.idle -= 1
            if self.idle < 0:
                self.since = cycle
        return self.since is not None

    def next_burst(self):
        """The burst has gone; whether the transfer has ended."""
        self.transfers[0].pop(0)
        if self.transfers[0]:
            return False
        self.transfers.pop(0)
        self.since, self.idle = None, self.rng.choice([0, 0, 5, 40])
        return True


class Model:
    """The port, its memory and its clients, one call a cycle."""

    def __init__(self, dut, seed, core):
        self.dut, self.rng, self.core = dut, random.Random(seed), core
        self.clients = [Client(self.rng, 40, 1), Client(self.rng, 40, 4), Client(self.rng, 40, 4)]
        self.owner: int | None = None
        self.outstanding, self.reads, self.writes = 0, [], 0
        self.begun, self.beats_left, self.address_done = False, 0, False
        self.registered = (0, 0)
        self.granted = [0, 0, 0]

    def drive(self, ctx, cycle):
        dut, (fetch, load, store) = self.dut, self.clients
        waits = [client.step(cycle) for client in self.clients]
        self.waits = waits
        ctx.set(dut.fetch_request, waits[FETCH])
        ctx.set(dut.load.valid, waits[LOAD])
        # The store unit itself takes its request away while it owns the port.
        ctx.set(dut.store_request, waits[STORE] and self.owner != STORE)
        if waits[FETCH]:
            ctx.set(dut.fetch_address, fetch.transfers[0][0][0] * self.core.port_bytes)
            ctx.set(dut.fetch_beats_less_one, fetch.transfers[0][0][1] - 1)
        for client, burst in ((load, dut.load.payload), (store, dut.store_burst)):
            if client.since is not None:
                (address, beats), *more = client.transfers[0]
                ctx.set(burst, {"address": address, "beats_less_one": beats - 1, "transfer_end": not more})
        self.ready = {name: self.rng.random() < 0.6 for name in ("arready", "awready", "wready")}
        for name, value in self.ready.items():
            ctx.set(getattr(dut.bus, name), value)
        self.drive_store(ctx)
        self.drive_answers(ctx)

    def drive_store(self, ctx):
        owns = self.owner == STORE
        if owns and not self.begun:
            self.begun, self.beats_left, self.address_done = True, self.clients[STORE].transfers[0][0][1], False
        ctx.set(self.dut.store_valid, owns and not self.address_done)
        ctx.set(self.dut.w_valid, owns and self.beats_left > 0)
        ctx.set(self.dut.w_data, self.beats_left)
        ctx.set(self.dut.w_last, self.beats_left == 1)
        address = owns and (self.address_done or self.ready["awready"])
        data = owns and self.beats_left - (self.ready["wready"] and self.beats_left > 0) == 0
        self.store_done = address and data
        ctx.set(self.dut.store_last, self.store_done and len(self.clients[STORE].transfers[0]) == 1)

    def drive_answers(self, ctx):
        bus = self.dut.bus
        self.beat = bool(self.reads) and self.rng.random() < 0.6
        self.answer = self.writes > 0 and self.rng.random() < 0.3
        ctx.set(bus.rvalid, self.beat)
        if self.beat:
            ctx.set(bus.rid, self.reads[0][0])
            ctx.set(bus.rlast, self.reads[0][1] == 1)
        self.data = self.rng.getrandbits(16)
        ctx.set(bus.rdata, self.data)
        ctx.set(bus.rresp, self.data & 3)
        ctx.set(bus.bvalid, self.answer)
        ctx.set(bus.bresp, self.data & 3)

    def check(self, ctx):
        """Outputs of this cycle; what was handed over."""
        dut, bus = self.dut, self.dut.bus
        reads = self.owner in (FETCH, LOAD)
        assert ctx.get(bus.arvalid) == reads
        self.read = reads and self.ready["arready"]
        if self.owner in (FETCH, LOAD):
            address, beats = self.clients[self.owner].transfers[0][0]
            assert ctx.get(bus.araddr) == address * self.core.port_bytes
            assert (ctx.get(bus.arlen), ctx.get(bus.arid)) == (beats - 1, self.owner)
            assert (ctx.get(bus.arsize), ctx.get(bus.arburst)) == (1, 1)
        assert ctx.get(dut.fetch_accepted) == (self.read and self.owner == FETCH)
        assert ctx.get(dut.load.ready) == (self.read and self.owner == LOAD)
        assert ctx.get(dut.store_owner) == (self.owner == STORE)
        self.write = self.owner == STORE and not self.address_done and self.ready["awready"]
        self.datum = self.owner == STORE and self.beats_left > 0 and self.ready["wready"]
        if self.owner == STORE:
            address, beats = self.clients[STORE].transfers[0][0]
            assert ctx.get(bus.awvalid) == (not self.address_done)
            assert ctx.get(bus.awaddr) == address * self.core.port_bytes
            assert ctx.get(bus.awlen) == beats - 1
            assert (ctx.get(bus.wvalid), ctx.get(bus.wlast)) == (self.beats_left > 0, self.beats_left == 1)
            assert ctx.get(bus.wstrb) == 3
        assert ctx.get(bus.rready)
        assert ctx.get(bus.bready)
        assert ctx.get(dut.moved) == any((self.read, self.write, self.datum, self.beat, self.answer))
        busy = self.outstanding or self.owner is not None or any(self.waits)
        assert ctx.get(dut.quiet) == (not busy)
        beat, answer = self.registered
        assert (ctx.get(dut.fetch_beat), ctx.get(dut.load_beat)) == (beat == "fetch", beat == "load")
        if beat:
            assert ctx.get(dut.beat_data) == self.last_data
            assert ctx.get(dut.beat_response) == self.last_data & 3
        assert ctx.get(dut.answer) == answer

    def advance(self):
        """The state of the next cycle."""
        ended = False
        self.outstanding += self.read + self.write - self.answer
        self.registered = (("fetch", "load")[self.reads[0][0]] if self.beat else "", int(self.answer))
        self.last_data = self.data
        self.writes -= self.answer
        if self.beat:
            self.reads[0][1] -= 1
            if not self.reads[0][1]:
                self.reads.pop(0)
                self.outstanding -= 1
        if self.owner is not None and self.read:
            self.reads.append([self.owner, self.clients[self.owner].transfers[0][0][1]])
            ended = self.clients[self.owner].next_burst()
        self.address_done |= self.write
        if self.datum:
            self.beats_left -= 1
        if self.store_done:
            self.writes += 1
            self.begun = False
            ended = self.clients[STORE].next_burst()
        if self.owner is None and any(self.waits):
            waiting = [n for n in range(3) if self.waits[n]]
            self.owner = min(waiting, key=lambda n: (self.clients[n].since, n))
            self.granted[self.owner] += 1
        elif ended:
            self.owner = None


@pytest.mark.parametrize("seed", range(3))
def test_port(seed):
    core = CoreConfig(rows=2, cols=2, port_bytes=2)
    dut = MemoryPort(core=core)
    model = Model(dut, seed, core)

    async def bench(ctx):
        cycle = 0
        while any(client.transfers for client in model.clients) or model.outstanding:
            model.drive(ctx, cycle)
            model.check(ctx)
            model.advance()
            await ctx.tick()
            cycle += 1

    simulate(dut, bench)
    assert model.granted == [40, 40, 40]
