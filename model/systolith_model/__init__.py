"""The models of Systolith: what is computed, never when."""
