"""Checks of the settings of a datamodule, for any types that the command line makes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from medgan_pl.core.counts import whole_number


def check(
    *,
    root: Any,
    split: Any,
    classes: Any,
    fractions: Any,
    max_corrupt: Any,
    duplicates: Any,
    mirrored: bool,
    counts: Mapping[str, tuple[Any, int]],
) -> None:
    """Raise ValueError for a setting that is not allowed. `mirrored`: sides that differ are flipped. `counts`: name -> (value, minimum)."""
    if root is not None and not str(root).strip():
        raise ValueError(
            f"data.root must be a folder, a .csv file or null (the embedded cohort), got {root!r}; set one, or leave data.root out"
        )
    for name, value, choices in (
        ("split", split, ("patient", "folders", "none")),
        ("classes", classes, ("folders", "none")),
        ("duplicates", duplicates, ("refuse", "drop")),
    ):
        if value not in choices:
            raise ValueError(f"data.{name} must be {' or '.join(choices)}, got {value!r}")
    if not are_numbers(fractions, 3) or min(fractions) < 0 or min(fractions[:2]) == 0 or not abs(sum(fractions) - 1) <= 1e-6:
        raise ValueError(f"data.fractions must be [train, val, test], sum to 1, train and val above 0, got {fractions!r}")
    if not are_numbers([max_corrupt], 1) or not 0 <= max_corrupt <= 1:
        raise ValueError(f"data.max_corrupt must be a share in 0 to 1, got {max_corrupt!r}")
    if mirrored:
        raise ValueError(
            "data.augment.flip=true mirrors left and right, but data.laterality=true states that the sides differ (the heart is left); use "
            "data.augment.flip=false, or data.laterality=false if a mirrored image could be a patient's"
        )
    for name, (value, minimum) in counts.items():
        whole_number(f"data.{name}", value, minimum)


def numbers(name: str, value: Any, count: int, minimum: float, whole: bool = False) -> tuple[Any, ...]:
    """Return one number for each of `count` axes; `value` is one for all axes, or one for each.

    Raise ValueError for anything else, and for a number below `minimum` (0: not above 0).
    """
    kind = int if whole else (int, float)
    sides = [value] * count if isinstance(value, kind) else value
    if not are_numbers(sides, count, kind) or min(sides) < minimum or min(sides) <= 0:
        axes = "[H, W]" if count == 2 else "[D, H, W]"
        what = f"of at least {minimum} whole pixels or voxels" if whole else "above 0"
        raise ValueError(f"data.{name} must be a number or {axes} {what}, got {value!r}")
    return tuple(sides)


def are_numbers(values: Any, count: int, kind: type | tuple[type, ...] = (int, float)) -> bool:
    """Return True if `values` are `count` finite numbers of that kind."""
    if not isinstance(values, Sequence) or len(values) != count:
        return False
    return all(isinstance(n, kind) and not isinstance(n, bool) and math.isfinite(n) for n in values)
