"""The command's groups, one file each; ``cli`` puts them together."""
