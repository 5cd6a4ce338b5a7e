"""The command line: one small module per command; ``main`` puts them together."""
