"""The integer contract in torch: every operation the core does, exact."""
