"""One image as it was read: values in native units, position in the patient, padding."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# A header may claim any size. 2^28 voxels (512 x 512 x 1024) are twice what most whole-body series hold; in int16, with the copy in
# float32, they take 1.5 GiB.
MAX_VOXELS = 2**28
MAX_BYTES = 3 * 2**29
# Directions are stored with few digits; a tilted CT gantry starts at about 1°.
MAX_SLANT_DEG = 0.5
# Slices so many times as far apart as their pixels are wide are a stack of images; in nearer ones each axis shows about as much detail.
STACKED = 1.5
# Directions of a canonical volume's axes (to the head, the back, the left), as RAS+ unit vectors.
CANONICAL = ((0.0, 0.0, 1.0), (0.0, -1.0, 0.0), (-1.0, 0.0, 0.0))


class ScanError(ValueError):
    """A file that cannot be used, and why. The message never names the file or its patient: it is kept in the cache.

    `file`: the place of the file at fault among those of the scan, for `blaming`; None for a scan of one file, or if all are at fault.
    """

    def __init__(self, why: str = "", file: int | None = None) -> None:
        super().__init__(why)
        self.file = file


class NoDecoder(RuntimeError):
    """A file that needs a decoder that is not installed: no fault of the file, and never kept in the cache."""


def blaming(why: str, paths: Sequence[Path], file: int | None) -> str:
    """Return the reason against a scan in the files `paths`, with the name of the file at fault; for messages only."""
    return why if file is None or len(paths) < 2 else f"{paths[file].name}: {why}"


@dataclass(frozen=True)
class Scan:
    """A film (H, W) or a volume (D, H, W), float32 in native units (HU, signal, detector values).

    A volume's axes are those of `canonical`: feet to head, front to back, right to left.

    - `spacing_mm`: distance of voxel centers along each axis of `pixels`; None if unknown (a PNG).
    - `affine`: (4, 4) float64, voxel indices in the order of `pixels`' axes -> RAS+ millimeters (x to the right, y to the front, z to the
      head, as in NIfTI); None for films.
    - `padding`: bool, the shape of `pixels`: not measured by the scanner; `pixels` holds the minimum outside it there. None: nowhere.
    - `bits`: bits of a stored integer; None for floating point.
    - `shades`: native values of black and of white, of a picture whose gray values stand for them; None: `pixels` are as stored.
    - `synthetic`: true if the file is marked as generated.
    - `beside`: companions on the same grid (data/companion.py).
    - `acquired`: the axis of `pixels` along which slices were stacked, None if the file does not say.
    - `loose`: the reason why slices are on no straight, even grid. They are good as single slices along `acquired`; `affine` is then only
      near the truth. None for a volume.
    - `notes`: what the user should know about the file, a sentence each.
    """

    pixels: np.ndarray
    spacing_mm: tuple[float, ...] | None = None
    affine: np.ndarray | None = None
    padding: np.ndarray | None = None
    bits: int | None = None
    synthetic: bool = False
    beside: "tuple[Scan, ...]" = ()
    notes: tuple[str, ...] = ()
    loose: str | None = None
    acquired: int | None = None
    shades: tuple[float, float] | None = None

    @property
    def stored(self) -> np.ndarray:
        """Return `pixels`, or the whole numbers in the file of a picture with `shades`."""
        if self.shades is None:
            return self.pixels
        black, white = self.shades
        return np.rint((self.pixels - black) * ((2**self.bits - 1) / (white - black)))

    @property
    def stacked(self) -> int | None:
        """The axis whose slices are the images that were acquired: `acquired`, or the axis of one voxel or the largest spacing.

        None for films, and where the spacing of that axis is less than STACKED times that of both others, as in an isotropic volume.
        """
        single = [axis for axis, count in enumerate(self.pixels.shape) if count == 1]
        if self.pixels.ndim == 2 or self.loose is not None or self.spacing_mm is None:
            return self.acquired
        if len(single) == 1:
            return single[0]
        axis = int(np.argmax(self.spacing_mm)) if self.acquired is None else self.acquired
        others = max(mm for other, mm in enumerate(self.spacing_mm) if other != axis)
        return axis if self.spacing_mm[axis] >= STACKED * others * (1 - 1e-6) else None


def canonical(pixels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Permute and flip the axes of a volume and its affine, without resampling, to the nearest of feet-head, front-back, right-left.

    pixels (a, b, c) any; affine (4, 4): indices (a, b, c) -> RAS+ mm. The returned array may be a view.
    Raise ScanError for an affine that is not finite, is singular, or is sheared.
    """
    matrix = np.asarray(affine, np.float64)
    if not np.isfinite(matrix).all():
        raise ScanError("the affine must be finite, got NaN or infinity; the position of the voxels is unknown")
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    if not (spacing > 1e-6).all() or abs(np.linalg.det(matrix[:3, :3] / np.maximum(spacing, 1e-30))) < 1e-3:
        raise ScanError("the affine must span three directions, got a singular one; the position of the voxels is unknown")
    directions = matrix[:3, :3] / spacing
    slant = np.degrees(np.arcsin(np.clip(np.abs(directions.T @ directions - np.eye(3)).max(), 0, 1)))
    if slant > MAX_SLANT_DEG:
        raise ScanError(
            f"the axes must be perpendicular within {MAX_SLANT_DEG:g}°, got {slant:.1f}° (a tilted gantry?); resample it to a "
            "straight grid; dcm2niix does so for DICOM"
        )
    # columns of `directions`: the direction of each index, in (right, front, head)
    likeness = np.array(CANONICAL) @ directions  # (3 wanted, 3 axes)
    order = assign(np.abs(likeness))
    signs = [1 if likeness[i, axis] > 0 else -1 for i, axis in enumerate(order)]
    change = np.zeros((4, 4))  # canonical indices -> original indices
    change[3, 3] = 1
    for i, (axis, sign) in enumerate(zip(order, signs, strict=True)):
        change[axis, i] = sign
        change[axis, 3] = 0 if sign > 0 else pixels.shape[axis] - 1
    turned = pixels.transpose(order)[tuple(slice(None, None, sign) for sign in signs)]
    return turned, matrix @ change


