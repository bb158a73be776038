"""Scratchpads, accumulator, AXI4 DMA."""
