"""Image translation by residual blocks at a quarter of the size (Johnson et al. 2016; Zhu et al. 2017), and parts that translators share.

All take sources of any size, in inference also a different one than in training. The output for a window equals that for the whole image
away from the window's border, if the window starts at a multiple of the network's `multiple` pixels and no norm depends on the whole
image: batch norm in evaluation mode and channel norm do not, instance norm does.
"""

from collections.abc import Callable, Sequence
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from medgan_pl.core.counts import whole_number
from medgan_pl.models.networks.layers import BATCH_NORM, CONV
from medgan_pl.models.networks.resnet import init_weights

INSTANCE_NORM = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
LINEAR = {2: "bilinear", 3: "trilinear"}
FARTHEST = 0.99  # largest source value for atanh: atanh(1) is infinite, and near it no h could change a black pixel

Norm = Callable[[int, int], nn.Module]


def batch_norm(spatial_dims: int, channels: int) -> nn.Module:
    """Return a norm over the batch; in evaluation mode it is fixed, so that windows of one image fit together. Ioffe & Szegedy 2015."""
    return BATCH_NORM[spatial_dims](channels)


def instance_norm(spatial_dims: int, channels: int) -> nn.Module:
    """Return a norm over the places of each image, for batches of one and whole images. Ulyanov et al. 2016 (arXiv 1607.08022)."""
    return INSTANCE_NORM[spatial_dims](channels, affine=True)


def no_norm(spatial_dims: int, channels: int) -> nn.Module:
    """Return the identity."""
    return nn.Identity()


class ChannelNorm(nn.LayerNorm):
    """Normalize over the channels of each place: for batches of one or of mixed domains; windows fit together.

    Ba et al. 2016 (arXiv 1607.06450), used like this by Liu et al. 2022 (arXiv 2201.03545) and Zamir et al. 2022 (arXiv 2111.09881).
    """

    def __init__(self, spatial_dims: int, channels: int) -> None:
        super().__init__(channels)

    def forward(self, x: Float[Tensor, "b c *space"]) -> Float[Tensor, "b c *space"]:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def each_axis(factor: int | Sequence[int], spatial_dims: int) -> tuple[int, ...]:
    """Return the factor of each axis: 4 in 2-D is (4, 4); (4, 1, 1) makes four slices of one. Raise ValueError if that is impossible."""
    if spatial_dims not in CONV:
        raise ValueError(f"`spatial_dims` must be 2 or 3, got {spatial_dims}")
    factors = (factor,) * spatial_dims if isinstance(factor, int) else tuple(factor)
    if len(factors) != spatial_dims or min(factors) < 1:
        raise ValueError(f"`factor` must be one integer of at least 1, or {spatial_dims} of them, got {factor}")
    return factors


def enlarged(source: Float[Tensor, "b c *small"], factors: Sequence[int]) -> Float[Tensor, "b c *space"]:
    """Return the source at the size of the image, by linear interpolation."""
    if max(factors) == 1:
        return source
    return F.interpolate(source, scale_factor=tuple(map(float, factors)), mode=LINEAR[len(factors)], align_corners=False)


def padded(x: Float[Tensor, "b c *space"], multiple: int) -> Float[Tensor, "b c *padded"]:
    """Pad each axis to a multiple by its last value; only at the end, so that the grid of the halvings does not move."""
    missing = [-axis % multiple for axis in x.shape[2:]]
    return F.pad(x, [n for lacking in reversed(missing) for n in (0, lacking)], mode="replicate") if any(missing) else x


