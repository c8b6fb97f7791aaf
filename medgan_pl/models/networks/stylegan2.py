"""A style-based generator with skips and a residual discriminator (StyleGAN2: Karras et al. 2020, arXiv 1912.04958), 2-D and 3-D.

Written from the papers: Karras et al. 2019 (arXiv 1812.04948), 2020 (arXiv 1912.04958) and 2020 (arXiv 2006.06676, here ADA).
There are `width` channels at the full size, twice as many at each halving, and never more than `max_channels`. Configuration F is width 32
at 1024² and width 128 at 256², with 512 as the maximum; ADA takes width 64 at 256².

We differ in three points. Images end in tanh, because every image here lies in [-1, 1]. Sizes need not be square. The embedding of the
condition is not normalized, because a covariate would lose its magnitude.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from medgan_pl.models.networks.layers import Embedding, ProjectionHead, conditions, halve, space
from medgan_pl.models.networks.modulated import GAIN, SLOPE, EqualizedConv, EqualizedLinear, ModulatedConv, ToImage, minibatch_deviation
from medgan_pl.models.networks.resampling import Double

CLOSE = 0.005  # share of the distance by which the average w moves to a batch's mean (Karras et al. 2019, arXiv 1812.04948: decay 0.995)


def channels_at(level: int, width: int, max_channels: int) -> int:
    """Return the number of channels after `level` halvings of the full size."""
    return min(width * 2**level, max_channels)


def sizes_of(size: int | Sequence[int], spatial_dims: int) -> list[tuple[int, ...]]:
    """Return the size of each layer with noise, from the first: one at the base, two at each doubling."""
    halvings, base = halve(space(size, spatial_dims))
    return [base] + [tuple(axis * 2**level for axis in base) for level in range(1, halvings + 1) for _ in range(2)]


def count_noise(size: int | Sequence[int], spatial_dims: int) -> int:
    """Return how many numbers of noise one image has in all layers together."""
    return sum(map(math.prod, sizes_of(size, spatial_dims)))


class MappingNetwork(nn.Module):
    """Map (z, condition) to w (B, latent) by `layers` equalized layers of `latent` units at a hundredth of the learning rate.

    z is scaled to a mean square of 1; the embedded condition, with about the same, is joined to it. Always float32.

    Source: Karras et al. 2019 (arXiv 1812.04948), section 2 and appendix C; joined conditions: ADA, appendix C.
    """

    def __init__(self, latent: int, classes: int = 0, covariates: Sequence[str] = (), layers: int = 8) -> None:
        super().__init__()
        inputs = conditions(classes, covariates)
        self.embedding = Embedding(inputs, latent) if inputs else None
        self.answered = math.sqrt((classes > 0) + len(covariates)) or 1.0  # numbers of a condition that are not 0
        first = latent * (2 if inputs else 1)
        self.layers = nn.ModuleList([EqualizedLinear(first if i == 0 else latent, latent, rate=0.01, gain=GAIN) for i in range(layers)])

    def forward(self, z: Float[Tensor, "b latent"], condition: Float[Tensor, "b k"] | None = None) -> Float[Tensor, "b latent"]:
        with torch.autocast(z.device.type, enabled=False):
            x = z.float()
            x = x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()
            if self.embedding is not None:
                x = torch.cat([x, self.embedding(condition) / self.answered], 1)
            for layer in self.layers:
                x = F.leaky_relu(layer(x), SLOPE)
        return x


class StyleBlock(nn.Module):
    """Double every axis of the features, convolve them again, and add their image to the doubled image."""

    def __init__(self, spatial_dims: int, before: int, after: int, channels: int, latent: int, gain: float) -> None:
        super().__init__()
        self.up = ModulatedConv(spatial_dims, before, after, latent, up=True)
        self.conv = ModulatedConv(spatial_dims, after, after, latent)
        self.to_image, self.doubling = ToImage(after, channels, latent, gain=gain), Double(spatial_dims)

    def forward(self, x: Tensor, image: Tensor, styles: Sequence[Tensor], noise: Sequence[Tensor | None]) -> tuple[Tensor, Tensor]:
        x = self.up(x, styles[0], noise[0])
        x = self.conv(x, styles[1], noise[1])
        with torch.autocast(x.device.type, enabled=False):  # sum the image in float32
            image = self.doubling(image)
        return x, image + self.to_image(x, styles[2])


class SynthesisNetwork(nn.Module):
    """Map a w for each layer (B, `layers`, latent) and noise (B, N) or None to an image (B, channels, *size) in [-1, 1].

    It starts from a learned constant of the base size. Each size has two convolutions; the images of all sizes are summed (the skips of
    1912.04958, figure 7). `layers` is 2 a size; the layer that makes a size's image shares its w with the next convolution.
    """

    def __init__(self, *, spatial_dims: int, channels: int, size: int | Sequence[int], width: int, latent: int, max_channels: int) -> None:
        super().__init__()
        self.noise_sizes = sizes_of(size, spatial_dims)
        halvings, base = halve(space(size, spatial_dims))
        plan = [channels_at(level, width, max_channels) for level in range(halvings, -1, -1)]
        self.layers = 2 * len(plan)
        gain = 1 / math.sqrt(len(plan))  # the sum, not each term, has unit variance before tanh
        self.constant = nn.Parameter(torch.randn(1, plan[0], *base))
        self.conv = ModulatedConv(spatial_dims, plan[0], plan[0], latent)
        self.to_image = ToImage(plan[0], channels, latent, gain=gain)
        self.blocks = nn.ModuleList([StyleBlock(spatial_dims, a, b, channels, latent, gain) for a, b in pairwise(plan)])

    def forward(
        self, styles: Float[Tensor, "b layers latent"], noise: Float[Tensor, "b numbers"] | None = None
    ) -> Float[Tensor, "b c *space"]:
        w, maps = styles.unbind(1), self.maps(noise)
        x = self.conv(self.constant.expand(len(styles), *self.constant.shape[1:]), w[0], maps[0])
        image = self.to_image(x, w[1])
        for i, block in enumerate(self.blocks):
            x, image = block(x, image, w[2 * i + 1 : 2 * i + 4], maps[2 * i + 1 : 2 * i + 3])
        return image.tanh()

    def maps(self, noise: Tensor | None) -> list[Tensor | None]:
        """Return the noise of each layer, (B, 1, *S)."""
        if noise is None:
            return [None] * len(self.noise_sizes)
        parts = noise.split([math.prod(sizes) for sizes in self.noise_sizes], 1)
        return [part.view(-1, 1, *sizes) for part, sizes in zip(parts, self.noise_sizes, strict=True)]


class StyleGAN2Generator(nn.Module):
    """Map z (B, latent) to an image (B, channels, *size) in [-1, 1] by w = f(z, condition) (`mapping`) and g(w) (`synthesis`).

    - `noise` (B, N), N from `count_noise`: N(0, 1) for each pixel of each layer, given by the game, so that an image is a function of its
      batch; None adds none. `z_mixed` (B, latent), `crossover` (B,) in [0, ∞): layers from that share on use the w of `z_mixed` in place
      of that of z; from 1 on none does.
    - `truncation`: ψ in [0, 1], set for drawing: w' = w̄ + ψ (w - w̄); images near the average w̄ are cleaner and less varied.
      w̄ (`w_average`) follows the mean w of each training batch, over all conditions.

    Source: see the head of this file; truncation and mixing: Karras et al. 2019 (arXiv 1812.04948), sections 3.1 and 2, appendix B.
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
        mapping_layers: int = 8,
        max_channels: int = 512,
    ) -> None:
        super().__init__()
        self.mapping = MappingNetwork(latent, classes, covariates, mapping_layers)
        self.synthesis = SynthesisNetwork(
            spatial_dims=spatial_dims, channels=channels, size=size, width=width, latent=latent, max_channels=max_channels
        )
        self.layers = self.synthesis.layers
        self.register_buffer("w_average", torch.zeros(latent))
        self.truncation: float | None = None

    def forward(
        self,
        z: Float[Tensor, "b latent"],
        condition: Float[Tensor, "b k"] | None = None,
        noise: Float[Tensor, "b numbers"] | None = None,
        z_mixed: Float[Tensor, "b latent"] | None = None,
        crossover: Float[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b c *space"]:
        w = self.mapping(z, condition)
        if self.training:
            self.w_average.lerp_(w.detach().mean(0), CLOSE)
        elif self.truncation is not None:
            w = self.w_average + self.truncation * (w - self.w_average)
        styles = self.every_layer(w)
        if z_mixed is not None and crossover is not None:
            first = 1 + (crossover * (self.layers - 1)).floor()  # the first layer of the other w; each w has at least one layer
            other = torch.arange(self.layers, device=z.device) >= first.unsqueeze(1)  # (B, layers)
            styles = torch.where(other.unsqueeze(2), self.mapping(z_mixed, condition).unsqueeze(1), styles)
        return self.synthesis(styles, noise)

    def every_layer(self, w: Float[Tensor, "b latent"]) -> Float[Tensor, "b layers latent"]:
        """Return the same w for every layer."""
        return w.unsqueeze(1).expand(-1, self.layers, -1)


class ResidualDown(nn.Module):
    """Halve every axis: two 3-pixel convolutions, the second of stride 2, plus a filtered 1-pixel skip; their sum is divided by √2."""

    def __init__(self, spatial_dims: int, before: int, after: int) -> None:
        super().__init__()
        self.conv = EqualizedConv(spatial_dims, before, before, 3)
        self.down = EqualizedConv(spatial_dims, before, after, 3, down=True, gain=1.0)  # √2 of the rectifier over √2 of the sum
        self.skip = EqualizedConv(spatial_dims, before, after, 1, down=True, gain=1 / GAIN, bias=False)

    def forward(self, x: Float[Tensor, "b c *space"]) -> Float[Tensor, "b d *halved"]:
        return F.leaky_relu(self.down(F.leaky_relu(self.conv(x), SLOPE)), SLOPE) + self.skip(x)


class StyleGAN2Discriminator(nn.Module):
    """Map an image (B, channels, *size) in [-1, 1] to logits (B,): residual, with the minibatch deviation at the base size.

    A logit depends on the other images of its group of four (`minibatch_deviation`), unless `deviation` is false. The features reach
    `head` divided by the root of their number, and its layers start from N(0, 1): equalized like the others.

    Source: Karras et al. 2020 (arXiv 1912.04958), figure 7 and appendix B; the projection of a condition: ADA, appendix C.
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
        deviation: bool = True,
        max_channels: int = 512,
    ) -> None:
        super().__init__()
        halvings, base = halve(space(size, spatial_dims))
        plan = [channels_at(level, width, max_channels) for level in range(halvings + 1)]
        deep, self.deviation = plan[-1], deviation
        self.from_image = EqualizedConv(spatial_dims, channels, width, 1)
        self.blocks = nn.Sequential(*[ResidualDown(spatial_dims, a, b) for a, b in pairwise(plan)])
        self.conv = EqualizedConv(spatial_dims, deep + deviation, deep, 3)
        self.dense = EqualizedLinear(deep * math.prod(base), deep, gain=GAIN)
        self.verdict = head(deep, classes, covariates)
        for layer in self.verdict.modules():
            if isinstance(layer, (nn.Linear, Embedding)):
                nn.init.normal_(layer.weight)
            if isinstance(layer, nn.Linear):
                nn.init.zeros_(layer.bias)

    def forward(self, image: Float[Tensor, "b c *space"], condition: Float[Tensor, "b k"] | None = None) -> Float[Tensor, "b ..."]:
        x = self.blocks(F.leaky_relu(self.from_image(image), SLOPE))
        if self.deviation:
            x = torch.cat([x, minibatch_deviation(x)], 1)
        x = F.leaky_relu(self.conv(x), SLOPE)
        features = F.leaky_relu(self.dense(x.flatten(1)), SLOPE)
        return self.verdict(features / math.sqrt(features.shape[1]), condition)
