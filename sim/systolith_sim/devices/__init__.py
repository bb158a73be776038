"""Machines as data files, and the kernel cost models that read them."""