def centered_affine(shape: Sequence[int], spacing_mm: Sequence[float], directions: Sequence[Sequence[float]] = CANONICAL) -> np.ndarray:
    """Return the affine (4, 4), indices -> RAS+ mm, of a volume (D, H, W) with axes in `directions` and its center at the origin."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(directions).T * spacing_mm
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def assign(likeness: np.ndarray) -> list[int]:
    """Return an axis (column) for each wanted direction (row), each used once, the largest likeness first."""
    order, left = [-1, -1, -1], np.array(likeness, np.float64)
    for _ in range(3):
        row, axis = np.unravel_index(np.argmax(left), left.shape)
        order[row] = int(axis)
        left[row], left[:, axis] = -1, -1
    return order


def spacing_of(affine: np.ndarray) -> tuple[float, ...]:
    """Return the spacing in mm along each axis."""
    return tuple(float(n) for n in np.linalg.norm(affine[:3, :3], axis=0))


def bound(shape: tuple[int, ...], bytes_each: int) -> None:
    """Raise ScanError for an impossible shape, or one that would not fit in memory; call it before allocating."""
    if any(n < 1 for n in shape):
        raise ScanError(f"every side must be 1 or more, got {' × '.join(map(str, shape))}")
    voxels = 1
    for n in shape:
        voxels *= int(n)
    if voxels > MAX_VOXELS or voxels * (bytes_each + 4) > MAX_BYTES:
        raise ScanError(
            f"an image may have at most {MAX_VOXELS:,} voxels and {MAX_BYTES / 2**30:g} GiB, its header claims "
            f"{' × '.join(map(str, shape))} of {bytes_each} bytes; split it, or repair the header"
        )
