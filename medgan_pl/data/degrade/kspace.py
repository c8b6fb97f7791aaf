"""MRI with missing k-space lines, or with motion of the patient.

A slice is the last two axes; lines are encoded along `axis` 0 or 1 of these, in each slice of a volume alike. The signal is
(image + 1) / 2, so that air has none; the result is the magnitude of each channel: one coil, without noise.
"""

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor

from medgan_pl.data.degrade.base import Degradation, Ends, Images, Range, counted, uniform
from medgan_pl.data.settings import are_numbers


class KSpace(Degradation):
    """Undersample: measure 1 of each `acceleration` lines and set the others to zero.

    The share `center` of lines in the middle is always measured, the rest at random: a line at the share r of the distance to the edge has
    the weight (1 - r) ** `decay`; 0 is uniform. Raise ValueError if the center alone is more than 1 / acceleration.

    Source: Lustig et al. 2007 (doi 10.1002/mrm.21391), Cartesian lines of variable density; the zero-filled image they start from.
    """

    needs_whole = True

    def __init__(self, *, acceleration: Ends, center: float = 0.08, decay: float = 2.0, axis: int = 0) -> None:
        self.acceleration = Range("acceleration", acceleration, 1)
        if not are_numbers([center], 1) or not 0 < center <= 1 / self.acceleration.high:
            largest = 1 / self.acceleration.high
            raise ValueError(
                f"`center` must be a share of the lines above 0 and at most 1 / acceleration, got {center!r}; use {largest:.3g}"
            )
        if not are_numbers([decay], 1) or decay < 0:
            raise ValueError(f"`decay` must be a number of at least 0, got {decay!r}")
        self.center, self.decay, self.axis = center, decay, checked(axis)

    def degraded(self, image: Tensor, generator: torch.Generator) -> Tensor:
        lines = self.lines(image.shape[self.axis - 2], generator)
        return magnitude(acquired(image, across(lines, self.axis)))

    def lines(self, count: int, generator: torch.Generator) -> Bool[Tensor, " count"]:
        """Return which of `count` lines are measured, in the order of torch.fft: the middle of k-space first."""
        distance = torch.fft.fftfreq(count, 1 / count, device=generator.device).abs()  # from the middle, in lines
        # The largest u ** (1 / weight) are a sample without replacement by weight (Efraimidis & Spirakis 2006).
        weight = (1 - distance / (count / 2 + 1)) ** self.decay
        key = uniform(generator, count).clamp(min=1e-30).log() / weight
        middle = max(1, round(self.center * count))
        key = torch.where(distance.argsort(stable=True).argsort() < middle, torch.inf, key)
        measured = (count / self.acceleration.draw(generator)).round().clamp(min=middle)
        rank = key.argsort(descending=True).argsort()
        return rank < measured


class Motion(Degradation):
    """Simulate a head that moves `moves` times while lines are measured in order: each block of lines has another shift.

    Shifts are up to `shift_px` pixels along both axes of the slice, without rotation, relative to the position at the middle of k-space, so
    that source and image stay registered.
    """

    needs_whole = True

    def __init__(self, *, shift_px: Ends, moves: Ends, axis: int = 0) -> None:
        self.shift_px, self.moves, self.axis = Range("shift_px", shift_px, 0), counted("moves", moves, 1, 64), checked(axis)

    def degraded(self, image: Tensor, generator: torch.Generator) -> Tensor:
        rows, columns = image.shape[-2:]
        shift = self.shifts(image.shape[self.axis - 2], generator)  # (lines, 2)
        down, right = across(shift[:, 0], self.axis), across(shift[:, 1], self.axis)
        turns = down * frequencies(rows, shift)[:, None] + right * frequencies(columns, shift)
        return magnitude(acquired(image, torch.polar(torch.ones_like(turns), -2 * torch.pi * turns)))

    def shifts(self, count: int, generator: torch.Generator) -> Float[Tensor, "count 2"]:
        """Return the shift in pixels down and right of each of `count` lines, in the order of torch.fft; those of the middle are 0."""
        moved = self.moves.some(generator)
        when = torch.where(moved, uniform(generator, len(moved)), 2.0)  # 2: never
        to = self.shift_px.draw(generator) * (2 * uniform(generator, len(moved) + 1, 2) - 1)
        time = (torch.arange(count, device=generator.device) + 0.5) / count  # from one edge of k-space to the other
        shift = to[(time[:, None] > when).sum(1)]
        return torch.fft.ifftshift(shift - shift[count // 2], dim=0)


def checked(axis: int) -> int:
    if not are_numbers([axis], 1, int) or axis not in (0, 1):
        raise ValueError(f"`axis` must be 0, the rows of a slice, or 1, its columns, got {axis!r}")
    return axis


def across(lines: Tensor, axis: int) -> Tensor:
    """Return one number a line (n,) shaped for a slice: (n, 1) or (1, n)."""
    return lines.unsqueeze(1 - axis)


def frequencies(count: int, like: Tensor) -> Tensor:
    return torch.fft.fftfreq(count, device=like.device, dtype=like.dtype)


def acquired(images: Images, weights: Tensor) -> Complex[Tensor, "b c *space"]:
    """Return the signal of `images` after multiplying every slice's k-space by `weights`, broadcast to (H, W)."""
    return torch.fft.ifft2(torch.fft.fft2((images + 1) / 2) * weights)


def magnitude(signal: Tensor) -> Tensor:
    """Return the magnitude of a signal on the [-1, 1] scale; brighter values are clipped."""
    return (2 * signal.abs() - 1).clamp(max=1)
