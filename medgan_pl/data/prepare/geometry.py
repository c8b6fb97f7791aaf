"""Map a scan's grid to the network's grid: resample to a spacing without aliasing, crop or pad about the center."""

from collections.abc import Sequence

import numpy as np
import torch
from monai.transforms import CenterSpatialCrop, SpatialPad
from monai.utils import convert_to_tensor
from torch import Tensor

from medgan_pl.data.readers.scan import ScanError

# New times old samples of one axis, 1 GiB in memory: a side of 4096 resampled to 8192. A header may claim any spacing.
MAX_WEIGHTS = 2**25


def weights(count: int, scale: float, max_size: int | None = None) -> np.ndarray:
    """Return weights (new, count): each new sample along one axis as a mean of the old ones, about the same center.

    `scale` is new over old spacing. Shrinking takes the mean over the new sample's extent (no aliasing, means are kept), enlarging
    interpolates linearly between centers. Scale 1 is the identity. `max_size`: the largest number of new samples, about the center.
    Raise ScanError for more than MAX_WEIGHTS.
    """
    new = max(1, round(count / scale))
    new = new if max_size is None else min(new, max_size)
    if new * count > MAX_WEIGHTS:
        raise ScanError(
            f"the old and the new samples along an axis may multiply to {MAX_WEIGHTS:,}, got {count:,} that become {new:,}; check the "
            "spacing in the header, or set a coarser data.spacing_mm"
        )
    edges = (np.arange(new + 1) - new / 2) * scale + count / 2  # in old samples; sample i covers i to i + 1
    if scale >= 1:
        low, high = np.clip(edges[:-1, None], 0, count), np.clip(edges[1:, None], 0, count)
        old = np.arange(count)
        matrix = np.clip(np.minimum(high, old + 1) - np.maximum(low, old), 0, None)  # lengths of overlap
    else:
        centers = np.clip((edges[:-1] + edges[1:]) / 2 - 0.5, 0, count - 1)
        matrix = np.clip(1 - np.abs(centers[:, None] - np.arange(count)), 0, None)
    return matrix / matrix.sum(1, keepdims=True)


def finer(grid: np.ndarray) -> bool:
    """Return True if new indices lie closer together than the old ones along any axis."""
    return bool((np.diag(grid)[:-1] < 0.999).any())


def box_of(grid: np.ndarray, shape: Sequence[int], size: Sequence[int]) -> Tensor | None:
    """Return which of the new samples lie in the image of `shape`, (*size) bool; None if all do. `grid` is that of `Fit`."""
    box = torch.ones(tuple(size), dtype=torch.bool)
    for axis, (old, new) in enumerate(zip(shape, size, strict=True)):
        centers = torch.arange(new) * grid[axis, axis] + grid[axis, -1]
        box &= ((centers > -0.5) & (centers < old - 0.5)).view(-1, *[1] * (len(size) - 1 - axis))
    return None if box.all() else box


def resample(image: Tensor, scales: Sequence[float], size: Sequence[int]) -> Tensor:
    """Return `image` with its last len(scales) axes on a grid `scales` times as wide, about the same center (see `weights`).

    If the result is wider than `size`, only the middle is returned, centered exactly; an axis of scale 1 is unchanged.
    """
    for axis, (scale, max_size) in enumerate(zip(scales, size, strict=True), image.ndim - len(scales)):
        if abs(scale - 1) > 1e-6:
            matrix = torch.from_numpy(weights(image.shape[axis], scale, max_size)).to(image.dtype)
            image = (image.movedim(axis, -1) @ matrix.T).movedim(-1, axis)
    return image


class Fit:
    """Fit the last len(size) axes of an image to `size` about their center, with `fill` outside the image.

    spacing_mm: of the new grid; the field is cropped or padded. None keeps the proportions: one spacing for all axes, the largest at which
    the image fills `size` (`crop`) or the smallest at which all of it is inside.
    """

    def __init__(self, size: Sequence[int], spacing_mm: Sequence[float] | None = None, crop: bool = True) -> None:
        self.size, self.spacing_mm, self.crop = tuple(size), None if spacing_mm is None else tuple(spacing_mm), crop

    def spacing(self, shape: Sequence[int], spacing: Sequence[float]) -> tuple[float, ...]:
        """Return the spacing of the new grid, for an image of `shape` and `spacing`."""
        if self.spacing_mm is not None:
            return self.spacing_mm
        ratios = [n * s / m for n, s, m in zip(shape, spacing, self.size, strict=True)]
        return (min(ratios) if self.crop else max(ratios),) * len(ratios)

    def kept(self, shape: Sequence[int], spacing: Sequence[float]) -> tuple[slice, ...]:
        """Return the part of an image of `shape` that affects the new grid, about the same center."""
        parts = []
        for n, s, new, m in zip(shape, spacing, self.spacing(shape, spacing), self.size, strict=True):
            spare = max(0, int((n - m * new / s) / 2 + 1e-6) - (new < s))  # interpolation needs the next pixel too
            parts.append(slice(spare, n - spare))
        return tuple(parts)

    def __call__(self, image: Tensor, spacing: Sequence[float], fill: float) -> tuple[Tensor, np.ndarray]:
        """Map (*rest, *S) of `spacing` to (*rest, *size); also return (n + 1, n + 1), new indices -> old: affine @ it is the new affine."""
        dims, old = len(self.size), image.shape[-len(self.size) :]
        scales = [b / a for a, b in zip(spacing, self.spacing(old, spacing), strict=True)]
        image = resample(image[(..., *self.kept(old, spacing))], scales, self.size)
        grid = np.eye(dims + 1)
        for axis, (n, resampled, m, scale) in enumerate(zip(old, image.shape[-dims:], self.size, scales, strict=True)):
            start = resampled // 2 - m // 2 if resampled > m else -((m - resampled) // 2)  # as MONAI crops and pads
            grid[axis, axis] = scale
            grid[axis, -1] = (start + 0.5 - resampled / 2) * scale + n / 2 - 0.5
        flat = image.reshape(-1, *image.shape[-dims:])  # MONAI needs one channel axis before the last axes
        flat = SpatialPad(self.size, value=fill)(CenterSpatialCrop(self.size)(flat))
        return convert_to_tensor(flat, track_meta=False).reshape(*image.shape[:-dims], *self.size), grid