def convolution(
    spatial_dims: int, before: int, after: int, norm: Norm, kernel: int = 3, stride: int = 1, padding_mode: str = "zeros"
) -> nn.Sequential:
    """Return convolution, norm and LeakyReLU; the convolution has a bias only without a norm."""
    then = norm(spatial_dims, after)
    bias = isinstance(then, nn.Identity)
    conv = CONV[spatial_dims](before, after, kernel, stride, padding=(kernel - 1) // 2, bias=bias, padding_mode=padding_mode)
    return nn.Sequential(conv, then, nn.LeakyReLU(0.2))


class Ending(nn.Module):
    """Map features h (B, width, *S) and the source (B, S', *S) to an image (B, channels, *S) in [-1, 1] by the last convolution.

    It returns tanh(conv(h)). With `residual` it returns source + conv(h), with the source's first `channels` channels, clamped to ±1; the
    convolution starts at zero, so that the network starts as the identity. Places beyond the source's size are cut off.

    The clamp passes the gradient unchanged, so that values beyond ±1 can return. A tanh of the sum would hardly move where the source is
    near ±1, and noise that was clipped to black and white would stay.

    Source: learning the residual: Zhang et al. 2017 (arXiv 1608.03981), section III; the gradient of the clamp: Bengio et al. 2013
    (arXiv 1308.3432), the straight-through estimator.
    """

    # The name of a residual network's convolution in a checkpoint. It differs from that of `BoundedEnding`, which all networks once had, so
    # that old weights are not loaded here.
    name: ClassVar[str] = "change"

    def __init__(self, spatial_dims: int, width: int, channels: int, source_channels: int, *, residual: bool, kernel: int = 3) -> None:
        super().__init__()
        if residual and source_channels < channels:
            raise ValueError(
                f"`source_channels` must be at least channels={channels} for residual=true, got {source_channels}; use residual=false"
            )
        conv = CONV[spatial_dims](width, channels, kernel, padding=kernel // 2, padding_mode="replicate")
        self.add_module(self.name if residual else "conv", conv)
        self.channels, self.residual = channels, residual
        init_weights(self)
        if residual:
            nn.init.zeros_(conv.weight)

    @property
    def last(self) -> nn.Module:
        """Return the convolution."""
        return next(self.children())

    def forward(self, h: Float[Tensor, "b w *padded"], source: Float[Tensor, "b s *space"]) -> Float[Tensor, "b c *space"]:
        h = self.last(h)[(..., *map(slice, source.shape[2:]))]
        return self.added(source[:, : self.channels], h) if self.residual else h.tanh()

    def added(self, source: Float[Tensor, "b c *space"], h: Float[Tensor, "b c *space"]) -> Float[Tensor, "b c *space"]:
        """Return h(source), in [-1, 1]."""
        image = source + h
        return image + (image.clamp(-1, 1) - image).detach()


class BoundedEnding(Ending):
    """Like `Ending`, but `residual` returns tanh(atanh(source) + conv(h)), with the source clamped to ±FARTHEST.

    It is for games without pairs: no target corrects values beyond ±1 there, and a tanh keeps their gradient. It starts as the identity, up
    to 0.01 at ±1.
    """

    name = "conv"

    def added(self, source: Float[Tensor, "b c *space"], h: Float[Tensor, "b c *space"]) -> Float[Tensor, "b c *space"]:
        return (source.float().clamp(-FARTHEST, FARTHEST).atanh() + h).tanh()  # float32: 0.99 is coarse in bfloat16


class ResidualBlock(nn.Module):
    """Compute x + norm(conv(act(norm(conv(x))))); nothing is rectified after the sum."""

    def __init__(self, spatial_dims: int, channels: int, norm: Norm) -> None:
        super().__init__()
        last = convolution(spatial_dims, channels, channels, norm)[:-1]
        self.body = nn.Sequential(convolution(spatial_dims, channels, channels, norm), last)

    def forward(self, x: Float[Tensor, "b c *space"]) -> Float[Tensor, "b c *space"]:
        return x + self.body(x)


class TranslatorGenerator(nn.Module):
    """Map a source (B, source_channels, *S / factor) in [-1, 1] to an image (B, channels, *S) in [-1, 1], for any S.

    A 7-convolution of `width` channels, two halvings to 4 × `width`, `blocks` residual blocks, two doublings, a 7-convolution. A pixel
    depends on pixels of the (enlarged) source up to 15 + 8 · `blocks` away, 87 for 9 blocks.

    - `factor`: one number or one an axis; if above 1, the source is first enlarged by linear interpolation.
    - `residual`: start as the identity and learn the change; see `Ending`. `ending`: `BoundedEnding` for games without pairs.
    - `norm`: makes the norm from (spatial_dims, channels): `batch_norm`, `instance_norm`, `ChannelNorm` or `no_norm`.

    Raise ValueError for blocks < 1, a factor below 1, or `residual` with fewer source channels than channels.

    Source: Johnson et al. 2016 (arXiv 1603.08155) and Zhu et al. 2017 (arXiv 1703.10593), appendix 7.2. We differ: doublings repeat each
    value and convolve, as transposed convolutions leave a checkerboard (Odena et al. 2016); LeakyReLU; the first and the last layer pad by
    the border's value, theirs reflect; batch norm (see the head of this file).
    """

    multiple = 4

    def __init__(
        self,
        *,
        spatial_dims: int,
        channels: int,
        source_channels: int,
        width: int = 32,
        blocks: int = 9,
        factor: int | Sequence[int] = 1,
        residual: bool = False,
        norm: Norm = batch_norm,
        ending: Callable[..., Ending] = Ending,
    ) -> None:
        super().__init__()
        whole_number("blocks", blocks, 1, "9 is usual")
        self.factors = each_axis(factor, spatial_dims)
        self.encoder = nn.ModuleList([convolution(spatial_dims, source_channels, width, norm, kernel=7, padding_mode="replicate")])
        for level in (1, 2):
            self.encoder.append(convolution(spatial_dims, width * level, 2 * width * level, norm, kernel=3, stride=2))
        self.encoder.extend(ResidualBlock(spatial_dims, 4 * width, norm) for _ in range(blocks))
        self.decoder = nn.Sequential()
        for level in (2, 1):
            self.decoder.extend([nn.Upsample(scale_factor=2), convolution(spatial_dims, 2 * width * level, width * level, norm)])
        init_weights(self)
        self.end = ending(spatial_dims, width, channels, source_channels, residual=residual, kernel=7)

    def forward(self, source: Float[Tensor, "b s *small"]) -> Float[Tensor, "b c *space"]:
        source = enlarged(source, self.factors)
        h = padded(source, self.multiple)
        for layer in self.encoder:
            h = layer(h)
        return self.end(self.decoder(h), source)

    def features(self, source: Float[Tensor, "b s *small"]) -> list[Tensor]:
        """Return five maps (B, C, *S') of the encoder: the source, after each halving, after the first and the middle block (the 5th of 9).

        Source: Park et al. 2020 (arXiv 2007.15651), for the contrastive loss between patches of a source and its image.
        """
        maps = [padded(enlarged(source, self.factors), self.multiple)]
        for layer in self.encoder:
            maps.append(layer(maps[-1]))
        blocks = len(self.encoder) - 3
        return [maps[place] for place in (0, 2, 3, 4, 3 + (blocks + 1) // 2)]
