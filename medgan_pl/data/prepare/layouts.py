"""What is cut from a scan, and on which grid: the film, slices of a volume, the whole volume, or a volume to take patches from."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medgan_pl.data.prepare.geometry import Fit
from medgan_pl.data.readers.scan import CANONICAL, MAX_VOXELS, Scan, ScanError, bound


@dataclass(frozen=True)
class Cut:
    """What a layout takes from a scan: `pixels` (n, *S) in native units, on a grid of `spacing_mm`; `affine` for volumes only;
    `enlarged`: whether the new grid is finer than the scan's."""

    pixels: Tensor
    spacing_mm: tuple[float, ...] | None
    affine: np.ndarray | None
    enlarged: bool


class Layout(ABC):
    """`size` is that of an image, None where scans differ; `directions` as in `intensity.Inverse`; `settings` as for a pipeline."""

    size: tuple[int, ...] | None
    directions: tuple[tuple[float, ...], ...] | None
    settings: Mapping[str, Any]

    @abstractmethod
    def cut(self, scan: Scan, fill: float) -> Cut:
        """`fill`: the native value of what lies outside the scan."""

    def seen(self, scan: Scan) -> Scan:
        """The part of the scan whose intensity counts."""
        return scan

    def worth(self, images: Tensor) -> Tensor:
        """(n, C, *S) in [-1, 1] -> (n,) bool: which images to keep."""
        return torch.ones(len(images), dtype=torch.bool)


# For each plane the axis of a canonical volume that it stacks, and where slices, rows and columns lead, as RAS+ unit vectors.
(UP, BACK, LEFT), DOWN = CANONICAL, (0.0, 0.0, -1.0)
PLANES = {"axial": (0, CANONICAL), "coronal": (1, (BACK, DOWN, LEFT)), "sagittal": (2, (LEFT, DOWN, BACK))}


def finer(grid: np.ndarray) -> bool:
    """Whether new indices lie closer than the old ones, along any axis."""
    return bool((np.diag(grid)[:-1] < 0.999).any())


class Film(Layout):
    """The film itself, at `size` (H, W) pixels: the long side cropped about the centre (`crop`) or the short one padded."""

    directions = None

    def __init__(self, *, size: Sequence[int], crop: bool) -> None:
        self.size, self.fit = tuple(size), Fit(size, crop=crop)
        self.settings = {"film": list(size), "crop": crop}

    def seen(self, scan: Scan) -> Scan:
        """What is cropped off has no say in the contrast."""
        part = self.fit.kept(scan.pixels.shape, scan.spacing_mm or (1.0, 1.0))
        return replace(scan, pixels=scan.pixels[part], padding=None if scan.padding is None else scan.padding[part])

    def cut(self, scan: Scan, fill: float) -> Cut:
        spacing = scan.spacing_mm or (1.0, 1.0)
        pixels, grid = self.fit(torch.from_numpy(np.ascontiguousarray(scan.pixels)), spacing, fill)
        return Cut(pixels[None], scan.spacing_mm and self.fit.spacing(scan.pixels.shape, spacing), None, finer(grid))


