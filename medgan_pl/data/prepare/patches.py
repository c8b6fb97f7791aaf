"""Films and slices at their own resolution, to take patches from; and the layout that the settings of a data set ask for."""

from collections.abc import Mapping, Sequence
from typing import Any

from medgan_pl.data.prepare.geometry import Fit
from medgan_pl.data.prepare.layouts import Film, Layout, Patches, Slices, Whole
from medgan_pl.data.prepare.planes import ACQUIRED
from medgan_pl.data.readers.scan import Scan, bound


def field(patch: Sequence[int], shape: Sequence[int], spacing: Sequence[float], wanted: Sequence[float] | None) -> Fit:
    """Return the way of a whole image to `wanted` spacing (None: its own), padded about its center to at least a patch.

    Raise ScanError for an image that becomes too large.
    """
    wanted = wanted or spacing
    sides = [max(p, round(n * s / t)) for n, s, t, p in zip(shape, spacing, wanted, patch, strict=True)]
    bound(tuple(sides), 4)
    return Fit(sides, wanted)


class FilmPatches(Film):
    """The whole film in its own pixels, for random patches of `patch` (H, W) pixels; padded if it is smaller."""

    def __init__(self, *, patch: Sequence[int]) -> None:
        super().__init__(size=patch, crop=True)
        self.patch, self.size = tuple(patch), None
        self.settings = {"film": list(patch), "patches": True}

    def seen(self, scan: Scan) -> Scan:
        return scan

    def fitted(self, shape: Sequence[int], spacing: Sequence[float]) -> Fit:
        return field(self.patch, shape, spacing, None)

    def fixed(self, scan: Scan) -> Film:
        middle = Film(size=self.patch, crop=True)
        middle.fit = Fit(self.patch, scan.spacing_mm or (1.0, 1.0))
        return middle

    def resized(self, size: Sequence[int]) -> "FilmPatches":
        return FilmPatches(patch=size)

    def pixel_size(self, shape: Sequence[int]) -> tuple[float, ...]:
        return (1.0, 1.0)


class SlicePatches(Slices):
    """The slices of a volume at `spacing_mm` (None: their own), whole, for random patches of `patch` (H, W) pixels; padded if smaller.

    The other settings and the errors are those of `Slices`.
    """

    def __init__(
        self, *, patch: Sequence[int], spacing_mm: Sequence[float] | None,
        axis: str = ACQUIRED, part: Sequence[float] = (0.0, 1.0), step: int = 1, foreground: float = 0.05,
    ) -> None:  # fmt: skip
        super().__init__(size=patch, spacing_mm=spacing_mm, crop=False, axis=axis, part=part, step=step, foreground=foreground)
        self.patch, self.size = tuple(patch), None
        self.settings = self.settings | {"patches": True}

    def fitted(self, shape: Sequence[int], spacing: Sequence[float]) -> Fit:
        return field(self.patch, shape, spacing, self.spacing_mm)

    def fixed(self, scan: Scan) -> Slices:
        own = self.of(scan)
        choice = {"axis": own.axis, "part": self.part, "step": self.step, "foreground": self.foreground}
        return Slices(size=self.patch, spacing_mm=self.spacing_mm or own.within(scan.spacing_mm), crop=True, **choice)


def laid_out(
    scan_dims: int, spatial_dims: int, size: Sequence[int], spacing_mm: Sequence[float] | None, crop: bool, slices: Mapping[str, Any],
    patches: int = 0,
) -> Layout:  # fmt: skip
    """Return the layout that the settings of a data set ask for.

    `scan_dims` is 2 for films and 3 for volumes. Raise ValueError for settings that films do not allow.
    """
    if scan_dims == 2:
        if spatial_dims == 3:
            raise ValueError(
                "`image.spatial_dims` must be 2 for films and slices in pictures, got 3; volumes come with data=ct or data=mri"
            )
        if spacing_mm is not None:
            raise ValueError(
                f"data.spacing_mm must be null for films and pictures (few state theirs), got {list(spacing_mm)}; set data.size"
            )
        return FilmPatches(patch=size) if patches else Film(size=size, crop=crop)
    if spatial_dims == 2:
        cut = {"spacing_mm": spacing_mm, **slices}
        return SlicePatches(patch=size, **cut) if patches else Slices(size=size, crop=crop, **cut)
    if patches:
        return Patches(patch=size, spacing_mm=spacing_mm)
    return Whole(size=size, spacing_mm=spacing_mm, crop=crop)
