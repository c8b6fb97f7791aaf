"""Sweeps: many runs from one command, over a grid or by search, that can stop, go on, and tell at the end what came of them."""
