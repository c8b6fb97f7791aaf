"""The part of a scan that becomes an image, and its grid: a film, slices of a volume, a whole volume, or a volume to take patches from."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from medgan_pl.core.counts import whole_number
from medgan_pl.data.masks import covered
from medgan_pl.data.prepare.geometry import Fit, box_of, finer
from medgan_pl.data.prepare.planes import ACQUIRED, PLANES, acquired_in
from medgan_pl.data.readers.scan import CANONICAL, MAX_VOXELS, Scan, ScanError, bound

# A voxel of which padding is this share or more is no image; less is rounding.
PADDED = 1e-3


@dataclass(frozen=True)
class Cut:
    """The images that a layout cuts from a scan.

    - `pixels`: (n, *S) in native units.
    - `spacing_mm`: of the new grid. `affine`: of the new grid, for volumes only.
    - `enlarged`: True if the new grid is finer than the grid of the scan.
    - `box`: (*S) bool, the part that the scan covers; None if it covers all.
    """

    pixels: Tensor
    spacing_mm: tuple[float, ...] | None
    affine: np.ndarray | None
    enlarged: bool
    box: Tensor | None


class Layout(ABC):
    """A rule that cuts a scan into images.

    - `image_size`: sides of one image of a batch. `size`: the same, None if the cut images differ in size from scan to scan (patches).
    - `directions`: as in `intensity.Inverse`.
    - `axis`: the plane of slices, None for others. `stacked_axis`: the axis of the scan along which the images are stacked; None if the
      whole scan is one image. A layout that takes each scan's own plane (ACQUIRED) has no directions and no `stacked_axis`: `of` has them.
    - `settings`: all settings that the result depends on, for the key of the cache.
    """

    image_size: tuple[int, ...]
    size: tuple[int, ...] | None
    directions: tuple[tuple[float, ...], ...] | None
    axis: str | None = None
    stacked_axis: int | None = None
    settings: Mapping[str, Any]

    def of(self, scan: Scan) -> "Layout":
        """Return the layout of this scan, whose plane is known. Raise ScanError as `check_stacked`."""
        self.check_stacked(scan)
        return self

    @abstractmethod
    def cut(self, scan: Scan, fill: float) -> Cut:
        """Return the images at the size and spacing of training. `fill` is the native value outside the scan."""

    def cut_mask(self, scan: Scan, inside: np.ndarray) -> Tensor:
        """Return the mask `inside` (bool, on the scan's grid) on the grid of the images: (n, *S) bool; half covered counts as inside."""
        return covered(self.cut(replace(scan, pixels=inside.astype(np.float32), padding=None), fill=0.0).pixels)

    def inside(self, scan: Scan, cut: Cut) -> Tensor | None:
        """Return which voxels of the images that `cut` made are image (n, *S) bool: no padding is part of them. None if all are."""
        if scan.padding is None or not scan.padding.any():
            return None if cut.box is None else cut.box.expand(cut.pixels.shape)
        shares = self.cut(replace(scan, pixels=scan.padding.astype(np.float32), padding=None), fill=1.0).pixels
        return shares < PADDED

    def seen(self, scan: Scan) -> Scan:
        """Return the part of the scan whose values count for the intensity levels."""
        return scan

    def worth(self, images: Tensor) -> Tensor:
        """Return which images to keep: (n, C, *S) in [-1, 1] -> (n,) bool."""
        return torch.ones(len(images), dtype=torch.bool)

    def fixed(self, scan: Scan) -> "Layout":
        """Return a layout that cuts images of `image_size` from this scan without randomness; for patches the middle one."""
        return self

    def resized(self, size: Sequence[int]) -> "Layout":
        """Return the layout for a network whose source has another size (super-resolution) than the image."""
        return self

    def pixel_size(self, shape: Sequence[int]) -> tuple[float, ...] | None:
        """Return the side of an image's pixel in pixels of a scan of `shape` that has no spacing; None if it depends on the spacing."""
        return None

    def check_stacked(self, scan: Scan) -> None:
        """Raise ScanError for slices on no straight, even grid, unless the images are those slices."""
        if scan.loose is not None and scan.acquired != self.stacked_axis:
            raise ScanError(f"only the slices that were acquired can be used one by one (image.spatial_dims=2): {scan.loose}")

    # A scan on its own grid, both directions --------------------------------------------------------------------------------------------

    def arranged(self, pixels: np.ndarray) -> np.ndarray:
        """Return a view of the array of a scan with the images first, each as it is displayed: (*S) -> (n, *S)."""
        return pixels[None]

    def images(self, pixels: np.ndarray) -> Tensor:
        """Return all images of a scan at its own size: (*S) -> (1, *S), or (D, H, W) -> (n, rows, columns)."""
        return torch.from_numpy(np.ascontiguousarray(self.arranged(pixels)))

    def assembled(self, images: Tensor) -> np.ndarray:
        """Return the array of a scan from its images, the inverse of `images`, for images of any size."""
        return images[0].numpy()

    def each_axis(self, factors: Sequence[int]) -> tuple[int, ...]:
        """Return factors for the axes of the scan, given those for the axes of an image."""
        return tuple(factors)

    def within(self, lengths: Sequence[float]) -> tuple[float, ...]:
        """Return the lengths along the axes of an image, given those along the axes of the scan."""
        return tuple(length for axis, length in enumerate(lengths) if axis != self.stacked_axis)


def check_thick(scan: Scan) -> None:
    """Raise ScanError for a single slice, and for slices that are on no straight, even grid: they are no volume."""
    if scan.loose is not None:
        raise ScanError(scan.loose)
    if 1 in scan.pixels.shape:
        raise ScanError("a volume must have two slices or more along each axis, got one; image.spatial_dims=2 trains on single slices")


class Film(Layout):
    """The film itself, at `size` (H, W) pixels: the long side is cropped about the center (`crop`), or the short side is padded."""

    directions = None

    def __init__(self, *, size: Sequence[int], crop: bool) -> None:
        self.size = self.image_size = tuple(size)
        self.crop, self.fit = crop, Fit(size, crop=crop)
        self.settings = {"film": list(size), "crop": crop}

    def seen(self, scan: Scan) -> Scan:
        """Return the film without what the crop cuts off, which does not count for the contrast."""
        part = self.fit.kept(scan.pixels.shape, scan.spacing_mm or (1.0, 1.0))
        return replace(scan, pixels=scan.pixels[part], padding=None if scan.padding is None else scan.padding[part])

    def cut(self, scan: Scan, fill: float) -> Cut:
        spacing = scan.spacing_mm or (1.0, 1.0)
        fit = self.fitted(scan.pixels.shape, spacing)
        pixels, grid = fit(torch.from_numpy(np.ascontiguousarray(scan.pixels)), spacing, fill)
        return Cut(
            pixels[None],
            scan.spacing_mm and fit.spacing(scan.pixels.shape, spacing),
            None,
            finer(grid),
            box_of(grid, scan.pixels.shape, fit.size),
        )

    def fitted(self, shape: Sequence[int], spacing: Sequence[float]) -> Fit:
        """Return the way of a film of this shape and spacing to the new grid."""
        return self.fit

    def resized(self, size: Sequence[int]) -> "Film":
        return Film(size=size, crop=self.crop)

    def pixel_size(self, shape: Sequence[int]) -> tuple[float, ...]:
        return self.fit.spacing(shape, (1.0, 1.0))


class Slices(Layout):
    """The slices of a volume, at `size` (H, W) pixels of `spacing_mm` (None: the whole field at `size`, proportions kept).

    - `axis`: axial (seen from the feet, front up), coronal (from the front, head up), sagittal (from the left, head up), or ACQUIRED: that
      of each scan's own slices (`Scan.stacked`), axial for a scan that has none.
    - `part`: the range of slices, as fractions of the volume along the axis: from the feet, the front, the right.
    - `step`: take every step-th slice.
    - `foreground`: a slice is empty and is dropped if a smaller share of its pixels is above -0.9 in the first channel.

    Raise ValueError for an unknown axis, an empty or impossible range, and a step or share out of range.
    """

    def __init__(
        self, *, size: Sequence[int], spacing_mm: Sequence[float] | None, crop: bool,
        axis: str = "axial", part: Sequence[float] = (0.0, 1.0), step: int = 1, foreground: float = 0.05,
    ) -> None:  # fmt: skip
        if axis not in (*PLANES, ACQUIRED):
            raise ValueError(f"data.slices.axis must be one of {', '.join((ACQUIRED, *PLANES))}, got {axis}")
        if len(part) != 2 or not 0 <= part[0] < part[1] <= 1:
            raise ValueError(f"data.slices.part must be [from, to] with 0 <= from < to <= 1, got {list(part)}")
        whole_number("data.slices.step", step, 1)
        if not 0 <= foreground <= 1:
            raise ValueError(f"data.slices.foreground must be a share in 0 to 1, got {foreground}")
        self.size = self.image_size = tuple(size)
        self.spacing_mm, self.crop, self.fit = spacing_mm and tuple(spacing_mm), crop, Fit(size, spacing_mm, crop)
        self.axis, (self.stacked_axis, self.directions) = axis, PLANES.get(axis, (None, None))
        self.part, self.step, self.foreground = tuple(part), step, foreground
        self.settings = {
            "slices": list(size), "spacing_mm": spacing_mm and list(spacing_mm), "crop": crop,
            "axis": axis, "part": list(part), "step": step, "foreground": foreground,
        }  # fmt: skip

    def of(self, scan: Scan) -> "Slices":
        """Return the slices of this scan's plane. Raise ScanError for loose slices that would be cut across."""
        if self.axis == ACQUIRED:
            return self.along(acquired_in(scan) or "axial")
        self.check_stacked(scan)
        return self

    def along(self, axis: str) -> Self:
        """Return the same slices in the plane `axis`."""
        other = copy(self)
        other.axis, (other.stacked_axis, other.directions) = axis, PLANES[axis]
        other.settings = self.settings | {"axis": axis}
        return other

    def cut(self, scan: Scan, fill: float) -> Cut:
        if (own := self.of(scan)) is not self:
            return own.cut(scan, fill)
        volume = self.chosen(scan.pixels)  # (n, rows, columns)
        spacing = self.within(scan.spacing_mm)
        fit = self.fitted(volume.shape[1:], spacing)
        if len(volume) * fit.size[0] * fit.size[1] > MAX_VOXELS // 2:
            raise ScanError(
                f"a volume's slices may have at most {MAX_VOXELS // 2:,} pixels, got {len(volume)} of {fit.size[0]} × {fit.size[1]}; "
                "take fewer with data.slices.step or data.slices.part"
            )
        pixels, grid = fit(torch.from_numpy(np.ascontiguousarray(volume)), spacing, fill)
        return Cut(pixels, fit.spacing(volume.shape[1:], spacing), None, finer(grid), box_of(grid, volume.shape[1:], fit.size))

    def chosen(self, pixels: np.ndarray) -> np.ndarray:
        """Return a view of the slices that are taken of the array of a scan: (D, H, W) -> (n, rows, columns)."""
        count = pixels.shape[self.stacked_axis]
        first, end = (round(share * count) for share in self.part)
        return self.arranged(pixels)[min(first, count - 1) : max(end, first + 1) : self.step]

    def inside(self, scan: Scan, cut: Cut) -> Tensor | None:
        """Return as Layout.inside; a run of slices with the same padding, as the circle of a CT, is resampled once."""
        if (own := self.of(scan)) is not self:
            return own.inside(scan, cut)
        if scan.padding is None or not scan.padding.any():
            return super().inside(scan, cut)
        outside = self.chosen(scan.padding)
        first = np.append(True, (outside[1:] != outside[:-1]).any((1, 2)))
        spacing = self.within(scan.spacing_mm)
        shares, _ = self.fitted(outside.shape[1:], spacing)(torch.from_numpy(outside[first].astype(np.float32)), spacing, 1.0)
        return (shares < PADDED)[np.cumsum(first) - 1]

    def fitted(self, shape: Sequence[int], spacing: Sequence[float]) -> Fit:
        """Return the way of slices of this shape and spacing to the new grid."""
        return self.fit

    def worth(self, images: Tensor) -> Tensor:
        return (images[:, 0] > -0.9).float().mean((1, 2)) >= self.foreground

    def arranged(self, pixels: np.ndarray) -> np.ndarray:
        return self._upright(np.moveaxis(pixels, self.stacked_axis, 0))

    def assembled(self, images: Tensor) -> np.ndarray:
        return np.moveaxis(self._upright(images.numpy()), 0, self.stacked_axis)

    def each_axis(self, factors: Sequence[int]) -> tuple[int, ...]:
        return (*factors[: self.stacked_axis], 1, *factors[self.stacked_axis :])

    def _upright(self, slices: np.ndarray) -> np.ndarray:
        """Return coronal and sagittal slices with their rows from the head down, or such slices in the volume's order; its own inverse."""
        return slices if self.stacked_axis == 0 else slices[:, ::-1]


class Whole(Layout):
    """The volume as one image of `size` (D, H, W) voxels of `spacing_mm` (None: the whole field at `size`, proportions kept)."""

    directions = CANONICAL

    def __init__(self, *, size: Sequence[int], spacing_mm: Sequence[float] | None, crop: bool) -> None:
        self.size = self.image_size = tuple(size)
        self.spacing_mm, self.crop, self.fit = spacing_mm and tuple(spacing_mm), crop, Fit(size, spacing_mm, crop)
        self.settings = {"whole": list(size), "spacing_mm": spacing_mm and list(spacing_mm), "crop": crop}

    def cut(self, scan: Scan, fill: float) -> Cut:
        check_thick(scan)
        pixels, grid = self.fit(torch.from_numpy(np.ascontiguousarray(scan.pixels)), scan.spacing_mm, fill)
        box = box_of(grid, scan.pixels.shape, self.size)
        return Cut(pixels[None], self.fit.spacing(scan.pixels.shape, scan.spacing_mm), scan.affine @ grid, finer(grid), box)


class Patches(Layout):
    """The volume at `spacing_mm` (None: its own), uncropped, for random patches of `patch` (D, H, W) voxels; padded if it is smaller."""

    directions, size = CANONICAL, None

    def __init__(self, *, patch: Sequence[int], spacing_mm: Sequence[float] | None) -> None:
        self.patch = self.image_size = tuple(patch)
        self.spacing_mm = None if spacing_mm is None else tuple(spacing_mm)
        self.settings = {"patches": list(patch), "spacing_mm": spacing_mm and list(spacing_mm)}

    def cut(self, scan: Scan, fill: float) -> Cut:
        check_thick(scan)
        spacing = self.spacing_mm or scan.spacing_mm
        shape = [max(p, round(n * s / t)) for n, s, t, p in zip(scan.pixels.shape, scan.spacing_mm, spacing, self.patch, strict=True)]
        bound(tuple(shape), 4)
        pixels, grid = Fit(shape, spacing)(torch.from_numpy(np.ascontiguousarray(scan.pixels)), scan.spacing_mm, fill)
        return Cut(pixels[None], spacing, scan.affine @ grid, finer(grid), box_of(grid, scan.pixels.shape, shape))

    def fixed(self, scan: Scan) -> Whole:
        return Whole(size=self.patch, spacing_mm=self.spacing_mm or scan.spacing_mm, crop=True)
