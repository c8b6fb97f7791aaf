"""Generator and discriminator of volumes that learn from a slab of each at a time (HA-GAN: Sun et al. 2022, arXiv 2008.01910), 3-D only.

A cell is a voxel of the feature volume, CELL voxels of the image wide along each axis. A slab is `cells // slabs` cells along the first
axis, at least one, and the whole of the others; where it lies is a number in [0, 1) for each volume (`first_cell`). Channels are `width` at
the full size, double at each halving, and stop at 8 × `width`.
"""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from medgan_pl.models.networks.layers import BATCH_NORM, CONV, Condition, ProjectionHead, apply_spectral_norm, halve, space, window
from medgan_pl.models.networks.resnet import ResidualUpBlock, channels_at, init_weights

CELL = 4  # the low-resolution volume has a quarter of each axis, as in the paper
LEVEL = 2  # halvings in that

Place = Float[Tensor, "b 1"]


def cells_of(size: int | Sequence[int], spatial_dims: int) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """Halvings, the sizes they leave, and the cells along each axis; ValueError in 2-D, and for a size that does not halve so often."""
    if spatial_dims != 3:
        raise ValueError(f"`image.spatial_dims` must be 3 for model=hagan, which spares volumes, got {spatial_dims}; use model=fastgan")
    sizes = space(size, spatial_dims)
    halvings, base = halve(sizes, smallest=4 if min(sizes) >= 16 else 2)  # from 8 voxels, at least LEVEL times
    return halvings, base, tuple(axis // CELL for axis in sizes)


def thickness(cells: int, slabs: int) -> int:
    """Cells of a slab along the first axis. ValueError unless `slabs` is at least 1."""
    if slabs < 1:
        raise ValueError(f"`slabs` must be at least 1, got {slabs}")
    return max(1, cells // slabs)


def first_cell(place: Place, cells: int, thick: int) -> Int[Tensor, " b"]:
    """The first cell of a slab: each that leaves room for it as likely as the others."""
    return (place[:, 0] * (cells - thick + 1)).long()


def slab_of(volume: Float[Tensor, "b c *space"], place: Place, slabs: int) -> Float[Tensor, "b c *slab"]:
    """The slab of each image (B, C, D, H, W) at its `place`."""
    cells = volume.shape[2] // CELL
    thick = thickness(cells, slabs)
    return window(volume, 2, first_cell(place, cells, thick) * CELL, thick * CELL)


class HierarchicalGenerator(nn.Module):
    """z (B, latent) -> volume (B, channels, D, H, W) in [-1, 1]; with `place` its slab there and the volume at 1/CELL of each axis instead.

    z becomes a feature volume of 4 × `width` channels, a voxel a cell; from it one head makes the low-resolution volume, whole, and
    another, in training, the slab. Both see the same features, so slabs learnt one at a time fit together.

    The whole volume is made a slab after another, so that its memory is that of one (under no_grad; in training mode all at once, for
    batch normalization). No seam can show: the head pads the feature volume, by one cell of zeros at either end of the first axis, and
    nothing along it after that; so a slab is made of its own cells and one neighbor on each side, its whole receptive field, and equals
    that part of the whole to rounding. The paper's head pads each slab by itself, and so meets other borders in use than in training.
    Batch normalization for its group normalization, whose mean over a slab is not that over the volume. Nearest-neighbor doubling.
    """

    def __init__(
        self,
        *,
        spatial_dims: int,
        channels: int,
        size: int | Sequence[int],
        width: int = 16,
        latent: int = 128,
        classes: int = 0,
        covariates: Sequence[str] = (),
        slabs: int = 8,
    ) -> None:
        super().__init__()
        halvings, base, (self.cells, *_) = cells_of(size, spatial_dims)
        self.thick = thickness(self.cells, slabs)
        conv, norm = CONV[spatial_dims], BATCH_NORM[spatial_dims]
        deep, middle, half = (channels_at(level, width) for level in (halvings, LEVEL, 1))
        self.condition = Condition(latent, classes, covariates)
        self.start = nn.Sequential(nn.Linear(self.condition.features, deep * math.prod(base)), nn.Unflatten(1, (deep, *base)))
        levels = range(halvings, LEVEL, -1)
        blocks = [ResidualUpBlock(spatial_dims, channels_at(i, width), channels_at(i - 1, width)) for i in levels]
        self.common = nn.Sequential(*blocks, norm(middle), nn.ReLU())
        self.low = nn.Sequential(
            conv(middle, half, 3, padding=1, bias=False), norm(half), nn.ReLU(), conv(half, channels, 3, padding=1), nn.Tanh()
        )
        across = {"kernel_size": 3, "padding": (0, 1, 1)}  # along the first axis each takes a voxel off either end
        double = nn.Upsample(scale_factor=2)
        first = [double, conv(middle, half, **across, bias=False), norm(half), nn.ReLU()]  # of n + 2 cells, 2n + 2
        second = [double, conv(half, width, **across, bias=False), norm(width), nn.ReLU()]  # 4n + 2
        self.high = nn.Sequential(*first, *second, conv(width, channels, **across), nn.Tanh())  # 4n
        init_weights(self)

    def forward(
        self, z: Float[Tensor, "b latent"], condition: Float[Tensor, "b k"] | None = None, place: Place | None = None
    ) -> Float[Tensor, "b c *space"] | tuple[Float[Tensor, "b c *slab"], Float[Tensor, "b c *low"]]:
        features = self.common(self.start(self.condition(z, condition)))
        padded = F.pad(features, (0, 0, 0, 0, 1, 1))
        if place is not None:
            first = first_cell(place, self.cells, self.thick)
            return self.high(window(padded, 2, first, self.thick + 2)), self.low(features)
        thick = self.cells if self.training else self.thick
        starts = range(0, self.cells, thick)
        return torch.cat([self.high(padded[:, :, start : start + thick + 2]) for start in starts], 2)


class Tower(nn.Module):
    """image (B, channels, *sizes) -> logits (B, …): 4-convolutions that halve every axis of more than 4, to channels from 2 × `width` on,
    then a 3-convolution and the head on all that is left."""

    def __init__(self, channels: int, sizes: Sequence[int], width: int, head: Callable[[int], nn.Module]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before, level = channels, 0
        while max(sizes) > 4:
            level += 1
            after, halved = channels_at(level, width), [axis > 4 for axis in sizes]
            kernel, stride = tuple(4 if yes else 3 for yes in halved), tuple(2 if yes else 1 for yes in halved)
            layers += [nn.Conv3d(before, after, kernel, stride, padding=1), nn.LeakyReLU(0.2)]
            sizes = tuple(axis // 2 if yes else axis for axis, yes in zip(sizes, halved, strict=True))
            before = after
        after = channels_at(level + 1, width)
        self.body = nn.Sequential(*layers, nn.Conv3d(before, after, 3, padding=1), nn.LeakyReLU(0.2), nn.Flatten())
        self.verdict = head(after * math.prod(sizes))

    def forward(self, image: Float[Tensor, "b c *space"], condition: Float[Tensor, "b k"] | None = None) -> Float[Tensor, "b ..."]:
        return self.verdict(self.body(image), condition)


class HierarchicalDiscriminator(nn.Module):
    """Two discriminators: a low-resolution volume (B, channels, *cells), or with `place` a slab that lies there -> logits (B,).

    A slab comes with a channel more, the height of each of its voxels in the volume, -1 to 1: the authors add the place to the last
    features, where it can tell less of what belongs there.
    `spectral_norm`, the paper's, is on or off; there is no other normalization.
    """

    def __init__(
        self,
        *,
        spatial_dims: int,
        channels: int,
        size: int | Sequence[int],
        width: int = 16,
        classes: int = 0,
        covariates: Sequence[str] = (),
        head: Callable[..., nn.Module] = ProjectionHead,
        slabs: int = 8,
        spectral_norm: bool = False,
    ) -> None:
        super().__init__()
        _, _, cells = cells_of(size, spatial_dims)
        self.cells, self.thick = cells[0], thickness(cells[0], slabs)
        slab = [axis * CELL for axis in (self.thick, *cells[1:])]
        self.slab = Tower(channels + 1, slab, width, lambda features: head(features, classes, covariates))
        self.low = Tower(channels, cells, width, lambda features: head(features, classes, covariates))
        init_weights(self)
        if spectral_norm:
            apply_spectral_norm(self)

    def forward(
        self, image: Float[Tensor, "b c *space"], condition: Float[Tensor, "b k"] | None = None, place: Place | None = None
    ) -> Float[Tensor, "b ..."]:
        if place is None:
            return self.low(image, condition)
        first = first_cell(place, self.cells, self.thick) * CELL
        voxels = first[:, None] + torch.arange(image.shape[2], device=image.device)  # (B, D')
        height = (voxels.to(image.dtype) * 2 + 1) / (self.cells * CELL) - 1
        return self.slab(torch.cat([image, height[:, None, :, None, None].expand(-1, 1, *image.shape[2:])], 1), condition)
