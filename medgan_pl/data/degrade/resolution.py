"""Fewer pixels, thicker slices, and the blur of a focal spot, a kernel or a slice profile."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from medgan_pl.core.counts import whole_number
from medgan_pl.data.degrade.base import Degradation, Ends, Frame, Images, Range
from medgan_pl.data.settings import are_numbers

LINEAR = {2: "bilinear", 3: "trilinear"}


class Blur(Degradation):
    """Blur by a Gaussian of `sigma_px` pixels, equal along each axis; padding repeats the border."""

    def __init__(self, sigma_px: Ends) -> None:
        self.sigma_px = Range("sigma_px", sigma_px, 0)

    def degraded(self, image: Tensor, generator: torch.Generator) -> Tensor:
        return blurred(image, self.sigma_px.draw(generator), reach(self.sigma_px.high))


class Shrink(Degradation):
    """Lower the resolution: a Gaussian of `blur` pixels (its standard deviation), then the mean over each `factor` pixels.

    - `axes` None: all axes shrink, and the source is smaller: S' = S / factor (super-resolution).
    - `axes` given, counted from the image's first: only those shrink, and are enlarged back linearly: S' = S. [0] makes thick slices of a
      volume whose slices come first; the slice profile is a box of `factor` slices after that Gaussian.

    The mean of the image is kept. Raise ValueError for a side that is no multiple of `factor`, and for axes that the image does not have.
    """

    def __init__(self, *, factor: int, axes: Sequence[int] | None = None, blur: Ends = 0.0) -> None:
        whole_number("factor", factor, 2)
        if axes is not None and not are_axes(axes):
            raise ValueError(f"`axes` must be some of 0, 1, 2, each once, or null for all, got {axes!r}")
        self.by, self.axes, self.blur = factor, axes, Range("blur", blur, 0)
        self.factor = factor if axes is None else 1

    def degraded(self, image: Tensor, generator: torch.Generator) -> Tensor:
        sides = image.shape[2:]
        axes = range(len(sides)) if self.axes is None else self.axes
        self.check(sides, axes)
        small = blurred(image, self.blur.draw(generator), reach(self.blur.high), axes)
        for axis in axes:
            small = small.unflatten(axis + 2, (-1, self.by)).mean(axis + 3)
        return small if self.axes is None else F.interpolate(small, sides, mode=LINEAR[len(sides)], align_corners=False)

    def frame(self, spatial_dims: int) -> Frame:
        axes = () if self.axes is None else self.axes
        return replace(super().frame(spatial_dims), thickness=tuple(self.by if axis in axes else 1 for axis in range(spatial_dims)))

    def check(self, sides: torch.Size, axes: Sequence[int]) -> None:
        if max(axes) >= len(sides):
            raise ValueError(f"`axes` must be axes of the image, 0 to {len(sides) - 1}, got {list(axes)}")
        for side in (sides[axis] for axis in axes):
            if side % self.by:
                fits = " or ".join(str(side // self.by * self.by + more) for more in (0, self.by) if side // self.by * self.by + more)
                raise ValueError(f"`size` must be a multiple of {self.by} to shrink by {self.by}, got {side}; use {fits}")


def are_axes(axes: Any) -> bool:
    """Return True for axes of a volume, each named once."""
    return isinstance(axes, Sequence) and are_numbers(axes, len(axes), int) and 0 < len(axes) == len({*axes} & {0, 1, 2})


def reach(sigma_px: float) -> int:
    """Return the distance at which a Gaussian of that width is practically 0, in whole pixels."""
    return max(1, round(4 * sigma_px))


def blurred(images: Images, sigma_px: float | Float[Tensor, ""], reach: int, axes: Sequence[int] | None = None) -> Images:
    """Filter (B, C, *S) by a Gaussian of `sigma_px`, cut at `reach` pixels, along each of the `axes` of S in turn (None: all)."""
    offsets = torch.arange(-reach, reach + 1.0, dtype=images.dtype, device=images.device)
    sigma = (sigma_px * images.new_ones(())).clamp(min=1e-3)  # this width changes nothing
    kernel = torch.softmax(-offsets.square() / (2 * sigma.square()), 0).view(1, 1, -1)
    for axis in range(2, images.ndim) if axes is None else [axis + 2 for axis in axes]:
        lines = images.movedim(axis, -1)
        padded = F.pad(lines.reshape(-1, 1, lines.shape[-1]), (reach, reach), mode="replicate")
        images = F.conv1d(padded, kernel).view(lines.shape).movedim(-1, axis)
    return images
