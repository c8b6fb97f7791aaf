"""Sets of tiny images whose class, and whose mask, is known: a bright square on the left or on the right, in noise."""

import torch

from medgan_pl.metrics.utility.teaching import Labeled, Masked


def noise(count, shape, seed):
    return 0.2 * torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed)) - 0.6


def sided(count=60, *, seed=0, spatial_dims=2, side=16, classes=2):
    """Class 0 bright on the left, class 1 on the right, class 2 nowhere."""
    images, labels = noise(count, (1, *[side] * spatial_dims), seed), torch.arange(count) % classes
    middle = [slice(side // 4, 3 * side // 4)] * (spatial_dims - 1)
    for image, label in zip(images, labels.tolist(), strict=True):
        if label < 2:
            image[(0, *middle, slice(2, side // 3) if label == 0 else slice(-side // 3, -2))] += 1
    return Labeled(images.clamp(-1, 1), labels)


def squares(count=60, *, seed=0, side=32, spatial_dims=2, empty=True):
    """Squares or cubes of a quarter to a half of the side, each fourth image without one where `empty`."""
    images, masks = noise(count, (1, *[side] * spatial_dims), seed), torch.zeros(count, 1, *[side] * spatial_dims)
    generator = torch.Generator().manual_seed(seed + 1)
    for place in range(count):
        if place % 4 or not empty:
            size = int(torch.randint(side // 4, side // 2, (), generator=generator))
            where = [slice(start, start + size) for start in torch.randint(side - size, (spatial_dims,), generator=generator).tolist()]
            masks[(place, 0, *where)] = 1
    return Masked((images + masks).clamp(-1, 1), masks)
