"""Generator and discriminator of volumes, trained on a slab of each volume at a time (HA-GAN: Sun et al. 2022, arXiv 2008.01910), 3-D.

A cell is a voxel of the feature volume: CELL voxels of the image along each axis. A slab has `cells // slabs` cells along the first axis,
at least one, and covers the other axes. Its place is a number in [0, 1) for each volume (`first_cell`). Channels are `width` at the full
size and double at each halving, up to 8 × `width`.
"""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from medgan_pl.core.counts import whole_number
from medgan_pl.models.networks.layers import BATCH_NORM, CONV, Condition, ProjectionHead, apply_spectral_norm, halve, space, window
from medgan_pl.models.networks.resnet import ResidualUpBlock, channels_at, init_weights

CELL = 4  # the low-resolution volume has a quarter of each axis, as in the paper
LEVEL = 2  # halvings in that

Place = Float[Tensor, "b 1"]


def cells_of(size: int | Sequence[int], spatial_dims: int) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """Return the halvings, the sizes after them, and the cells along each axis.

    Raise ValueError in 2-D, and for a size that cannot be halved that often.
    """
    if spatial_dims != 3:
        raise ValueError(f"`image.spatial_dims` must be 3 for model=hagan, got {spatial_dims}; use model=fastgan")
    sizes = space(size, spatial_dims)
    halvings, base = halve(sizes, smallest=4 if min(sizes) >= 16 else 2)  # from 8 voxels, at least LEVEL times
    return halvings, base, tuple(axis // CELL for axis in sizes)


def thickness(cells: int, slabs: int) -> int:
    """Return the number of cells of a slab along the first axis. Raise ValueError unless `slabs` is at least 1."""
    return max(1, cells // whole_number("slabs", slabs, 1))


def first_cell(place: Place, cells: int, thick: int) -> Int[Tensor, " b"]:
    """Return the first cell of a slab. All cells that leave room for the slab are equally likely."""
    return (place[:, 0] * (cells - thick + 1)).long()


def slab_of(volume: Float[Tensor, "b c *space"], place: Place, slabs: int) -> Float[Tensor, "b c *slab"]:
    """Return the slab of each image (B, C, D, H, W) at its `place`."""
    cells = volume.shape[2] // CELL
    thick = thickness(cells, slabs)
    return window(volume, 2, first_cell(place, cells, thick) * CELL, thick * CELL)


class HierarchicalGenerator(nn.Module):
    """Map z (B, latent) to a volume (B, channels, D, H, W) in [-1, 1]; with `place`, to its slab there and the volume at 1/CELL an axis.

    z becomes a feature volume of 4 × `width` channels, one voxel a cell. One head makes the whole low-resolution volume from it; in
    training another head makes the slab. Both use the same features, so that slabs learned one at a time fit together.

    The whole volume is generated slab by slab, in the memory of one slab (under no_grad; in training mode all at once, for batch
    normalization). There are no seams: the head pads the feature volume by one cell of zeros at both ends of the first axis and never
    again along it. A slab is computed from its own cells and one neighbor on each side, its whole receptive field, and equals that part
    of the volume to rounding. The paper's head pads each slab, and so has other borders in inference than in training. We use batch
    normalization, as the mean of the paper's group normalization over a slab is not that over the volume. Doubling is nearest-neighbor.
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
        across = {"kernel_size": 3, "padding": (0, 1, 1)}  # each removes a voxel at both ends of the first axis
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
    """Map an image (B, channels, *sizes) to logits (B, …).

    4-convolutions halve every axis of more than 4, with channels from 2 × `width` on; a 3-convolution and the head follow.
    """

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
    """Two discriminators map a low-resolution volume (B, channels, *cells), or with `place` the slab there, to logits (B,).

    A slab has one more channel: the height of each voxel in the volume, -1 to 1. The authors add the place to the last features, where it
    is less informative. `spectral_norm`, as in the paper, is on or off; there is no other normalization.
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
