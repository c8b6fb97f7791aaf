"""Generator and discriminator for 100 to 2,000 images (FastGAN: Liu et al. 2021, arXiv 2101.04775), 2-D and 3-D.

Each resolution has one convolution. Channels are `width` at the full size and double at each halving, up to 8 × `width`.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from medgan_pl.models.networks.layers import (
    AVERAGE_POOL,
    BATCH_NORM,
    CONV,
    Condition,
    ProjectionHead,
    apply_spectral_norm,
    halve,
    space,
    window,
)
from medgan_pl.models.networks.resnet import channels_at, init_weights

ADAPTIVE_POOL = {2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}
PADDED = 1e-3  # share of padding below which a pixel is image: rounding
FARTHEST = 4  # halvings that an excitation skips and a decoder undoes: 8 to 128 pixels in the paper

Views = dict[str, tuple[Tensor, ...]]  # a decoder's image and its target; and where the target is all image, if that is known


class GatedUpBlock(nn.Sequential):
    """Double every axis: up, 3-convolution, batch norm, gated linear unit (Dauphin et al. 2017, arXiv 1612.08083)."""

    def __init__(self, spatial_dims: int, before: int, after: int) -> None:
        conv = CONV[spatial_dims](before, 2 * after, 3, padding=1, bias=False)
        super().__init__(nn.Upsample(scale_factor=2), conv, BATCH_NORM[spatial_dims](2 * after), nn.GLU(1))


class Excitation(nn.Module):
    """Apply skip-layer excitation: y = x_high · σ(F(x_low)), a gate for each channel (section 3.1).

    F pools x_low (B, low, *S) to 4 places an axis, and two convolutions map them to (B, high, 1, …). Deep layers so control fine ones
    without a sum of equal shapes, and gradients have a short path to them.
    """

    def __init__(self, spatial_dims: int, low: int, high: int) -> None:
        super().__init__()
        conv = CONV[spatial_dims]
        pool = ADAPTIVE_POOL[spatial_dims](4)
        self.gate = nn.Sequential(pool, conv(low, high, 4), nn.LeakyReLU(0.1), conv(high, high, 1), nn.Sigmoid())

    def forward(self, low: Float[Tensor, "b low *small"], high: Float[Tensor, "b high *space"]) -> Float[Tensor, "b high *space"]:
        return high * self.gate(low)


class FastGenerator(nn.Module):
    """Map z (B, latent) to an image (B, channels, *size) in [-1, 1].

    The excitations skip FARTHEST halvings, from 4 to 64 pixels, 8 to 128, 16 to 256; the last one acts on the full size. An image with
    fewer halvings has one excitation, from its first layer to its last. Source: section 3.1 and figure 3.
    """

    def __init__(
        self,
        *,
        spatial_dims: int,
        channels: int,
        size: int | Sequence[int],
        width: int = 32,
        latent: int = 128,
        classes: int = 0,
        covariates: Sequence[str] = (),
    ) -> None:
        super().__init__()
        halvings, base = halve(space(size, spatial_dims))
        plan = [channels_at(level, width) for level in range(halvings, -1, -1)]  # channels after 0, 1, … blocks
        self.condition = Condition(latent, classes, covariates)
        deep = nn.Unflatten(1, (2 * plan[0], *base))
        start = nn.Linear(self.condition.features, 2 * plan[0] * math.prod(base), bias=False)
        self.start = nn.Sequential(start, deep, BATCH_NORM[spatial_dims](2 * plan[0]), nn.GLU(1))
        self.blocks = nn.ModuleList([GatedUpBlock(spatial_dims, a, b) for a, b in pairwise(plan)])
        self.leap = min(FARTHEST, halvings)
        pairs = zip(plan, plan[self.leap :], strict=False)
        self.excitations = nn.ModuleList([Excitation(spatial_dims, low, high) for low, high in pairs])
        self.to_image = CONV[spatial_dims](width, channels, 3, padding=1)
        init_weights(self)

    def forward(self, z: Float[Tensor, "b latent"], condition: Float[Tensor, "b k"] | None = None) -> Float[Tensor, "b c *space"]:
        stages = [self.start(self.condition(z, condition))]
        for level, block in enumerate(self.blocks, 1):
            h = block(stages[-1])
            stages.append(h if level < self.leap else self.excitations[level - self.leap](stages[level - self.leap], h))
        return self.to_image(stages[-1]).tanh()


class DownBlock(nn.Module):
    """Halve every axis by the mean of two branches: convolutions 4 (stride 2) and 3; an average of 2 and a 1×1 (figure 4)."""

    def __init__(self, spatial_dims: int, before: int, after: int, *, batch_norm: bool) -> None:
        super().__init__()
        conv = CONV[spatial_dims]

        def then(layer: nn.Module) -> list[nn.Module]:
            return [layer, BATCH_NORM[spatial_dims](after) if batch_norm else nn.Identity(), nn.LeakyReLU(0.2)]

        bias = not batch_norm
        layers = then(conv(before, after, 4, 2, 1, bias=bias)) + then(conv(after, after, 3, padding=1, bias=bias))
        self.through = nn.Sequential(*layers)
        self.beside = nn.Sequential(AVERAGE_POOL[spatial_dims](2), *then(conv(before, after, 1, bias=bias)))

    def forward(self, x: Float[Tensor, "b c *space"]) -> Float[Tensor, "b d *halved"]:
        return (self.through(x) + self.beside(x)) / 2


class Decoder(nn.Sequential):
    """Map features (B, before, *S) to an image (B, channels, 2**doublings × *S) in [-1, 1]; small, so that the features must learn."""

    def __init__(self, spatial_dims: int, before: int, channels: int, doublings: int, width: int) -> None:
        plan = [before] + [max(width, before // 2**i) for i in range(1, doublings + 1)]
        blocks = [GatedUpBlock(spatial_dims, a, b) for a, b in pairwise(plan)]
        super().__init__(*blocks, CONV[spatial_dims](plan[-1], channels, 3, padding=1), nn.Tanh())


class FastDiscriminator(nn.Module):
    """Map an image (B, channels, *size) in [-1, 1] to logits (B, places), one a place of the last features, 4 to 7 on the short axis.

    With `place` (B, axes) in [0, 1) it also returns two reconstructions with their targets: `whole`, the image from the last features, and
    `part`, half of each axis from the features before them, cut at `place`. Both are (B, channels, *s); the targets are the image averaged
    down to the decoder's size. D so must represent the whole image and its detail, not a single artifact. With `inside` (B, 1, *size) of
    {0, 1} each has a third image, (B, 1, *s): 1 where `inside` is 1 in all of a pixel of the target.

    Source: section 3.2 and figure 4. There the last features have 8 places an axis and those before 16, and an eighth of each axis is
    cut; at 32 pixels that would be less than one place. Our logits come from a convolution of 3 and the head at every place; the paper's
    convolutions of 1 and 4 leave 5 × 5. `batch_norm` and `spectral_norm` are each on or off.
    """

    def __init__(
        self,
        *,
        spatial_dims: int,
        channels: int,
        size: int | Sequence[int],
        width: int = 32,
        classes: int = 0,
        covariates: Sequence[str] = (),
        head: Callable[..., nn.Module] = ProjectionHead,
        batch_norm: bool = True,
        spectral_norm: bool = False,
    ) -> None:
        super().__init__()
        halvings, _ = halve(space(size, spatial_dims))
        plan = [channels] + [channels_at(level, width) for level in range(1, halvings + 1)]
        self.blocks = nn.ModuleList([DownBlock(spatial_dims, a, b, batch_norm=batch_norm) for a, b in pairwise(plan)])
        norm = BATCH_NORM[spatial_dims](plan[-1]) if batch_norm else nn.Identity()
        self.last = nn.Sequential(CONV[spatial_dims](plan[-1], plan[-1], 3, padding=1, bias=not batch_norm), norm, nn.LeakyReLU(0.2))
        self.verdict = head(plan[-1], classes, covariates)
        before = max(1, halvings - 1)  # blocks before the features that `part` is cut from
        self.scale = 2**before  # pixels of a place in these features
        self.whole = Decoder(spatial_dims, plan[-1], channels, min(FARTHEST, halvings), width)
        self.part = Decoder(spatial_dims, plan[before], channels, min(FARTHEST, before), width)
        init_weights(self)
        if spectral_norm:
            apply_spectral_norm(self)

    def forward(
        self,
        image: Float[Tensor, "b c *space"],
        condition: Float[Tensor, "b k"] | None = None,
        place: Float[Tensor, "b axes"] | None = None,
        inside: Float[Tensor, "b 1 *space"] | None = None,
    ) -> Float[Tensor, "b ..."] | tuple[Float[Tensor, "b ..."], Views]:
        features = [image]
        for block in self.blocks:
            features.append(block(features[-1]))
        h = self.last(features[-1]).flatten(2).transpose(1, 2)  # (B, places, C)
        repeated = None if condition is None else condition.repeat_interleave(h.shape[1], 0)
        logits = self.verdict(h.flatten(0, 1), repeated).unflatten(0, h.shape[:2])
        if place is None:
            return logits
        return logits, self._views(image, features[max(1, len(features) - 2)], features[-1], place, inside)

    def _views(self, image: Tensor, before: Tensor, last: Tensor, place: Tensor, inside: Tensor | None) -> Views:
        whole = image if inside is None else torch.cat([image, inside.to(image.dtype)], 1)
        part, seen = before, whole
        for i, axis in enumerate(range(2, image.ndim)):
            places = before.shape[axis]
            length = places // 2
            first = (place[:, i] * (places - length + 1)).long()
            part, seen = window(part, axis, first, length), window(seen, axis, first * self.scale, length * self.scale)
        views = {}
        for name, made, target in (("whole", self.whole(last), whole), ("part", self.part(part), seen)):
            small = F.interpolate(target, made.shape[2:], mode="area")
            views[name] = (made, small) if inside is None else (made, small[:, :-1], (small[:, -1:] > 1 - PADDED).to(small.dtype))
        return views
