"""The vector path: accumulator read-out to scratchpad."""
