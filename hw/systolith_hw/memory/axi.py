"""Signatures of the core's two AXI ports; names are those of the AXI standard."""

from typing import Protocol

from amaranth import Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

OKAY = 0b00
INCREMENT = 0b01
FETCH_ID = 0
LOAD_ID = 1


class Axi4(wiring.Signature):
    """AXI4 manager without locks, caches, quality of service or users, seen from the manager.

    Parameters
    ----------
    data_bytes : int
        Bytes of a beat; a power of two.
    """

    def __init__(self, *, data_bytes: int) -> None:
        self.data_bytes = data_bytes
        address = {"id": Out(1), "addr": Out(32), "len": Out(8), "size": Out(3), "burst": Out(2)}
        super().__init__({
            **{f"aw{name}": member for name, member in address.items()}, "awvalid": Out(1), "awready": In(1),
            "wdata": Out(8 * data_bytes), "wstrb": Out(data_bytes), "wlast": Out(1),
            "wvalid": Out(1), "wready": In(1),
            "bid": In(1), "bresp": In(2), "bvalid": In(1), "bready": Out(1),
            **{f"ar{name}": member for name, member in address.items()}, "arvalid": Out(1), "arready": In(1),
            "rid": In(1), "rdata": In(8 * data_bytes), "rresp": In(2), "rlast": In(1),
            "rvalid": In(1), "rready": Out(1),
        })


class Axi4Port(Protocol):
    """What a member of signature ``Axi4`` is to type checkers, whichever way it looks."""

    awid: Signal
    awaddr: Signal
    awlen: Signal
    awsize: Signal
    awburst: Signal
    awvalid: Signal
    awready: Signal
    wdata: Signal
    wstrb: Signal
    wlast: Signal
    wvalid: Signal
    wready: Signal
    bid: Signal
    bresp: Signal
    bvalid: Signal
    bready: Signal
    arid: Signal
    araddr: Signal
    arlen: Signal
    arsize: Signal
    arburst: Signal
    arvalid: Signal
    arready: Signal
    rid: Signal
    rdata: Signal
    rresp: Signal
    rlast: Signal
    rvalid: Signal
    rready: Signal

    @property
    def signature(self) -> wiring.Signature: ...


class AxiLite(wiring.Signature):
    """AXI4-Lite manager, 32 bits of data, seen from the manager."""

    def __init__(self, *, address_bits: int = 12) -> None:
        self.address_bits = address_bits
        super().__init__({
            "awaddr": Out(address_bits), "awprot": Out(3), "awvalid": Out(1), "awready": In(1),
            "wdata": Out(32), "wstrb": Out(4), "wvalid": Out(1), "wready": In(1),
            "bresp": In(2), "bvalid": In(1), "bready": Out(1),
            "araddr": Out(address_bits), "arprot": Out(3), "arvalid": Out(1), "arready": In(1),
            "rdata": In(32), "rresp": In(2), "rvalid": In(1), "rready": Out(1),
        })


class AxiLitePort(Protocol):
    """What a member of signature ``AxiLite`` is to type checkers, whichever way it looks."""

    awaddr: Signal
    awprot: Signal
    awvalid: Signal
    awready: Signal
    wdata: Signal
    wstrb: Signal
    wvalid: Signal
    wready: Signal
    bresp: Signal
    bvalid: Signal
    bready: Signal
    araddr: Signal
    arprot: Signal
    arvalid: Signal
    arready: Signal
    rdata: Signal
    rresp: Signal
    rvalid: Signal
    rready: Signal

    @property
    def signature(self) -> wiring.Signature: ...
