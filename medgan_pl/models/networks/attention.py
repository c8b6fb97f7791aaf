"""Self-attention between the pixels of a feature map (SAGAN: Zhang et al. 2019, arXiv 1805.08318), in 2-D and 3-D."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medgan_pl.models.networks.layers import CONV, MAX_POOL

MAX_PIXELS = {2: 32**2, 3: 16**3}  # largest attended map; the paper's best was 32² of 128²


def attended(sizes: Sequence[int], halvings: int) -> int:
    """Return after how many of `halvings` to place the attention: at the largest map of at most 32² or 16³ pixels, from half the size down.

    If every map is larger, it is the smallest one. (64, 64) gives 1; (128, 128) and (64, 64, 64) give 2.
    """
    max_pixels = MAX_PIXELS[len(sizes)]
    fitting = [level for level in range(1, halvings + 1) if math.prod(axis // 2**level for axis in sizes) <= max_pixels]
    return fitting[0] if fitting else halvings


class SelfAttention(nn.Module):
    """Add to each pixel a mean of all pixels, weighted by how well their keys fit its query: x (B, C, *S) -> (B, C, *S).

    y_j = x_j + γ v(Σ_i β_ij h(x_i)), β_ij = softmax over i of f(x_i) · g(x_j). f, g and h are 1×1 convolutions to C / 8 channels, v is one
    back to C. γ starts at 0, so that the network starts without attention.

    Keys and values are max-pooled by 2 along each axis if S has 2 pixels there. The weights are |S| × |S| / 4 numbers an image (3-D: / 8).

    Source: section 3, eq. 1 to 3. The pooling is in the authors' code, not in the paper. Keys and queries are not scaled, as there.
    """

    def __init__(self, spatial_dims: int, channels: int) -> None:
        super().__init__()
        conv, within = CONV[spatial_dims], max(1, channels // 8)
        self.query, self.key, self.value = (conv(channels, within, 1, bias=False) for _ in range(3))
        self.out = conv(within, channels, 1, bias=False)
        self.pool = MAX_POOL[spatial_dims](2)
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, x: Float[Tensor, "b c *space"]) -> Float[Tensor, "b c *space"]:
        fewer = self.pool if min(x.shape[2:]) > 1 else nn.Identity()
        query = self.query(x).flatten(2)  # (B, C/8, N)
        key, value = fewer(self.key(x)).flatten(2), fewer(self.value(x)).flatten(2)  # (B, C/8, M)
        weights = (query.transpose(1, 2) @ key).softmax(2)  # (B, N, M)
        found = value @ weights.transpose(1, 2)  # (B, C/8, N)
        return x + self.gain * self.out(found.unflatten(2, x.shape[2:]))
