"""One generator for any number of domains, with style from noise or a reference image (StarGAN v2: Choi et al. 2020, arXiv 1912.01865).

Written from the paper, 2-D and 3-D. Channels are `width` at the full size and double at each halving, up to 8 × `width`. We differ:
images end in tanh, as every image here is in [-1, 1]; there is no mask of a face's landmarks, but G may add to the source; weights are
Xavier-uniform (networks/resnet.py), not He's. Domains are counted from 0; torch raises RuntimeError for one out of range.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from medgan_pl.core.counts import whole_number
from medgan_pl.models.networks.layers import AVERAGE_POOL, CONV, halve, space
from medgan_pl.models.networks.modulated import GAIN as RECTIFIED
from medgan_pl.models.networks.modulated import EqualizedLinear
from medgan_pl.models.networks.resnet import ResidualDownBlock, channels_at, init_weights
from medgan_pl.models.networks.translator import BoundedEnding

DEEPEST = 4  # halvings of the generator: from 256 to 16 places (appendix, table of the generator)


def of_domain(each: Float[Tensor, "b domains features"], domain: Int[Tensor, " b"]) -> Float[Tensor, "b features"]:
    """Select the features of each row's domain, by `gather`, for which a domain below 0 (unknown) is an error and not the last one."""
    return each.gather(1, domain[:, None, None].expand(-1, 1, each.shape[2])).squeeze(1)


class AdaptiveNorm(nn.Module):
    """Compute (1 + γ(s)) · instance norm(x) + β(s), γ, β linear in the style; x (B, C, *S), s (B, style). Huang & Belongie 2017, eq. 8."""

    def __init__(self, channels: int, style: int) -> None:
        super().__init__()
        self.linear = nn.Linear(style, 2 * channels)

    def forward(self, x: Float[Tensor, "b c *space"], style: Float[Tensor, "b s"]) -> Float[Tensor, "b c *space"]:
        scale, shift = self.linear(style).view(len(x), -1, *[1] * (x.ndim - 2)).chunk(2, 1)
        return torch.addcmul(shift, F.instance_norm(x), 1 + scale)


class PlainNorm(nn.Module):
    """Apply instance norm with a learned scale and shift; the style has no effect."""

    def __init__(self, channels: int, style: int) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Float[Tensor, "b c *space"], style: Float[Tensor, "b s"]) -> Float[Tensor, "b c *space"]:
        return F.instance_norm(x, weight=self.scale, bias=self.shift)


class StyledBlock(nn.Module):
    """Compute (skip(x) + conv(act(norm(conv(act(norm(x))))))) / √2; `down` halves every axis, `up` doubles it.

    Halving averages, doubling repeats each value; the skip has a 1×1 convolution if channels change. √2: Karras et al. 2020.
    """

    def __init__(
        self, spatial_dims: int, before: int, after: int, style: int, norm: type[nn.Module], *, up: bool = False, down: bool = False
    ) -> None:
        super().__init__()
        conv = CONV[spatial_dims]
        self.norm1, self.norm2 = norm(before, style), norm(after, style)
        self.conv1, self.conv2 = conv(before, after, 3, padding=1), conv(after, after, 3, padding=1)
        self.skip = nn.Identity() if before == after else conv(before, after, 1, bias=False)
        self.up = nn.Upsample(scale_factor=2) if up else nn.Identity()
        self.down = AVERAGE_POOL[spatial_dims](2) if down else nn.Identity()

    def forward(self, x: Float[Tensor, "b c *space"], style: Float[Tensor, "b s"]) -> Float[Tensor, "b d *resized"]:
        h = self.down(self.conv1(self.up(F.leaky_relu(self.norm1(x, style), 0.2))))
        h = self.conv2(F.leaky_relu(self.norm2(h, style), 0.2))
        return (self.up(self.skip(self.down(x))) + h) / math.sqrt(2)


class StarGenerator(nn.Module):
    """Map an image (B, channels, *size) and a style (B, style) to an image (B, channels, *size) in [-1, 1] in the style's domain.

    Blocks halve down to 8 places of the shortest axis, at most DEEPEST times; two blocks follow there, two more with the style, and blocks
    up with the style, which enters only by `AdaptiveNorm`. Instance norms need the whole image, not windows. With `residual` it starts as
    the identity for every style and learns the change (`translator.BoundedEnding`): for domains that show the same organ.
    """

    def __init__(
        self, *, spatial_dims: int, channels: int, size: int | Sequence[int], width: int = 32, style: int = 64, residual: bool = False
    ) -> None:
        super().__init__()
        halvings = min(DEEPEST, halve(space(size, spatial_dims), smallest=8)[0])
        plan = [channels_at(level, width) for level in range(halvings + 1)]
        deep, self.multiple = plan[-1], 2**halvings
        self.start = CONV[spatial_dims](channels, width, 3, padding=1)
        self.blocks = nn.ModuleList([StyledBlock(spatial_dims, a, b, style, PlainNorm, down=True) for a, b in pairwise(plan)])
        self.blocks.extend(
            StyledBlock(spatial_dims, deep, deep, style, norm) for norm in (PlainNorm, PlainNorm, AdaptiveNorm, AdaptiveNorm)
        )
        self.blocks.extend(StyledBlock(spatial_dims, a, b, style, AdaptiveNorm, up=True) for a, b in pairwise(reversed(plan)))
        self.norm = PlainNorm(width, style)
        init_weights(self)
        self.end = BoundedEnding(spatial_dims, width, channels, channels, residual=residual, kernel=1)

    def forward(self, image: Float[Tensor, "b c *space"], style: Float[Tensor, "b s"]) -> Float[Tensor, "b c *space"]:
        h = self.start(image)
        for block in self.blocks:
            h = block(h, style)
        return self.end(F.leaky_relu(self.norm(h, style), 0.2), image)


