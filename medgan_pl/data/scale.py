"""The native unit of a step on the [-1, 1] scale."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medgan_pl.data.datamodule import ImageDataModule


@dataclass(frozen=True)
class Scale:
    """The meaning of a step in an image.

    - `half_range`: native `unit`s for a step of 1 on the [-1, 1] scale.
    - `spacing_mm`: the size of a pixel along each axis; None if it is unknown, or differs between images.
    """

    half_range: float = 1.0
    unit: str = "of [-1, 1]"
    spacing_mm: Sequence[float] | None = None


def scale_of(data: "ImageDataModule") -> Scale:
    """Return the scale of the images: HU if one window made all of them, else steps of [-1, 1], because each image had its own levels."""
    inverse = data.inverse
    spacings = {tuple(entry["spacing_mm"] or ()) for entry in data.cache.entries.values()}
    spacing_mm = inverse.spacing_mm if len(spacings) == 1 else None
    if inverse.unit != "HU" or "window" not in data.pipeline.settings or len(inverse.levels) > 1:
        return Scale(spacing_mm=spacing_mm)
    low, high = inverse.levels[0]
    return Scale((high - low) / 2, "HU", spacing_mm)
