"""What graphs of traced passes share, of a torch module or of an ONNX file. No torch here."""
