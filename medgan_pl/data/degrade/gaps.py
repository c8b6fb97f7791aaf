"""Inpainting: missing parts of an image, and their mask."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from medgan_pl.data.degrade.base import Degradation, Ends, Frame, Range, counted, normal, uniform
from medgan_pl.data.masks import with_holes
from medgan_pl.data.settings import are_numbers


@runtime_checkable
class Hole(Protocol):
    """Return the missing part of an image of these sides, True where it is missing, on the generator's device."""

    def __call__(self, sides: torch.Size, generator: torch.Generator) -> Bool[Tensor, "*space"]: ...


class Holes(Degradation):
    """Set the image to `fill` in all `shapes`, and add a last channel: 1 missing, -1 known.

    Outside the holes the image is bit-equal. Raise ValueError for no shapes, for other objects, and for a `fill` outside [-1, 1].
    """

    extra_channels, keeps_the_rest = 1, True

    def __init__(self, shapes: Sequence[Hole], fill: float = -1.0) -> None:
        if not shapes:
            raise ValueError("`shapes` must name at least one, got none; use Boxes, FreeForm or MissingSlices")
        if strangers := [type(shape).__name__ for shape in shapes if isinstance(shape, Degradation) or not isinstance(shape, Hole)]:
            raise ValueError(f"`shapes` must be shapes of holes, Boxes, FreeForm or MissingSlices, got {', '.join(strangers)}")
        if not are_numbers([fill], 1) or not -1 <= fill <= 1:
            raise ValueError(f"`fill` must be a number in [-1, 1], got {fill!r}")
        self.shapes, self.fill = tuple(shapes), fill

    def degraded(self, image: Tensor, generator: torch.Generator) -> Tensor:
        missing = torch.stack([shape(image.shape[2:], generator) for shape in self.shapes]).any(0)
        return with_holes(image, missing[None, None], self.fill)

    def frame(self, spatial_dims: int) -> Frame:
        return replace(super().frame(spatial_dims), fill=self.fill)


class Boxes:
    """`number` boxes anywhere inside the image; each side is a share `size` of the image's."""

    def __init__(self, *, number: Ends, size: Ends) -> None:
        self.number, self.size = counted("number", number, 1, 64), Range("size", size, 0, 1)

    def __call__(self, sides: torch.Size, generator: torch.Generator) -> Tensor:
        there = self.number.some(generator)
        shape = len(sides), len(there)
        factors = []
        for side, length, start in zip(sides, self.size.draw(generator, *shape), uniform(generator, *shape), strict=True):
            length = (length * side).round().clamp(min=1)
            start = (start * (side - length + 1)).floor().clamp(max=side - length)
            factors.append(within(side, start, length))
        factors[0] = factors[0] * there[:, None]
        return outer_sum(factors) > 0


