"""Time, memory, energy and price of whole models on one or many devices."""
