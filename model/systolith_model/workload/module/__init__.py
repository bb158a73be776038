"""Graphs of any torch module. Loads torch, unlike the rest of ``systolith_model.workload``."""

from systolith_model.workload.module.trace import ModuleGraph, module_graph

__all__ = ["ModuleGraph", "module_graph"]
