"""Graph to tiles to Program."""
