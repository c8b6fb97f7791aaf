"""The check of a setting that counts something."""

from typing import Any


def whole_number(key: str, value: Any, minimum: int, hint: str = "") -> int:
    """Return `value`. Raise ValueError, with `key` and `hint`, unless it is an int, and no bool, of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ValueError(f"`{key}` must be a whole number of at least {minimum}, got {value!r}{hint and f'; {hint}'}")
    return value
