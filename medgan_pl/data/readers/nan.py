"""NaN in a file: outside the field of the image for some programs (SPM, ANTs, fMRI maps), damage for others; the user decides."""

import numpy as np

from medgan_pl.data.readers.scan import ScanError

REFUSE, PADDING = "refuse", "padding"


def checked(nan: str) -> str:
    """Return the setting data.modality.nan. Raise ValueError unless it is refuse or padding."""
    if nan not in (REFUSE, PADDING):
        raise ValueError(f"data.modality.nan must be {REFUSE}, or {PADDING} to read NaN as outside of the image, got {nan}")
    return nan


def outside_of(values: np.ndarray, nan: str = REFUSE) -> np.ndarray | None:
    """Return where the values are NaN, bool of their shape, None without any NaN.

    Raise ScanError for NaN unless `nan` is padding, for infinity, and for nothing but NaN.
    """
    if values.dtype.kind != "f":
        return None
    with np.errstate(all="ignore"):
        low, high = float(values.min()), float(values.max())  # NaN if any is
    if np.isfinite(low) and np.isfinite(high):
        return None
    outside = np.isnan(values)
    count, infinite = int(outside.sum()), int(np.isinf(values).sum())
    if infinite or nan != PADDING:
        way = f", {count} of them NaN; NaN is read as padding, outside of the image, with data.modality.nan={PADDING}" if count else ""
        raise ScanError(f"every voxel must be a finite number, got {count + infinite} NaN or infinite of {values.size}{way}")
    if count == values.size:
        raise ScanError(f"it must have voxels besides padding, got NaN in all {count} of them")
    return outside


def filled(pixels: np.ndarray, outside: np.ndarray | None) -> np.ndarray:
    """Return the pixels with their smallest value at `outside`, bool of their shape; they are changed in place."""
    if outside is not None:
        pixels[outside] = pixels.min(where=~outside, initial=np.inf)
    return pixels