class FreeForm:
    """`strokes` of a round brush, each of `vertices` straight pieces of `length` and of one `width`, shares of the shortest side.

    From piece to piece the direction changes at random by a share `bend`: 0 straight, 1 any direction; at the border it is reflected. The
    brush is at least two pixels wide. Its points are so close that the edge varies by at most a tenth of its width; where they are closer,
    the stroke is up to a fifth wider.

    Source: the strokes of Yu et al. 2019 (arXiv 1806.03589, "free-form mask generation"), who turn left and right in turns, in 2-D.
    """

    def __init__(self, *, strokes: Ends, vertices: Ends, length: Ends, width: Ends, bend: float = 0.5) -> None:
        self.strokes, self.vertices = counted("strokes", strokes, 1, 64), counted("vertices", vertices, 1, 64)
        self.length, self.width = Range("length", length, 0, 1), Range("width", width, 0.005, 1)
        if not are_numbers([bend], 1) or not 0 <= bend <= 1:
            raise ValueError(f"`bend` must be a number from 0 (straight) to 1 (anywhere), got {bend!r}")
        self.bend = bend
        self.steps = 1 + int(self.length.high / (0.6 * self.width.low))  # of a piece: at most 1.2 radii each

    def __call__(self, sides: torch.Size, generator: torch.Generator) -> Tensor:
        strokes, vertices, shortest = int(self.strokes.high), int(self.vertices.high), min(sides)
        pieces = torch.arange(vertices, device=generator.device) < self.vertices.whole(generator, strokes, 1)  # (strokes, vertices)
        there = self.strokes.some(generator)[:, None] & pieces
        radius = (0.5 * self.width.draw(generator, strokes, 1, 1) * shortest).clamp(min=1)
        piece = self.length.draw(generator, strokes, vertices, 1) * shortest / self.steps
        points = self.points(sides, piece, generator)  # (strokes, vertices, steps, n)
        # A disc is a level set of a narrow Gaussian, a product of one factor an axis: all discs are one matrix product.
        spread = (radius / 3).expand(points.shape[:-1]).reshape(-1, 1)
        factors = []
        for side, place in zip(sides, points.flatten(0, 2).unbind(1), strict=True):
            away = torch.arange(side, device=place.device) + 0.5 - place[:, None]
            factors.append((away / spread).square().mul_(-0.5).clamp_(min=-30).exp_())  # smaller numbers would be denormal and slow
        factors[0] = factors[0] * there[:, :, None].expand(points.shape[:-1]).reshape(-1, 1)
        return outer_sum(factors) > math.exp(-4.5)  # three standard deviations from the center

    def points(self, sides: torch.Size, piece: Tensor, generator: torch.Generator) -> Float[Tensor, "strokes vertices steps n"]:
        """Return the points of the brush, in pixels."""
        strokes, vertices, n = *piece.shape[:2], len(sides)
        fresh = F.normalize(normal(generator, strokes, vertices, n), dim=-1)
        # heading(i) ~ (1 - bend) heading(i - 1) + bend fresh(i), all at once: the share of direction j in piece i.
        since = torch.arange(vertices, device=fresh.device)[:, None] - torch.arange(vertices, device=fresh.device)
        still = ((1 - self.bend) ** since.clamp(min=0)) * (since >= 0)
        still[:, 1:] *= self.bend
        heading = F.normalize(still.to(fresh) @ fresh, dim=-1)
        walk = (heading * piece)[:, :, None].expand(strokes, vertices, self.steps, n).flatten(1, 2).cumsum(1)
        start = uniform(generator, strokes, 1, n)
        inside = []
        for axis, side in enumerate(sides):
            place = start[..., axis] * side + walk[..., axis]
            inside.append(side - (place.remainder(2 * side) - side).abs())
        return torch.stack(inside, -1).view(strokes, vertices, self.steps, n)


class MissingSlices:
    """`number` gaps of `thickness` neighboring slices along the first axis: rows of a picture, slices of a volume."""

    def __init__(self, *, number: Ends, thickness: Ends = 1) -> None:
        self.number, self.thickness = counted("number", number, 1, 64), counted("thickness", thickness, 1)

    def __call__(self, sides: torch.Size, generator: torch.Generator) -> Tensor:
        if self.thickness.high > sides[0] - 2:
            largest = sides[0] - 2
            raise ValueError(
                f"`thickness` must be at most {largest} of {sides[0]} slices, as the ends stay, got {self.thickness.high}; use {largest}"
            )
        there = self.number.some(generator)
        thickness = self.thickness.whole(generator, len(there))
        # The first and the last slice stay, so that each gap lies between two known slices.
        start = 1 + (uniform(generator, len(there)) * (sides[0] - 1 - thickness)).floor()
        missing = (within(sides[0], start, thickness) * there[:, None]).any(0)
        return missing.view(-1, *[1] * (len(sides) - 1)).expand(sides)


def within(side: int, start: Tensor, length: Tensor) -> Float[Tensor, "k side"]:
    """Return 1 for the `length` (k,) pixels from `start` (k,) on, else 0."""
    place = torch.arange(side, device=start.device)
    return ((place >= start[:, None]) & (place < (start + length)[:, None])).float()


def outer_sum(factors: Sequence[Float[Tensor, "k _"]]) -> Float[Tensor, "*space"]:
    """Return the sum over k of the outer products of one factor (k, side) an axis: (*S)."""
    return torch.einsum("ka,kb->ab" if len(factors) == 2 else "ka,kb,kc->abc", *factors)