class Mapping(nn.Module):
    """Map z (B, latent) from N(0, 1) and domain (B,) to style (B, style): four common layers of `hidden` units, four for each domain.

    Layers are equalized, at a hundredth of the learning rate, as in the paper (1e-6 and 1e-4). Always float32.
    """

    def __init__(self, *, domains: int, latent: int = 16, style: int = 64, hidden: int = 256) -> None:
        super().__init__()

        def layers(first: int) -> list[nn.Module]:
            plan = [first, *[hidden] * 3]
            return [part for a, b in pairwise(plan) for part in (EqualizedLinear(a, b, rate=0.01, gain=RECTIFIED), nn.ReLU())]

        def last(outputs: int, gain: float) -> nn.Module:
            return EqualizedLinear(hidden, outputs, rate=0.01, gain=gain)

        self.common = nn.Sequential(*layers(latent), last(hidden, RECTIFIED), nn.ReLU())
        self.own = nn.ModuleList([nn.Sequential(*layers(hidden), last(style, 1.0)) for _ in range(domains)])

    def forward(self, z: Float[Tensor, "b latent"], domain: Int[Tensor, " b"]) -> Float[Tensor, "b s"]:
        h = self.common(z)
        return of_domain(torch.stack([own(h) for own in self.own], 1), domain)


class Trunk(nn.Sequential):
    """Map an image (B, channels, *size) to (B, features): residual halvings to 4 places, a convolution of 4, the mean over its places."""

    def __init__(self, *, spatial_dims: int, channels: int, size: int | Sequence[int], width: int) -> None:
        halvings, _ = halve(space(size, spatial_dims))
        plan = [channels] + [channels_at(level, width) for level in range(1, halvings + 1)]
        blocks = [ResidualDownBlock(spatial_dims, a, b, batch_norm=False, first=i == 0) for i, (a, b) in enumerate(pairwise(plan))]
        last = CONV[spatial_dims](plan[-1], plan[-1], 4)
        super().__init__(*blocks, nn.LeakyReLU(0.2), last, nn.LeakyReLU(0.2))
        self.features = plan[-1]

    def forward(self, image: Float[Tensor, "b c *space"]) -> Float[Tensor, "b features"]:
        return super().forward(image).flatten(2).mean(2)


class StyleEncoder(nn.Module):
    """Map an image (B, channels, *size) and its domain (B,) to its style (B, style), by a common trunk and a linear layer a domain."""

    def __init__(
        self, *, spatial_dims: int, channels: int, size: int | Sequence[int], domains: int, width: int = 32, style: int = 64
    ) -> None:
        super().__init__()
        self.trunk = Trunk(spatial_dims=spatial_dims, channels=channels, size=size, width=width)
        self.own = nn.Linear(self.trunk.features, domains * style)
        self.domains = domains
        init_weights(self)

    def forward(self, image: Float[Tensor, "b c *space"], domain: Int[Tensor, " b"]) -> Float[Tensor, "b s"]:
        return of_domain(self.own(self.trunk(image)).unflatten(1, (self.domains, -1)), domain)


class StarNetworks(nn.Module):
    """G, the mapping from noise to style and the encoder from image to style are trained and averaged as one generator.

    - `latent`: numbers of noise z; `style`: of a style; `hidden`: units of a layer of the mapping; `residual`: see `StarGenerator`.

    Raise ValueError for fewer than 2 domains.
    """

    def __init__(
        self,
        *,
        spatial_dims: int,
        channels: int,
        size: int | Sequence[int],
        domains: int,
        width: int = 32,
        latent: int = 16,
        style: int = 64,
        hidden: int = 256,
        residual: bool = False,
    ) -> None:
        super().__init__()
        whole_number("domains", domains, 2, "name those of the data, such as [t1,t2,flair]")
        where = {"spatial_dims": spatial_dims, "channels": channels, "size": size, "width": width, "style": style}
        self.generator = StarGenerator(**where, residual=residual)
        self.mapping = Mapping(domains=domains, latent=latent, style=style, hidden=hidden)
        self.encoder = StyleEncoder(**where, domains=domains)
        self.domains, self.latent = domains, latent
        self.factors, self.multiple = (1,) * spatial_dims, self.generator.multiple

    def translate(self, image: Float[Tensor, "b c *space"], style: Float[Tensor, "b s"]) -> Float[Tensor, "b c *space"]:
        """Return the image in the style and its domain."""
        return self.generator(image, style)

    def style_of_noise(self, z: Float[Tensor, "b latent"], domain: Int[Tensor, " b"]) -> Float[Tensor, "b s"]:
        """Return a style of the domain."""
        return self.mapping(z, domain)

    def style_of_image(self, image: Float[Tensor, "b c *space"], domain: Int[Tensor, " b"]) -> Float[Tensor, "b s"]:
        """Return the style of an image of the domain."""
        return self.encoder(image, domain)


class StarDiscriminator(nn.Module):
    """Map an image (B, channels, *size) in [-1, 1] and a domain (B,) to logits (B,): high for a real image of that domain."""

    def __init__(self, *, spatial_dims: int, channels: int, size: int | Sequence[int], domains: int, width: int = 32) -> None:
        super().__init__()
        self.trunk = Trunk(spatial_dims=spatial_dims, channels=channels, size=size, width=width)
        self.verdict = nn.Linear(self.trunk.features, domains)
        init_weights(self)

    def forward(self, image: Float[Tensor, "b c *space"], domain: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        return of_domain(self.verdict(self.trunk(image)).unsqueeze(2), domain).squeeze(1)
