"""Graphs of ONNX files. Loads onnx, unlike the rest of ``systolith_model.workload``, and no torch."""

from systolith_model.workload.onnx_file.file import OnnxFile, onnx_graph

__all__ = ["OnnxFile", "onnx_graph"]
