"""The rule that cuts a scan into images, on a grid of its own."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medgan_pl.data.masks import covered
from medgan_pl.data.readers.scan import Scan, ScanError

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
