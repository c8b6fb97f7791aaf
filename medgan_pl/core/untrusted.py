"""Checks of values that come out of a file which may have been made to harm."""

import math
from collections.abc import Iterator
from typing import Any

# Bounds on the values of a file, far above what a run of ours writes (whose settings have some 300 nodes).
MAX_VALUES = 200_000  # of a whole checkpoint: containers, tensors, numbers and texts
MAX_NODES, MAX_DEPTH, MAX_LETTERS = 5_000, 32, 4096  # of settings
MAX_UNITS = 2**20  # channels, classes, pixels a side, steps: any number that something is built by


def require(condition: bool, why: str) -> None:
    if not condition:
        raise ValueError(why)


def shown(value: Any) -> str:
    """A value out of a hostile file, for a message: a short one as it stands, of a long one the beginning, of a container the kind."""
    if isinstance(value, str):
        return repr(value[:100])
    short = value is None or isinstance(value, float) or (isinstance(value, int) and value.bit_length() < 200)
    return str(value) if short else f"a {type(value).__name__}"


def walk(node: Any, max_values: int) -> Iterator[tuple[str, Any]]:
    """Yield `node` and each value below it, with the name of its key (of the list's key, for a value in a list).

    Raise ValueError past `max_values` values or MAX_DEPTH levels. A value that is referred to many times is walked as often: that is how a
    short file becomes a huge object.
    """
    seen, ahead = 0, [("", node, 0)]
    while ahead:
        name, value, depth = ahead.pop()
        yield name, value
        seen += 1
        if isinstance(value, dict | list | tuple):
            require(seen + len(ahead) + len(value) <= max_values, f"it must hold at most {max_values} values")
            require(depth < MAX_DEPTH or not value, f"it must be at most {MAX_DEPTH} levels deep")
            below = value.items() if isinstance(value, dict) else ((name, child) for child in value)
            ahead += [(key if isinstance(key, str) else "", child, depth + 1) for key, child in below]


def is_table(node: Any, shape: tuple[int | None, ...]) -> bool:
    """Return True if `node` is nested lists of finite numbers of this shape; None stands for any length of at least 1."""
    if not shape:
        return isinstance(node, int | float) and math.isfinite(node)
    fits = isinstance(node, list) and len(node) == (shape[0] or max(1, len(node)))
    return fits and all(is_table(child, shape[1:]) for child in node)