class Slices(Layout):
    """The slices of a volume, at `size` (H, W) pixels of `spacing_mm` (None: the whole field at `size`, proportions kept).

    - `axis`: axial (seen from the feet, front up), coronal (from the front, head up) or sagittal (from the left, head up).
    - `part`: which of them, as fractions of the volume along the axis: from the feet, the front, the right.
    - `step`: every how many.
    - `foreground`: a slice is empty, and dropped, when a smaller share of its pixels is above -0.9 in the first channel.
    """

    def __init__(
        self, *, size: Sequence[int], spacing_mm: Sequence[float] | None, crop: bool,
        axis: str = "axial", part: Sequence[float] = (0.0, 1.0), step: int = 1, foreground: float = 0.05,
    ) -> None:  # fmt: skip
        if axis not in PLANES:
            raise ValueError(f"data.slices.axis must be one of {', '.join(PLANES)}, got {axis}")
        if len(part) != 2 or not 0 <= part[0] < part[1] <= 1:
            raise ValueError(f"data.slices.part must be [from, to] with 0 <= from < to <= 1, got {list(part)}")
        if isinstance(step, bool) or not isinstance(step, int) or step < 1:
            raise ValueError(f"data.slices.step must be a whole number of 1 or more, got {step}")
        if not 0 <= foreground <= 1:
            raise ValueError(f"data.slices.foreground must be a share in 0 to 1, got {foreground}")
        self.size, self.fit = tuple(size), Fit(size, spacing_mm, crop)
        self.axis, self.directions = PLANES[axis]
        self.part, self.step, self.foreground = tuple(part), step, foreground
        self.settings = {
            "slices": list(size), "spacing_mm": spacing_mm and list(spacing_mm), "crop": crop,
            "axis": axis, "part": list(part), "step": step, "foreground": foreground,
        }  # fmt: skip

    def cut(self, scan: Scan, fill: float) -> Cut:
        count = scan.pixels.shape[self.axis]
        first, end = (round(share * count) for share in self.part)
        volume = np.moveaxis(scan.pixels, self.axis, 0)[min(first, count - 1) : max(end, first + 1) : self.step]  # (n, rows, columns)
        if len(volume) * self.size[0] * self.size[1] > MAX_VOXELS // 2:
            raise ScanError(
                f"the slices of a volume may hold {MAX_VOXELS // 2:,} pixels, got {len(volume)} of {self.size[0]} × {self.size[1]}; "
                "take fewer with data.slices.step or data.slices.part"
            )
        if self.axis != 0:
            volume = volume[:, ::-1]  # rows from the head down
        spacing = [s for axis, s in enumerate(scan.spacing_mm) if axis != self.axis]
        pixels, grid = self.fit(torch.from_numpy(np.ascontiguousarray(volume)), spacing, fill)
        return Cut(pixels, self.fit.spacing(volume.shape[1:], spacing), None, finer(grid))

    def worth(self, images: Tensor) -> Tensor:
        return (images[:, 0] > -0.9).float().mean((1, 2)) >= self.foreground


class Whole(Layout):
    """The volume as one image of `size` (D, H, W) voxels of `spacing_mm` (None: the whole field at `size`, proportions kept)."""

    directions = CANONICAL

    def __init__(self, *, size: Sequence[int], spacing_mm: Sequence[float] | None, crop: bool) -> None:
        self.size, self.fit = tuple(size), Fit(size, spacing_mm, crop)
        self.settings = {"whole": list(size), "spacing_mm": spacing_mm and list(spacing_mm), "crop": crop}

    def cut(self, scan: Scan, fill: float) -> Cut:
        pixels, grid = self.fit(torch.from_numpy(np.ascontiguousarray(scan.pixels)), scan.spacing_mm, fill)
        return Cut(pixels[None], self.fit.spacing(scan.pixels.shape, scan.spacing_mm), scan.affine @ grid, finer(grid))


class Patches(Layout):
    """The volume at `spacing_mm` (None: its own), uncropped, for random patches of `patch` (D, H, W) voxels; padded where it is smaller."""

    directions, size = CANONICAL, None

    def __init__(self, *, patch: Sequence[int], spacing_mm: Sequence[float] | None) -> None:
        self.patch, self.spacing_mm = tuple(patch), None if spacing_mm is None else tuple(spacing_mm)
        self.settings = {"patches": list(patch), "spacing_mm": spacing_mm and list(spacing_mm)}

    def cut(self, scan: Scan, fill: float) -> Cut:
        spacing = self.spacing_mm or scan.spacing_mm
        shape = [max(p, round(n * s / t)) for n, s, t, p in zip(scan.pixels.shape, scan.spacing_mm, spacing, self.patch, strict=True)]
        bound(tuple(shape), 4)
        pixels, grid = Fit(shape, spacing)(torch.from_numpy(np.ascontiguousarray(scan.pixels)), scan.spacing_mm, fill)
        return Cut(pixels[None], spacing, scan.affine @ grid, finer(grid))


def laid_out(
    scan_dims: int,
    spatial_dims: int,
    size: Sequence[int],
    spacing_mm: Sequence[float] | None,
    crop: bool,
    slices: Mapping[str, Any],
    patches: int = 0,
) -> Layout:
    """What a data set's settings cut from its scans, films or volumes by `scan_dims`. ValueError for what films cannot be."""
    if scan_dims == 2:
        if spatial_dims == 3:
            raise ValueError("`image.spatial_dims` must be 2 for films, got 3; volumes come with data=ct or data=mri")
        if spacing_mm is not None:
            raise ValueError(f"data.spacing_mm must be null for films (few say theirs), got {list(spacing_mm)}; set data.size")
        return Film(size=size, crop=crop)
    if spatial_dims == 2:
        return Slices(size=size, spacing_mm=spacing_mm, crop=crop, **slices)
    if patches:
        return Patches(patch=size, spacing_mm=spacing_mm)
    return Whole(size=size, spacing_mm=spacing_mm, crop=crop)
