"""Graphs of a transformer: what a prefill, a decode step or a training step computes. No torch here."""

from systolith_model.workload.inference import decode_graph, forward_graph, prefill_graph
from systolith_model.workload.memory import TrainingMemory, training_memory
from systolith_model.workload.training import training_graph

__all__ = [
    "TrainingMemory",
    "decode_graph",
    "forward_graph",
    "prefill_graph",
    "training_graph",
    "training_memory",
]
