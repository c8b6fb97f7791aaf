"""Residual-in-residual dense blocks without normalization, for super-resolution (ESRGAN: Wang et al. 2018, arXiv 1809.00219)."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from medgan_pl.core.counts import whole_number
from medgan_pl.models.networks.layers import CONV
from medgan_pl.models.networks.r3gan import GAIN, SLOPE, keep_variance
from medgan_pl.models.networks.translator import Ending, each_axis, enlarged

SHARE = 0.2  # factor on a branch in the sum (section 3.1, β)
SMALL = 0.1  # factor on the usual initial deviation of a branch's weights (section 3.1, smaller initialization)


class DenseBlock(nn.Module):
    """Compute x + β · c5(x, a1, …, a4), each a_i of `growth` channels from all before it; (B, C, *S) -> (B, C, *S)."""

    def __init__(self, spatial_dims: int, channels: int, growth: int) -> None:
        super().__init__()
        outputs = [growth] * 4 + [channels]
        self.convs = nn.ModuleList([CONV[spatial_dims](channels + i * growth, after, 3, padding=1) for i, after in enumerate(outputs)])
        for conv in self.convs:
            keep_variance(conv, SMALL * GAIN)

    def forward(self, x: Float[Tensor, "b c *space"]) -> Float[Tensor, "b c *space"]:
        known = [x]
        for conv in self.convs[:-1]:
            known.append(F.leaky_relu(conv(torch.cat(known, 1)), SLOPE))
        return x + SHARE * self.convs[-1](torch.cat(known, 1))


class ResidualDense(nn.Sequential):
    """Compute x + β · (three dense blocks); (B, C, *S) -> (B, C, *S)."""

    def __init__(self, spatial_dims: int, channels: int, growth: int) -> None:
        super().__init__(*[DenseBlock(spatial_dims, channels, growth) for _ in range(3)])

    def forward(self, x: Float[Tensor, "b c *space"]) -> Float[Tensor, "b c *space"]:
        return x + SHARE * super().forward(x)


def doublings(factors: Sequence[int]) -> list[tuple[float, ...]]:
    """Return the scale of each axis at each doubling: (4, 2) gives (2, 2) and then (2, 1)."""
    return [tuple(2.0 if factor > 2**step else 1.0 for factor in factors) for step in range(int(math.log2(max(factors))))]


class RRDBGenerator(nn.Module):
    """Map a source (B, source_channels, *S / factor) in [-1, 1] to an image (B, channels, *S) in [-1, 1], for any S.

    It works at the source's size: `blocks` residual dense blocks of `width` channels, then doublings that repeat each value and convolve.
    A pixel depends on source pixels up to 4 + 15 · `blocks` away, 64 for 4 blocks.

    - `growth`: channels that each layer of a dense block adds. Paper: 23 blocks, width 64, growth 32.
    - `factor`: 1, 2 or 4, one number or one an axis.
    - `residual`: start as linear interpolation and learn the change; see `Ending` in networks/translator.py.

    Raise ValueError for blocks < 1, another factor, or `residual` with fewer source channels than channels.

    Source: section 3.1; He-normal weights (He et al. 2015), a tenth as large within the blocks. Where we differ: the
    skip from the interpolated source, and tanh.
    """

    multiple = 1

    def __init__(
        self,
        *,
        spatial_dims: int,
        channels: int,
        source_channels: int,
        width: int = 32,
        blocks: int = 4,
        growth: int = 16,
        factor: int | Sequence[int] = 1,
        residual: bool = True,
    ) -> None:
        super().__init__()
        self.factors = each_axis(factor, spatial_dims)
        if not {1, 2, 4}.issuperset(self.factors):
            raise ValueError(f"`factor` must be 1, 2 or 4, got {factor}; UNetGenerator and TranslatorGenerator take any whole number")
        whole_number("blocks", blocks, 1, "the paper has 23")
        self.start = CONV[spatial_dims](source_channels, width, 3, padding=1)
        dense = [ResidualDense(spatial_dims, width, growth) for _ in range(blocks)]
        self.trunk = nn.Sequential(*dense, CONV[spatial_dims](width, width, 3, padding=1))
        self.rise = nn.Sequential()
        for scale in doublings(self.factors):
            self.rise.extend([nn.Upsample(scale_factor=scale), CONV[spatial_dims](width, width, 3, padding=1), nn.LeakyReLU(SLOPE)])
        self.rise.extend([CONV[spatial_dims](width, width, 3, padding=1), nn.LeakyReLU(SLOPE)])
        for layer in (self.start, self.trunk[-1], *self.rise):
            if isinstance(layer, CONV[spatial_dims]):
                keep_variance(layer, GAIN)
        self.end = Ending(spatial_dims, width, channels, source_channels, residual=residual)

    def forward(self, source: Float[Tensor, "b s *small"]) -> Float[Tensor, "b c *space"]:
        h = self.start(source)
        return self.end(self.rise(h + self.trunk(h)), enlarged(source, self.factors))
