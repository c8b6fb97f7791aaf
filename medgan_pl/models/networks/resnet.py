"""Residual generator and discriminator in the shape of SNGAN (Miyato et al. 2018, appendix B.4), for any number of halvings.

Each resolution has one block. Channels are `width` at the full size and double at each halving, up to 8 × `width`.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from medgan_pl.models.networks.attention import SelfAttention, attended
from medgan_pl.models.networks.layers import AVERAGE_POOL, BATCH_NORM, CONV, Condition, ProjectionHead, apply_spectral_norm, halve, space


def channels_at(level: int, width: int) -> int:
    """Return the number of channels after `level` halvings of the full size."""
    return width * 2 ** min(level, 3)


class ResidualUpBlock(nn.Module):
    """Double every axis: norm, ReLU, up, conv, norm, ReLU, conv, plus a skip of a 1×1 convolution and the same doubling.

    The skip convolves before it doubles: they commute, and it is a quarter of the work (an eighth in 3-D).
    """

    def __init__(self, spatial_dims: int, before: int, after: int) -> None:
        super().__init__()
        conv, norm = CONV[spatial_dims], BATCH_NORM[spatial_dims]
        self.norm1, self.conv1 = norm(before), conv(before, after, 3, padding=1, bias=False)
        self.norm2, self.conv2 = norm(after), conv(after, after, 3, padding=1)
        self.skip = conv(before, after, 1, bias=False)

    def forward(self, x: Float[Tensor, "b c *space"]) -> Float[Tensor, "b d *doubled"]:
        h = self.conv1(F.interpolate(F.relu(self.norm1(x)), scale_factor=2))
        return self.conv2(F.relu(self.norm2(h))) + F.interpolate(self.skip(x), scale_factor=2)


class ResidualDownBlock(nn.Module):
    """Halve every axis: (norm, LeakyReLU), conv, (norm), LeakyReLU, conv of stride 2, plus a skip of averaging and a 1×1 convolution.

    The block that reads the image (`first`) starts with its convolution, as an image must not be rectified. SNGAN convolves at the full
    size and averages; the strided 4×4 convolution does both in under half the work.
    """

    def __init__(self, spatial_dims: int, before: int, after: int, *, batch_norm: bool, first: bool) -> None:
        super().__init__()
        conv = CONV[spatial_dims]
        norm = BATCH_NORM[spatial_dims] if batch_norm else nn.Identity
        within = after // 2 if first else before
        self.enter = nn.Identity() if first else nn.Sequential(norm(before), nn.LeakyReLU(0.2))
        self.conv1, self.norm2 = conv(before, within, 3, padding=1), norm(within)
        self.conv2 = conv(within, after, 4, stride=2, padding=1)
        self.skip = conv(before, after, 1, bias=False)
        self.average = AVERAGE_POOL[spatial_dims](2)

    def forward(self, x: Float[Tensor, "b c *space"]) -> Float[Tensor, "b d *halved"]:
        h = self.conv2(F.leaky_relu(self.norm2(self.conv1(self.enter(x))), 0.2))
        return h + self.skip(self.average(x))


def init_weights(network: nn.Module) -> None:
    """Draw Xavier-uniform weights (Glorot & Bengio 2010): gain √2 next to a rectifier, 1 on skips and linear layers; biases 0."""
    for layer in network.modules():
        if isinstance(layer, (*CONV.values(), nn.Linear)):
            gain = math.sqrt(2) if isinstance(layer, tuple(CONV.values())) and layer.kernel_size[0] > 1 else 1.0
            nn.init.xavier_uniform_(layer.weight, gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class ResNetGenerator(nn.Module):
    """Map z (B, latent) to an image (B, channels, *size) in [-1, 1].

    `attention` puts self-attention between two blocks, at the level of `attended` (networks/attention.py). `spectral_norm` applies to all
    layers but the embedding of the condition: batch norm corrects the scale of the others, but a small condition would be lost next to z.
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
        attention: bool = False,
        spectral_norm: bool = False,
    ) -> None:
        super().__init__()
        sizes = space(size, spatial_dims)
        halvings, base = halve(sizes)
        deep, place = channels_at(halvings, width), attended(sizes, halvings) if attention else 0
        self.condition = Condition(latent, classes, covariates)
        self.start = nn.Sequential(nn.Linear(self.condition.features, deep * math.prod(base)), nn.Unflatten(1, (deep, *base)))
        self.blocks = nn.Sequential()
        for level in range(halvings, 0, -1):
            if level == place:
                self.blocks.append(SelfAttention(spatial_dims, channels_at(level, width)))
            self.blocks.append(ResidualUpBlock(spatial_dims, channels_at(level, width), channels_at(level - 1, width)))
        self.norm = BATCH_NORM[spatial_dims](width)
        self.to_image = CONV[spatial_dims](width, channels, 3, padding=1)
        init_weights(self)
        if spectral_norm:
            for part in (self.start, self.blocks, self.to_image):
                apply_spectral_norm(part)

    def forward(self, z: Float[Tensor, "b latent"], condition: Float[Tensor, "b k"] | None = None) -> Float[Tensor, "b c *space"]:
        h = self.blocks(self.start(self.condition(z, condition)))
        return self.to_image(F.relu(self.norm(h))).tanh()


class ResNetDiscriminator(nn.Module):
    """Map an image (B, channels, *size) in [-1, 1] to logits (B,). `batch_norm`, `spectral_norm` and `attention` are each on or off.

    The last map is averaged over its pixels. Under `spectral_norm` it is summed, as in SNGAN: no weight could grow to compensate the mean,
    and the logits would stay far inside the hinge's margin.
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
        batch_norm: bool = True,
        spectral_norm: bool = False,
        attention: bool = False,
    ) -> None:
        super().__init__()
        sizes = space(size, spatial_dims)
        halvings, _ = halve(sizes)
        plan = [channels] + [channels_at(level, width) for level in range(1, halvings + 1)]
        place = attended(sizes, halvings) if attention else 0
        self.blocks = nn.Sequential()
        for level, (before, after) in enumerate(pairwise(plan), start=1):
            self.blocks.append(ResidualDownBlock(spatial_dims, before, after, batch_norm=batch_norm, first=level == 1))
            if level == place:
                self.blocks.append(SelfAttention(spatial_dims, after))
        self.norm = BATCH_NORM[spatial_dims](plan[-1]) if batch_norm else nn.Identity()
        self.verdict = head(plan[-1], classes, covariates)
        init_weights(self)
        self.summed = spectral_norm
        if spectral_norm:
            apply_spectral_norm(self)

    def forward(self, image: Float[Tensor, "b c *space"], condition: Float[Tensor, "b k"] | None = None) -> Float[Tensor, "b ..."]:
        h = F.leaky_relu(self.norm(self.blocks(image)), 0.2).flatten(2)
        return self.verdict(h.sum(2) if self.summed else h.mean(2), condition)
