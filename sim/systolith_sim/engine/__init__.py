"""The core's RTL as a compiled library, with the memory of the contract at its port."""

from systolith_sim.engine.build import Build, build_core, build_verilog
from systolith_sim.engine.engine import Engine
from systolith_sim.engine.errors import EngineError
from systolith_sim.engine.memory import Stalls

__all__ = ["Build", "Engine", "EngineError", "Stalls", "build_core", "build_verilog"]
