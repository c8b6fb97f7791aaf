"""A volume as one image, or to take patches from."""

from collections.abc import Sequence

import numpy as np
import torch

from medgan_pl.data.prepare.geometry import Fit, box_of, finer
from medgan_pl.data.prepare.layouts.base import Cut, Layout
from medgan_pl.data.readers.scan import CANONICAL, Scan, ScanError, bound


def check_thick(scan: Scan) -> None:
    """Raise ScanError for a single slice, and for slices that are on no straight, even grid: they are no volume."""
    if scan.loose is not None:
        raise ScanError(scan.loose)
    if 1 in scan.pixels.shape:
        raise ScanError("a volume must have two slices or more along each axis, got one; image.spatial_dims=2 trains on single slices")


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
