"""Sweeps: many runs from one command, over a grid or by search, that can be resumed and end with a table of results."""
