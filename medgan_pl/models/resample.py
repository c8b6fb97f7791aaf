"""Linear resampling of images, differentiable any number of times, and its affine maps."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def product(a: Tensor, b: Tensor) -> Tensor:
    """Return the product of small matrices (B, i, j) and (B, j, k) in full precision, also under autocast and TF32."""
    return (a.unsqueeze(3) * b.unsqueeze(1)).sum(2)


def rotation(n: int, plane: tuple[int, int], angle: Tensor) -> Tensor:
    """Return rotations (B, n, n) by `angle` (B,), in radians, in the plane of two of n axes."""
    turn = torch.eye(n, device=angle.device, dtype=angle.dtype).repeat(len(angle), 1, 1)
    a, b = plane
    turn[:, a, a], turn[:, a, b], turn[:, b, a], turn[:, b, b] = angle.cos(), -angle.sin(), angle.sin(), angle.cos()
    return turn


def places(motion: Tensor, sides: torch.Size) -> Tensor:
    """Return the place of each new pixel in the old image, (B, *S, n), by the maps `motion` (B, n, n + 1), x first.

    Each axis is from -1 to 1, edge to edge: F.affine_grid with align_corners=False, in full precision like `product`.
    """
    n = len(sides)
    grid = motion[:, :, -1].view(-1, *[1] * n, n)
    for axis, side in enumerate(reversed(sides)):
        place = (2 * torch.arange(side, device=motion.device, dtype=motion.dtype) + 1) / side - 1
        view = [-1 if i == n - 1 - axis else 1 for i in range(n)]
        grid = grid + motion[:, :, axis].view(-1, *[1] * n, n) * place.view(*view, 1)
    return grid


BACKWARD = {2: torch.ops.aten.grid_sampler_2d_backward, 3: torch.ops.aten.grid_sampler_3d_backward}
BILINEAR, REFLECTED = 0, 2  # torch's numbers for them


class Resample(torch.autograd.Function):
    """Resample images (B, C, *S) at a grid (B, *S, n): F.grid_sample, bilinear, reflected at the edges of the image.

    It is linear in the images and so differentiable in them any number of times; it has no derivative by the grid. (Torch 2.11 has no
    second derivative of F.grid_sample; 2.15 has.)
    """

    @staticmethod
    def forward(context: Any, images: Tensor, grid: Tensor) -> Tensor:
        context.save_for_backward(grid)
        context.shape = images.shape
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return Adjoint.apply(gradient, *context.saved_tensors, context.shape), None


class Adjoint(torch.autograd.Function):
    """The backward pass of `Resample`: its transpose, also linear, whose gradient is `Resample` again."""

    @staticmethod
    def forward(context: Any, gradient: Tensor, grid: Tensor, shape: torch.Size) -> Tensor:
        context.save_for_backward(grid)
        backward, unread = BACKWARD[grid.shape[-1]], gradient.new_empty(shape)  # only the shape of the images matters
        return backward(gradient, unread, grid, BILINEAR, REFLECTED, False, (True, False))[0]

    @staticmethod
    def backward(context: Any, images: Tensor) -> tuple[Tensor, None, None]:
        return Resample.apply(images, *context.saved_tensors), None, None
