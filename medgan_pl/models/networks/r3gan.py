"""R3GAN: a generator and a discriminator without normalization, of grouped residual blocks, for any number of halvings.

Source: Huang, Gokaslan, Kuleshov & Tompkin 2025 (arXiv 2501.05441), section 4 and the appendix on details; written from the paper. It is
trained with objective=relative and penalty=r1r2_each_step (conf/model/r3gan.yaml has the whole recipe).

Channels are `width` at the full size and double at each halving, up to 8 × `width`. The paper has width 96 and latent 64 at 256².
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from medgan_pl.models.networks.layers import CONV, Condition, ProjectionHead, halve, space
from medgan_pl.models.networks.resampling import Double, halved
from medgan_pl.models.networks.resnet import channels_at

SLOPE = 0.2  # of leaky rectifiers
GAIN = math.sqrt(2 / (1 + SLOPE**2))  # keeps the variance after a leaky rectifier (He et al. 2015, eq. 15)


def groups_of(channels: int, group_width: int) -> int:
    """Return the largest number of equal groups of `channels` with at least `group_width` each: 128 by 16 gives 8, 40 by 16 gives 2."""
    return next(groups for groups in range(max(1, channels // group_width), 0, -1) if channels % groups == 0)


class Block(nn.Module):
    """Compute x + project(act(grouped 3×3(act(expand(x))))): an inverted bottleneck of `expansion` × `channels`; no bias in the last layer.

    Fix-up (Zhang, Dauphin & Ma 2019, arXiv 1901.09321, section 3) scales the m = 3 layers of a branch except the last by
    L ** (-1 / (2m - 2)), with L = `depth` blocks in the network, and sets the last to zero, so that every block starts as the identity. Its
    scalar multipliers are left out, as in R3GAN. `awake` is the gain of the last layer in place of 0: at 1 a branch starts with 1/L of the
    variance of its input.
    """

    def __init__(self, spatial_dims: int, channels: int, *, expansion: int, group_width: int, depth: int, awake: float) -> None:
        super().__init__()
        conv, within = CONV[spatial_dims], channels * expansion
        self.expand = conv(channels, within, 1)
        self.spatial = conv(within, within, 3, padding=1, groups=groups_of(within, group_width))
        self.project = conv(within, channels, 1, bias=False)
        for layer in (self.expand, self.spatial):
            keep_variance(layer, GAIN * depth**-0.25)
        keep_variance(self.project, awake)

    def forward(self, x: Float[Tensor, "b c *space"]) -> Float[Tensor, "b c *space"]:
        h = F.leaky_relu(self.expand(x), SLOPE)
        return x + self.project(F.leaky_relu(self.spatial(h), SLOPE))


class Basis(nn.Module):
    """Scale each channel of a learned image of the smallest size by an affine map of z that starts near 1: the first layer of G.

    z (B, features) -> (B, channels, *base). The paper's map has no bias. Blocks start as the identity, so without a bias G(z) = -G(-z) at
    the start, with a mean of 0 everywhere; medical images are variations of one strong mean image.
    """

    def __init__(self, features: int, channels: int, base: Sequence[int]) -> None:
        super().__init__()
        self.basis = nn.Parameter(torch.randn(channels, *base))
        self.linear = nn.Linear(features, channels)
        keep_variance(self.linear)
        nn.init.ones_(self.linear.bias)

    def forward(self, z: Float[Tensor, "b features"]) -> Float[Tensor, "b c *base"]:
        scale = self.linear(z)
        return self.basis * scale.reshape(*scale.shape, *[1] * (self.basis.ndim - 1))


class Gather(nn.Module):
    """Mirror `Basis` in D: a depthwise convolution as large as its input; (B, channels, *base) -> (B, channels)."""

    def __init__(self, channels: int, base: Sequence[int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels, *base) / math.sqrt(math.prod(base)))

    def forward(self, x: Float[Tensor, "b c *base"]) -> Float[Tensor, "b c"]:
        return (x * self.weight).flatten(2).sum(2)


def keep_variance(layer: nn.Module, gain: float = 1.0) -> None:
    """Draw normal weights of deviation `gain` / √fan-in, set biases to 0: an input of variance 1 gives an output of variance gain²."""
    nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def widen(spatial_dims: int, before: int, after: int) -> nn.Module:
    """Return a 1×1 convolution from one number of channels to another, or the identity if they are equal."""
    if before == after:
        return nn.Identity()
    layer = CONV[spatial_dims](before, after, 1, bias=False)
    keep_variance(layer)
    return layer


def stage(blocks: int, spatial_dims: int, channels: int, **block: float) -> nn.Sequential:
    """Return the residual blocks of one resolution."""
    return nn.Sequential(*[Block(spatial_dims, channels, **block) for _ in range(blocks)])


class R3Generator(nn.Module):
    """Map z (B, latent) to an image (B, channels, *size), in evaluation mode in [-1, 1].

    There is no tanh, as in the paper, so that finite weights can reach black and white. In training, D sees values outside [-1, 1] as they
    are and so corrects G (a clamp would have no gradient there); in evaluation mode they are clamped.

    - `blocks`: of each resolution. `expansion`: of the channels within a block. `group_width`: channels of a group of its 3×3 convolution.
    - `awake`: initial gain of the last layer of each block; 0 is the paper's fix-up, with 1 short runs learn from the first step.
    """

    def __init__(
        self,
        *,
        spatial_dims: int,
        channels: int,
        size: int | Sequence[int],
        width: int = 16,
        latent: int = 64,
        classes: int = 0,
        covariates: Sequence[str] = (),
        blocks: int = 2,
        expansion: int = 2,
        group_width: int = 16,
        awake: float = 0.0,
    ) -> None:
        super().__init__()
        halvings, base = halve(space(size, spatial_dims))
        plan = [channels_at(level, width) for level in range(halvings, -1, -1)]
        block = {"expansion": expansion, "group_width": group_width, "depth": blocks * len(plan), "awake": awake}
        self.condition = Condition(latent, classes, covariates)
        self.start = Basis(self.condition.features, plan[0], base)
        layers = [stage(blocks, spatial_dims, plan[0], **block)]
        for before, after in pairwise(plan):  # convolve before doubling: they commute, and it is less work
            layers += [widen(spatial_dims, before, after), Double(spatial_dims), stage(blocks, spatial_dims, after, **block)]
        self.stages = nn.Sequential(*layers)
        self.to_image = CONV[spatial_dims](plan[-1], channels, 1)
        keep_variance(self.to_image)

    def forward(self, z: Float[Tensor, "b latent"], condition: Float[Tensor, "b k"] | None = None) -> Float[Tensor, "b c *space"]:
        image = self.to_image(self.stages(self.start(self.condition(z, condition))))
        return image if self.training else image.clamp(-1, 1)


class R3Discriminator(nn.Module):
    """Map an image (B, channels, *size) to logits (B,). `blocks`, `expansion`, `group_width`, `awake` as in the generator."""

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
        blocks: int = 2,
        expansion: int = 2,
        group_width: int = 16,
        awake: float = 0.0,
    ) -> None:
        super().__init__()
        halvings, base = halve(space(size, spatial_dims))
        plan = [channels_at(level, width) for level in range(halvings + 1)]
        block = {"expansion": expansion, "group_width": group_width, "depth": blocks * len(plan), "awake": awake}
        self.from_image = CONV[spatial_dims](channels, width, 1)
        keep_variance(self.from_image)
        self.stages = nn.ModuleList([stage(blocks, spatial_dims, channels, **block) for channels in plan])
        self.widen = nn.ModuleList([widen(spatial_dims, before, after) for before, after in pairwise(plan)])
        self.gather = Gather(plan[-1], base)
        self.verdict = head(plan[-1], classes, covariates)
        for layer in self.verdict.modules():
            if isinstance(layer, nn.Linear):
                keep_variance(layer)

    def forward(self, image: Float[Tensor, "b c *space"], condition: Float[Tensor, "b k"] | None = None) -> Float[Tensor, "b ..."]:
        h = self.stages[0](self.from_image(image))
        for change, blocks in zip(self.widen, self.stages[1:], strict=True):
            h = blocks(change(halved(h)))
        return self.verdict(self.gather(h), condition)
