"""Builds of the stand-in; the engine's cache keeps them."""

from functools import cache

from amaranth.back import verilog
from engine.exerciser import Exerciser

from systolith_sim.engine import Build, build_verilog


@cache
def exerciser_verilog(port_bytes: int) -> str:
    return verilog.convert(Exerciser(port_bytes=port_bytes), name="core", emit_src=False)


@cache
def exerciser(port_bytes: int, *, wave: bool = False) -> Build:
    return build_verilog(exerciser_verilog(port_bytes), port_bytes=port_bytes, wave=wave)
