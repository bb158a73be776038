"""The core in SimPy, cycle for cycle."""
