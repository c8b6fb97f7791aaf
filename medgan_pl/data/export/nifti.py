"""NIfTI-1: the lossless format of a volume."""

import gzip
from pathlib import Path

import nibabel
import numpy as np

from medgan_pl.core.files import write_whole
from medgan_pl.data.export.origin import finite, whole_int16
from medgan_pl.data.readers.scan import canonical

# "aligned to something" in NIfTI-1: 1 would claim the coordinates of a scanner, and 0 would claim nothing at all.
ALIGNED = 2
DESCRIP_BYTES = 79


def write_nifti(
    path: Path, values: np.ndarray, affine: np.ndarray, *, description: str = "", dtype: type = np.float32, mark: str = "SYNTHETIC",
    outside: np.ndarray | None = None,
) -> None:  # fmt: skip
    """Write `values` to `path`, which ends in .nii.gz; the same image gives the same bytes.

    - values: (D, H, W), or (H, W) as one slice, in native units; stored as (W, H, D), NIfTI's x, y, z.
    - affine: (4, 4), indices of (D, H, W) -> RAS+ mm, written as sform and qform with code 2.
    - dtype: np.float32, np.int16 (rounded to whole units, HU), or np.uint8 (labels).
    - outside: bool of the shape of `values`: written as NaN, or as 0 of another dtype than np.float32.

    The header's `descrip` is the mark, "medgan_pl" and the description, 79 bytes together.
    Raise ValueError for another ending or dtype, a longer description, values beyond the dtype, NaN, infinity; ScanError for a bad affine.
    """
    if not path.name.endswith(".nii.gz"):
        raise ValueError(f"a NIfTI file must end in .nii.gz, got {path.name}")
    descrip = f"{mark} medgan_pl {description}".strip().encode()
    if len(descrip) > DESCRIP_BYTES:
        raise ValueError(f"the mark and `description` must fit {DESCRIP_BYTES} bytes, got {len(descrip)}; shorten it")
    volume = finite(values)
    if outside is not None:
        volume = np.where(outside, np.nan if dtype is np.float32 else 0, volume)
    volume = volume[None] if volume.ndim == 2 else volume  # (D, H, W)
    canonical(volume, affine)  # raises for an invalid affine
    stored = np.asfortranarray(as_stored(volume, dtype).T)  # (W, H, D)
    image = nibabel.Nifti1Image(stored, None)
    swapped = np.asarray(affine, np.float64)[:, [2, 1, 0, 3]]
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = descrip
    image.set_sform(swapped, ALIGNED)
    image.set_qform(swapped, ALIGNED)
    write_whole(path, gzip.compress(image.to_bytes(), compresslevel=6, mtime=0))


def as_stored(volume: np.ndarray, dtype: type) -> np.ndarray:
    if dtype is np.float32:
        if (largest := np.nanmax(np.abs(volume))) > np.finfo(np.float32).max:
            raise ValueError(f"float32 holds ±{np.finfo(np.float32).max:.3g}, got {largest:.3g}; the generator has diverged")
        return volume.astype(np.float32)
    if dtype is np.uint8:
        if volume.min() < 0 or volume.max() > 255 or np.any(volume % 1):
            raise ValueError(
                f"np.uint8 is for labels, whole numbers from 0 to 255, got {volume.min():g} to {volume.max():g}; use np.float32 or np.int16"
            )
        return volume.astype(np.uint8)
    if dtype is not np.int16:
        raise ValueError(f"`dtype` must be np.float32, np.int16 or np.uint8, got {dtype}")
    return whole_int16(volume)
