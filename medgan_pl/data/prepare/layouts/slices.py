"""The slices of a volume, in one plane or in that of each scan."""

from collections.abc import Sequence
from copy import copy
from typing import Self

import numpy as np
import torch
from torch import Tensor

from medgan_pl.core.counts import whole_number
from medgan_pl.data.prepare.geometry import Fit, box_of, finer
from medgan_pl.data.prepare.layouts.base import PADDED, Cut, Layout
from medgan_pl.data.prepare.planes import ACQUIRED, PLANES, acquired_in
from medgan_pl.data.readers.scan import MAX_VOXELS, Scan, ScanError


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
        axis: str = ACQUIRED, part: Sequence[float] = (0.0, 1.0), step: int = 1, foreground: float = 0.05,
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

    def check_stacked(self, scan: Scan) -> None:
        if self.axis != ACQUIRED:
            super().check_stacked(scan)

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
