"""Energy of operations and machines."""
