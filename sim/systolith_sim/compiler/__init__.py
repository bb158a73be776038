"""Graph or matrix product -> tiles -> Program (docs/contracts/layout.md)."""

from systolith_sim.compiler.bound import bound_cycles
from systolith_sim.compiler.layers import LinearData, chain, gemm
from systolith_sim.compiler.lower import compile_graph
from systolith_sim.compiler.plan import Linear, Plan, plan_gemm, plan_layers
from systolith_sim.compiler.tiling import Shape, Tiling

__all__ = ["Linear", "LinearData", "Plan", "Shape", "Tiling", "bound_cycles", "chain", "compile_graph",
           "gemm", "plan_gemm", "plan_layers"]
