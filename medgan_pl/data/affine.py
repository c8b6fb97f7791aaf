"""Affine maps for augmentation: a small matrix for each image of a batch, its axes in the order x, y, z."""

import torch
from torch import Tensor


def product(a: Tensor, b: Tensor) -> Tensor:
    """Return the product of matrices (B, i, j) and (B, j, k) in full precision, which torch's own lacks under autocast and TF32."""
    return (a.unsqueeze(3) * b.unsqueeze(1)).sum(2)


def rotation(n: int, plane: tuple[int, int], angle: Tensor) -> Tensor:
    """Return matrices (B, n, n) that rotate by `angle` (B,), in radians, in the plane of two of n axes."""
    turn = torch.eye(n, device=angle.device, dtype=angle.dtype).repeat(len(angle), 1, 1)
    a, b = plane
    turn[:, a, a], turn[:, a, b], turn[:, b, a], turn[:, b, b] = angle.cos(), -angle.sin(), angle.sin(), angle.cos()
    return turn


def in_shares(turn: Tensor, sides: Tensor) -> Tensor:
    """Return the map that `turn` (B, n, n), in pixels, is in shares of the `sides` (n,): a rotation is one in both for a square only."""
    return turn * (sides / sides[:, None])


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
