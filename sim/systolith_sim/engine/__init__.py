"""The core as a compiled library."""
