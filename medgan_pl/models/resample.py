"""Linear resampling of images, differentiable any number of times."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

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
