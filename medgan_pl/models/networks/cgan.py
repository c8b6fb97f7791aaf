"""The first conditional GAN: the condition is joined to the noise and to the image (Mirza & Osindero 2014).

Their layers are dense; ours are dense first and then convolutional.
"""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medgan_pl.models.networks.dcgan import doubling, halving, init_weights, last
from medgan_pl.models.networks.layers import Condition, Embedding, ProjectionHead, conditions, space


def doublings(sizes: Sequence[int]) -> tuple[int, tuple[int, ...]]:
    """Return the number of transposed convolutions of stride 2, at most 4, and the size that they start from.

    Each halving must divide each axis and leave 2 pixels: (64, 64) gives 4, (4, 4); (16, 24) gives 3, (2, 3).
    Raise ValueError if an axis is odd.
    """
    fitting = [n for n in range(5) if all(axis % 2**n == 0 and axis >= 2 * 2**n for axis in sizes)]
    if fitting[-1] == 0:
        odd = next(axis for axis in sizes if axis % 2)
        raise ValueError(f"`size` must be even along each axis, got {odd}; use {odd - 1} or {odd + 1}, best a multiple of 16")
    return fitting[-1], tuple(axis // 2 ** fitting[-1] for axis in sizes)


class CGANGenerator(nn.Module):
    """Map (z, condition) to an image (B, channels, *size) in [-1, 1]: two dense blocks with batch norm, then four transposed convolutions.

    z (B, latent). If 16 does not divide the size, there are fewer transposed convolutions (`doublings`) and more weights in the second
    dense block. Channels are `width` at half the size and double towards the first map. A training batch needs at least two images.

    Source: Mirza & Osindero 2014 (arXiv 1411.1784), sections 3.2 and 4.1: noise and condition are joined. Their two hidden layers are dense
    with ReLU; the convolutions are from Radford et al. 2016.
    """

    def __init__(
        self,
        *,
        spatial_dims: int,
        channels: int,
        size: int | Sequence[int],
        width: int = 64,
        latent: int = 128,
        classes: int = 0,
        covariates: Sequence[str] = (),
    ) -> None:
        super().__init__()
        steps, base = doublings(space(size, spatial_dims))
        deep = width * 2 ** (steps - 1)
        self.condition = Condition(latent, classes, covariates)
        self.dense = nn.Sequential(
            *dense(self.condition.features, deep), *dense(deep, deep * math.prod(base)), nn.Unflatten(1, (deep, *base))
        )
        self.body = nn.Sequential(*doubling(spatial_dims, deep, steps - 1), *last(spatial_dims, width, channels))
        init_weights(self)

    def forward(self, z: Float[Tensor, "b latent"], condition: Float[Tensor, "b k"] | None = None) -> Float[Tensor, "b c *space"]:
        return self.body(self.dense(self.condition(z, condition)))


def dense(before: int, after: int) -> list[nn.Module]:
    """Return a fully connected block."""
    return [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU(inplace=True)]


class CGANDiscriminator(nn.Module):
    """Map (image, condition) to logits (B,): the condition is one more channel of the image; strided convolutions follow.

    image (B, channels, *size) in [-1, 1]. The channel is the sum of a learned image for each number of the condition, so `head` gets no
    condition. It starts near 0, as the convolutions do: from N(0, 1) it is noise over the image, and G learns more slowly. Batch norm is
    in all but the first convolution.
    """

    def __init__(
        self,
        *,
        spatial_dims: int,
        channels: int,
        size: int | Sequence[int],
        width: int = 64,
        classes: int = 0,
        covariates: Sequence[str] = (),
        head: Callable[..., nn.Module] = ProjectionHead,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        sizes = space(size, spatial_dims)
        steps, base = doublings(sizes)
        count = conditions(classes, covariates)
        self.map = nn.Sequential(Embedding(count, math.prod(sizes), 0.02), nn.Unflatten(1, (1, *sizes))) if count else None
        self.body = nn.Sequential(*halving(spatial_dims, channels + bool(count), width, steps, batch_norm=batch_norm), nn.Flatten())
        self.verdict = head(width * 2 ** (steps - 1) * math.prod(base), 0, ())
        init_weights(self)

    def forward(self, image: Float[Tensor, "b c *space"], condition: Float[Tensor, "b k"] | None = None) -> Float[Tensor, "b ..."]:
        inputs = image if self.map is None else torch.cat([image, self.map(condition)], 1)
        return self.verdict(self.body(inputs))
