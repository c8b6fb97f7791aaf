"""Image translation by an encoder and a decoder with skips between equal sizes (Ronneberger et al. 2015; Isola et al. 2017)."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from medgan_pl.models.networks.layers import CONV
from medgan_pl.models.networks.resnet import channels_at, init_weights
from medgan_pl.models.networks.translator import Ending, Norm, batch_norm, convolution, each_axis, enlarged, padded


class SkipUpBlock(nn.Module):
    """Double every axis of x, join the skip and convolve twice: x (B, deep, *S), skip (B, shallow, *2S) -> (B, shallow, *2S).

    A 1×1 convolution narrows x before each value is repeated: they commute, and it is a quarter of the work (an eighth in 3-D).
    """

    def __init__(self, spatial_dims: int, deep: int, shallow: int, norm: Norm, dropout: float) -> None:
        super().__init__()
        self.narrow = CONV[spatial_dims](deep, shallow, 1)
        self.body = nn.Sequential(
            convolution(spatial_dims, 2 * shallow, shallow, norm),
            convolution(spatial_dims, shallow, shallow, norm),
            nn.Dropout(dropout) if dropout else nn.Identity(),
        )

    def forward(self, x: Float[Tensor, "b deep *small"], skip: Float[Tensor, "b c *space"]) -> Float[Tensor, "b c *space"]:
        return self.body(torch.cat([F.interpolate(self.narrow(x), scale_factor=2), skip], 1))


class UNetGenerator(nn.Module):
    """Map a source (B, source_channels, *S / factor) in [-1, 1] to an image (B, channels, *S) in [-1, 1], for any S.

    `levels` halvings, two convolutions at each size. Channels are `width` at the full size and double at each halving, up to 8 × `width`.
    Sizes that are no multiple of 2**levels are padded by their last values, and the padding is cut off again. A pixel depends on pixels of
    the (enlarged) source up to 6 · 2**levels - 3 away, 93 for 4 levels.

    - `dropout`: share of values dropped in the deeper half of the decoder's levels; the remaining randomness shows G's uncertainty.
    - `factor`: one number or one an axis; if above 1, the source is first enlarged by linear interpolation.
    - `residual`: start as the identity and learn the change; see `Ending` in networks/translator.py.
    - `norm`: makes the norm from (spatial_dims, channels); see networks/translator.py, also for which norms let windows fit together.

    Raise ValueError for levels < 1, dropout outside [0, 1), a factor below 1, or `residual` with fewer source channels than channels.

    Source: Ronneberger et al. 2015 (arXiv 1505.04597), figure 1; the strided 4-convolutions, the norm, LeakyReLU and dropout are from
    Isola et al. 2017 (arXiv 1611.07004), appendix 6.1.1. We differ: padded, so that sizes stay; nearest doublings, without a checkerboard.
    """

    def __init__(
        self,
        *,
        spatial_dims: int,
        channels: int,
        source_channels: int,
        width: int = 32,
        levels: int = 4,
        dropout: float = 0.0,
        factor: int | Sequence[int] = 1,
        residual: bool = False,
        norm: Norm = batch_norm,
    ) -> None:
        super().__init__()
        if levels < 1 or not 0 <= dropout < 1:
            raise ValueError(f"a U-Net needs levels >= 1 and 0 <= dropout < 1, got levels={levels} and dropout={dropout}")
        self.factors, self.multiple = each_axis(factor, spatial_dims), 2**levels
        plan = [channels_at(level, width) for level in range(levels + 1)]
        first = [convolution(spatial_dims, source_channels, width, norm), convolution(spatial_dims, width, width, norm)]
        self.encoder = nn.ModuleList([nn.Sequential(*first)])
        for before, after in pairwise(plan):
            down = convolution(spatial_dims, before, after, norm, kernel=4, stride=2)
            self.encoder.append(nn.Sequential(down, convolution(spatial_dims, after, after, norm)))
        self.decoder = nn.ModuleList()
        for i, (deep, shallow) in enumerate(pairwise(reversed(plan))):
            self.decoder.append(SkipUpBlock(spatial_dims, deep, shallow, norm, dropout if 2 * i < levels else 0.0))
        init_weights(self)
        self.end = Ending(spatial_dims, width, channels, source_channels, residual=residual)

    def forward(self, source: Float[Tensor, "b s *small"]) -> Float[Tensor, "b c *space"]:
        source = enlarged(source, self.factors)
        h, skips = padded(source, self.multiple), []
        for stage in self.encoder:
            h = stage(h)
            skips.append(h)
        skips.pop()
        for block in self.decoder:
            h = block(h, skips.pop())
        return self.end(h, source)
