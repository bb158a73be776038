"""Model configurations by name, each figure with its source."""
