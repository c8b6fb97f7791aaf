"""Parallel-beam projections of slices, and filtered back-projection, which is linear.

A slice (H, W) is projected along `views` directions, evenly over half a turn, by rays a pixel apart, as many as its diagonal has pixels, so
that they cover it. The slice's center is the center of rotation; lengths are in pixels.

Source: Kak & Slaney 1988, Principles of Computerized Tomographic Imaging, chapter 3; the ramp filter is their eq. 3.61.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def project(slices: Float[Tensor, "n h w"], views: int, max_px: int = 64) -> Float[Tensor, "n views rays"]:
    """Return the integral along each ray, of slices that are 0 outside.

    The slice is shrunk to at most `max_px` pixels a side, and rays are interpolated: the cost does not grow with the slice, and detail at
    the pixel scale is lost.
    """
    sides = slices.shape[-2:]
    step = math.ceil(max(sides) / max_px)
    count = math.ceil(math.hypot(*sides) / step)
    small = F.interpolate(slices[None], [math.ceil(side / step) for side in sides], mode="area")
    along = step * (torch.arange(count, device=slices.device, dtype=slices.dtype) - (count - 1) / 2)
    rays, depth = along, along[:, None]
    lines = []
    for angle in angles(views):
        right = rays * math.cos(angle) - depth * math.sin(angle)
        down = rays * math.sin(angle) + depth * math.cos(angle)
        grid = torch.stack([right * (2 / sides[1]), down * (2 / sides[0])], -1)
        lines.append(F.grid_sample(small, grid[None], align_corners=False).sum(2)[0] * step)
    return F.interpolate(torch.stack(lines, 1), count * step, mode="linear", align_corners=False)


def back_project(sinogram: Float[Tensor, "n views rays"], sides: tuple[int, int]) -> Float[Tensor, "n h w"]:
    """Return slices of these `sides` by filtered back-projection, linear between rays.

    White noise of variance 1 in the sinogram becomes noise of variance (π² / 18 - 1 / 6) / views in the slice: the ramp filter h has
    Σ h² = 1 / 12 and Σ h(n) h(n + 1) = - 1 / (2 π²).
    """
    views, rays = sinogram.shape[-2:]
    response = ramp(rays, sinogram.device).to(sinogram.dtype)
    filtered = torch.fft.irfft(torch.fft.rfft(sinogram, length(rays)) * response, length(rays))[..., :rays]
    down = torch.arange(sides[0], device=sinogram.device, dtype=sinogram.dtype)[:, None] - (sides[0] - 1) / 2
    right = torch.arange(sides[1], device=sinogram.device, dtype=sinogram.dtype) - (sides[1] - 1) / 2
    slices = sinogram.new_zeros(1, len(sinogram), *sides)
    for view, angle in enumerate(angles(views)):
        ray = right * math.cos(angle) + down * math.sin(angle)
        grid = torch.stack([ray * (2 / rays), torch.zeros_like(ray)], -1)
        slices += F.grid_sample(filtered[None, :, view, None], grid[None], align_corners=False)
    return slices[0] * (math.pi / views)


def angles(views: int) -> list[float]:
    return [math.pi * view / views for view in range(views)]


def length(rays: int) -> int:
    """Return the length of the transform, long enough that the filter does not wrap around to the opposite rays."""
    return 2 ** math.ceil(math.log2(2 * rays))


def ramp(rays: int, device: torch.device) -> Float[Tensor, " half"]:
    """Return the frequency response |f| for rays a pixel apart, from its band-limited kernel: 1/4, at odd n -1 / (π n)², at even n 0."""
    n = torch.fft.fftfreq(length(rays), 1 / length(rays), dtype=torch.float64, device=device)
    kernel = torch.where(n % 2 == 1, -1 / (math.pi * n).square(), 0.0)
    kernel[0] = 0.25
    return torch.fft.rfft(kernel).real
