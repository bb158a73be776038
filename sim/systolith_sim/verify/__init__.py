"""RTL, contract and cycle model side by side on random cases."""
