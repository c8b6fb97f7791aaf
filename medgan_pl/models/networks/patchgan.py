"""A discriminator of patches, at one scale or several (PatchGAN: Isola et al. 2017; pix2pixHD: Wang et al. 2018), 2-D and 3-D."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from medgan_pl.core.counts import whole_number
from medgan_pl.models.networks.layers import AVERAGE_POOL, BATCH_NORM, CONV, apply_spectral_norm
from medgan_pl.models.networks.resnet import channels_at, init_weights


class Patches(nn.Sequential):
    """Map (B, inputs, *S) to logits (B, 1, *P): `layers` 4-convolutions of stride 2, one of stride 1, one to logits; one child a layer."""

    def __init__(self, spatial_dims: int, inputs: int, width: int, layers: int, batch_norm: bool) -> None:
        super().__init__()
        conv = CONV[spatial_dims]
        plan = [inputs] + [channels_at(level, width) for level in range(layers + 1)]
        for i, (before, after) in enumerate(pairwise(plan)):
            normed = batch_norm and i > 0
            norm = BATCH_NORM[spatial_dims](after) if normed else nn.Identity()
            stride = 2 if i < layers else 1
            self.append(nn.Sequential(conv(before, after, 4, stride, padding=1, bias=not normed), norm, nn.LeakyReLU(0.2)))
        self.append(conv(plan[-1], 1, 4, padding=1))


class PatchDiscriminator(nn.Module):
    """Map images (B, channels + source_channels, *S) in [-1, 1] to logits (B, scales, *P), one for each patch at each scale.

    The source of an image follows it in further channels. A patch is 70 pixels wide with 3 `layers`, 34 with 2, 16 with 1. Channels are
    `width` after the first layer and double at each, up to 8 × `width`. Each further scale is a network of its own at half the resolution;
    its logits are repeated to the finest scale's number, so that scales have equal weight in a mean. `batch_norm` (in all layers but the
    first) and `spectral_norm` are each on or off.

    Raise ValueError for layers < 1, scales < 1, an image axis below 3 · 2**(layers + scales - 1), or a condition.

    Source: Isola et al. 2017 (arXiv 1611.07004), appendix 6.1.2; scales: Wang et al. 2018 (arXiv 1711.11585), section 3.2. Xavier-uniform
    weights (networks/resnet.py).
    """

    def __init__(
        self,
        *,
        spatial_dims: int,
        channels: int,
        source_channels: int = 0,
        width: int = 32,
        layers: int = 3,
        scales: int = 1,
        spectral_norm: bool = False,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        if spatial_dims not in CONV:
            raise ValueError(f"`spatial_dims` must be 2 or 3, got {spatial_dims}")
        whole_number("layers", layers, 1, "3 is usual")
        whole_number("scales", scales, 1, "1 is usual")
        inputs = channels + source_channels
        self.scales = nn.ModuleList([Patches(spatial_dims, inputs, width, layers, batch_norm) for _ in range(scales)])
        self.halve = AVERAGE_POOL[spatial_dims](2)
        self.layers, self.smallest = layers, 3 * 2 ** (layers + scales - 1)
        init_weights(self)
        if spectral_norm:
            apply_spectral_norm(self)

    def forward(self, images: Float[Tensor, "b c *space"], condition: None = None) -> Float[Tensor, "b scales *patches"]:
        if condition is not None:
            raise ValueError("PatchDiscriminator takes no condition; give the source in further channels")
        logits = [maps[-1] for maps in self._maps(images)]
        return torch.cat([logits[0]] + [F.interpolate(coarse, logits[0].shape[2:]) for coarse in logits[1:]], 1)

    def features(self, images: Float[Tensor, "b c *space"]) -> list[Tensor]:
        """Return the maps (B, C, *S') of all layers before the logits, first to last, from the finest scale to the coarsest."""
        return [features for maps in self._maps(images) for features in maps[:-1]]

    def check_size(self, sides: Sequence[int]) -> None:
        """Raise ValueError for images with an axis that is too short for the layers and scales."""
        if min(sides) < self.smallest:
            raise ValueError(
                f"`size` must be at least {self.smallest} an axis for layers={self.layers} and scales={len(self.scales)} of "
                f"PatchDiscriminator, got {list(sides)}; use fewer layers or scales, or larger images"
            )

    def _maps(self, images: Tensor) -> list[list[Tensor]]:
        """Return the output of each layer, for each scale."""
        self.check_size(images.shape[2:])
        found = []
        for scale, network in enumerate(self.scales):
            maps = [self.halve(images) if scale else images]
            images = maps[0]
            for layer in network:
                maps.append(layer(maps[-1]))
            found.append(maps[1:])
        return found
