"""The meaning of the gray values of a picture of a CT or MRI slice, which the user states: PNG and JPEG hold no HU."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from medgan_pl.data.readers.scan import Scan, ScanError

# HU at black (0) and at white (2^bits - 1), such as (-1000, 400); DeepLesion, which stores HU + 32768, has (-32768, 32767).
Shades = tuple[float, float]
HU_WORD, ARBITRARY = "hu", "arbitrary"
# The text chunk by which our own PNG states its HU at black and at white.
CHUNK = "HU at black and white"
NOT_STATED = (
    "a picture does not say what its gray values mean: state it by data.modality.pictures, for CT as [HU at black, HU at white], such as "
    "[-1000,400], for MRI as arbitrary"
)


def stated(pictures: Any, *, calibrated: bool) -> str | Shades | None:
    """Return the meaning of the gray values that a user states: `calibrated` (CT) as HU, other modalities as `arbitrary`.

    Raise ValueError for anything else.
    """
    if pictures is None or (isinstance(pictures, str) and pictures == (HU_WORD if calibrated else ARBITRARY)):
        return pictures
    if not calibrated:
        raise ValueError(f"data.modality.pictures of MRI must be null or {ARBITRARY}, as a signal has no unit, got {pictures}")
    ends = [] if isinstance(pictures, str) or not isinstance(pictures, Sequence) else list(pictures)
    numbers = len(ends) == 2 and all(isinstance(end, int | float) and not isinstance(end, bool) and np.isfinite(end) for end in ends)
    if not numbers or not ends[0] < ends[1]:
        raise ValueError(
            "data.modality.pictures of CT must be [HU at black, HU at white], the first the smaller, such as [-1000,400], or hu for TIFF "
            f"of signed whole or floating-point HU, got {pictures}"
        )
    return float(ends[0]), float(ends[1])


def check_alone(pictures: Any, **others: Any) -> None:
    """Raise ValueError for a setting of DICOM series or volumes together with `pictures`."""
    if pictures is not None and (idle := [name for name, value in others.items() if value]):
        raise ValueError(
            f"data.modality.pictures reads single slices as PNG, JPEG or TIFF, and data.modality.{idle[0]} is for volumes, got both; "
            "leave one of them out"
        )


def as_hu(scan: Scan, meaning: str | Shades) -> Scan:
    """Return the slice of a picture in HU: its values are HU already (`hu`), or stand for them linearly between black and white.

    Raise ScanError for values that can be no HU, and for values without a black and a white.
    """
    if meaning == HU_WORD:
        if not scan.pixels.min() < 0:
            raise ScanError(
                f"data.modality.pictures=hu takes the stored values as HU, which reach below 0 (air, fat), got {scan.pixels.min():g} and "
                "above; state the HU at black and at white, such as data.modality.pictures=[-1000,400]"
            )
        return scan
    if scan.bits is None or scan.bits > 16 or scan.pixels.min() < 0:
        raise ScanError(
            "a picture with black and white must hold whole numbers from 0, of 8 to 16 bits, got floating-point, signed or longer ones; if "
            "they are HU, use data.modality.pictures=hu"
        )
    black, white = meaning
    values = scan.pixels.astype(np.float64) * ((white - black) / (2**scan.bits - 1)) + black
    return replace(scan, pixels=values.astype(np.float32), shades=(black, white))


def said_in(text: str) -> Shades | None:
    """Return the HU at black and at white in the text chunk of our own PNG, None for other text."""
    number = r"(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)"
    found = re.fullmatch(f"{number} {number}", text[:80])
    if found is None:
        return None
    black, white = map(float, found.groups())
    return (black, white) if np.isfinite([black, white]).all() and black < white else None


def as_text(low: float, high: float) -> str:
    """Return the text chunk for HU `low` at black and `high` at white."""
    return f"{float(low)!r} {float(high)!r}"
