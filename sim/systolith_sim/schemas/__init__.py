"""JSON Schemas of what commands print and write."""
