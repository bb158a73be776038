"""Arithmetic: multiplier and its twins, requantizer."""
