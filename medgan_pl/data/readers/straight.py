"""Resample slices of a tilted gantry, or at uneven steps, to a straight and even grid."""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import shift

from medgan_pl.data.readers.header import Header
from medgan_pl.data.readers.scan import ScanError, bound
from medgan_pl.data.readers.stacks import directions

RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # LPS -> RAS
WIDEST = 5  # usual steps; a head may have slices of 2.5 mm below and 10 mm above


def straightened(
    volume: np.ndarray, padding: np.ndarray | None, positions: np.ndarray, axes: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Return the volume (D, H, W) on an even grid along the slices' normal, its padding, and its affine, indices -> LPS mm.

    - positions (D, 3): LPS mm of the first pixel of each slice, in order along the normal.
    - axes (3, 3): columns are the median step along the normal, one row down, and one column across, in LPS mm.

    Values are interpolated linearly, along the rows and columns by the shear, and between the two nearest slices. The field grows by
    the shear. What no slice covers is padding, with the least value.
    """
    steps = np.linalg.solve(axes, (positions - positions[0]).T).T  # (D, 3): places of the slices in steps, rows and columns
    along, inplane = steps[:, 0], steps[:, 1:]
    low, high = np.floor(inplane.min(0) + 1e-6).astype(int), np.ceil(inplane.max(0) - 1e-6).astype(int)
    shape = (int(along[-1] + 0.01) + 1, volume.shape[1] + high[0] - low[0], volume.shape[2] + high[1] - low[1])
    bound(shape, 4)
    least = volume.min()

    def laid(i: int) -> np.ndarray:
        """Return slice i on the grid's rows and columns, NaN outside it."""
        known = volume[i] if padding is None else np.where(padding[i], np.nan, volume[i])
        wide = np.full(shape[1:], np.nan, np.float32)
        wide[: volume.shape[1], : volume.shape[2]] = known
        return shift(wide, inplane[i] - low, order=1, cval=np.nan, prefilter=False)

    straight = np.empty(shape, np.float32)
    for k in range(shape[0]):
        place = min(float(k), along[-1])
        i = int(np.clip(np.searchsorted(along, place + 1e-6) - 1, 0, len(along) - 2))
        weight = np.clip((place - along[i]) / (along[i + 1] - along[i]), 0, 1)
        straight[k] = laid(i) if weight < 1e-6 else (1 - weight) * laid(i) + weight * laid(i + 1)
    outside = np.isnan(straight)
    straight[outside] = least
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes, positions[0] + axes[:, 1:] @ low
    return straight, outside if outside.any() else None, affine


def near(headers: Sequence[Header]) -> np.ndarray:
    """Return the usual step along the normal, LPS mm; 1 mm for a single slice."""
    normal = directions(headers[0])[2]
    return normal * (np.median(np.diff([np.dot(header.position, normal) for header in headers])) if len(headers) > 1 else 1.0)


def affine_lps(headers: Sequence[Header], step: np.ndarray) -> np.ndarray:
    across, down, _ = directions(headers[0])
    row_mm, column_mm = headers[0].pixel_spacing_mm
    affine = np.eye(4)
    affine[:3] = np.column_stack([step, down * row_mm, across * column_mm, headers[0].position])
    return affine


def made_straight(
    headers: Sequence[Header], volume: np.ndarray, padding: np.ndarray | None, loose: str
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, tuple[str, ...]]:
    """Return the volume, its padding and affine (RAS) on a straight, even grid, and the note that says so.

    Raise ScanError for a gap of more than WIDEST usual steps: values across it would be invented.
    """
    axes = affine_lps(headers, near(headers))[:3, :3]
    positions = np.array([header.position for header in headers])
    steps = np.diff(positions @ directions(headers[0])[2]) / np.linalg.norm(axes[:, 0])
    if steps.max() > WIDEST:
        place = int(steps.argmax())
        raise ScanError(
            f"a gap of {steps[place]:.3g} usual steps between slices {place + 1} and {place + 2} cannot be filled (at most {WIDEST}); "
            "split the series there, or use its slices in 2-D without data.modality.straighten"
        )
    volume, padding, affine = straightened(volume, padding, positions, axes)
    step_mm = np.linalg.norm(axes[:, 0])
    note = f"{loose.partition(';')[0]}; resampled to a straight grid of {step_mm:.4g} mm (data.modality.straighten)"
    return volume, padding, RAS @ affine, (note,)
