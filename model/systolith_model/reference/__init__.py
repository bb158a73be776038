"""Float reference layers and models."""
