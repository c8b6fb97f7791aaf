"""A film as one image."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from medgan_pl.data.prepare.geometry import Fit, box_of, finer
from medgan_pl.data.prepare.layouts.base import Cut, Layout
from medgan_pl.data.readers.scan import Scan


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
