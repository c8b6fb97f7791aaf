"""The layers of a style-based pair: equalized layers, convolutions that a style modulates, filtered resampling, minibatch deviation.

Equalized layers draw weights from N(0, 1) and scale them by gain / √inputs when they are used, so that Adam moves all layers alike (Karras
et al. 2018, arXiv 1710.10196, section 4.1). A leaky ReLU of slope 0.2 loses about half of its input's power; a factor √2 restores it, as
part of the scale of the layer before, at no cost. None of this is a compiled operation; each layer is a convolution and two or three
passes over its result.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from medgan_pl.models.networks.layers import CONV, CONV_TRANSPOSE

CONVOLVE = {2: F.conv2d, 3: F.conv3d}
SLOPE, GAIN = 0.2, math.sqrt(2)
GROUP = 4  # images of one standard deviation


def along(values: Tensor, x: Tensor) -> Tensor:
    """Return one value a channel, (C,) or (B, C), in the type of x (B, C, *S) and shaped to broadcast with it."""
    return values.to(x.dtype).view(-1, x.shape[1], *[1] * (x.ndim - 2))


class EqualizedLinear(nn.Module):
    """Compute y = gain · (rate · (W / √inputs) x + rate · b): x (B, inputs) -> y (B, outputs) in float32, also under autocast; it is tiny.

    `rate`: factor on the learning rate, 0.01 in the mapping network; weights start larger by 1 / rate. `bias`: initial value of b.

    Source: Karras et al. 2018 (arXiv 1710.10196), section 4.1; the rate: Karras et al. 2019 (arXiv 1812.04948), appendix C.
    """

    def __init__(self, inputs: int, outputs: int, *, rate: float = 1.0, gain: float = 1.0, bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias / rate))
        self.alpha, self.beta = gain * rate / math.sqrt(inputs), gain * rate

    def forward(self, x: Float[Tensor, "b inputs"]) -> Float[Tensor, "b outputs"]:
        with torch.autocast(x.device.type, enabled=False):
            return torch.addmm(self.bias, x.float(), self.weight.T, beta=self.beta, alpha=self.alpha)


class EqualizedConv(nn.Module):
    """Compute gain · (W / √inputs * x + b), W of `kernel` pixels a side: x (B, inputs, *S) -> (B, outputs, *S').

    `down` halves every axis: it filters (`Blur`) and then uses stride 2.
    """

    def __init__(
        self, spatial_dims: int, inputs: int, outputs: int, kernel: int, *, down: bool = False, gain: float = GAIN, bias: bool = True
    ) -> None:
        super().__init__()
        wide = down and kernel > 1  # the filter then returns one pixel more than 2 S; with a kernel of 1 the filter has the stride
        stride, padding = (2 if wide else 1), (0 if wide else kernel // 2)
        self.conv = CONV[spatial_dims](inputs, outputs, kernel, stride, padding, bias=bias)
        nn.init.normal_(self.conv.weight)
        if bias:
            nn.init.zeros_(self.conv.bias)
        self.scale, self.gain = gain / math.sqrt(inputs * kernel**spatial_dims), gain
        self.blur = Blur(spatial_dims, padding=2 if wide else 1, stride=1 if wide else 2) if down else nn.Identity()
        self.convolve = CONVOLVE[spatial_dims]

    def forward(self, x: Float[Tensor, "b c *space"]) -> Float[Tensor, "b d *smaller"]:
        bias = None if self.conv.bias is None else self.conv.bias * self.gain
        return self.convolve(self.blur(x), self.conv.weight * self.scale, bias, self.conv.stride, self.conv.padding)


class Blur(nn.Module):
    """Filter by [1, 3, 3, 1] along each axis, of sum `gain`, zeros outside, so that resampling does not alias: (B, C, *S) -> (B, C, *S').

    Source: Karras et al. 2020 (arXiv 1912.04958), appendix B; Zhang 2019 (arXiv 1904.11486).
    """

    def __init__(self, spatial_dims: int, *, padding: int, stride: int = 1, gain: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("kernel", binomial(spatial_dims) * gain, persistent=False)
        self.padding, self.stride, self.convolve = padding, stride, CONVOLVE[spatial_dims]

    def forward(self, x: Float[Tensor, "b c *space"]) -> Float[Tensor, "b c *filtered"]:
        channels = x.shape[1]
        kernel = self.kernel.to(x.dtype).expand(channels, 1, *self.kernel.shape)
        return self.convolve(x, kernel, None, self.stride, self.padding, 1, channels)


def binomial(spatial_dims: int) -> Tensor:
    """Return the kernel [1, 3, 3, 1] / 8 along each axis, (4, …)."""
    line = kernel = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    for _ in range(spatial_dims - 1):
        kernel = kernel.unsqueeze(-1) * line
    return kernel


class ModulatedConv(nn.Module):
    """Convolve by 3 pixels with weights scaled by each image's style, then add noise and bias, leaky ReLU: (x, w) -> (B, outputs, *S').

    w'_jik = s_i W_jik (modulation), w''_jik = w'_jik / √(Σ_ik w'_jik² + ε) (demodulation, back to unit variance a channel); s = A(w), W
    from N(0, 1). It is computed as d_j · conv(s_i x_i, W) with d_j = 1 / √(Σ_i s_i² Σ_k W_jik² + ε): the same numbers, but one convolution
    of the whole batch in place of one with as many groups as images. s and d are float32 under autocast.

    x (B, inputs, *S), w (B, latent), noise (B, 1, *S') or None -> (B, outputs, *S'). With `up`, S' = 2 S by a transposed convolution of
    stride 2, filtered by [1, 3, 3, 1]. A learned factor, initially 0, scales the noise.

    Source: Karras et al. 2020 (arXiv 1912.04958), eq. 1 and 3, figure 2d; they too have one noise factor a layer.
    """

    def __init__(self, spatial_dims: int, inputs: int, outputs: int, latent: int, *, up: bool = False) -> None:
        super().__init__()
        self.style = EqualizedLinear(latent, inputs, bias=1.0)
        if up:
            self.conv = CONV_TRANSPOSE[spatial_dims](inputs, outputs, 3, stride=2, bias=False)
        else:
            self.conv = CONV[spatial_dims](inputs, outputs, 3, padding=1, bias=False)
        nn.init.normal_(self.conv.weight)
        self.blur = Blur(spatial_dims, padding=1, gain=2**spatial_dims) if up else nn.Identity()
        self.bias, self.strength = nn.Parameter(torch.zeros(outputs)), nn.Parameter(torch.zeros(()))
        self.scale = 1 / math.sqrt(inputs * 3**spatial_dims)  # it cancels in d; it keeps the convolved values within the range of float16
        self.up = up

    def forward(
        self, x: Float[Tensor, "b c *space"], w: Float[Tensor, "b latent"], noise: Float[Tensor, "b 1 *out"] | None
    ) -> Float[Tensor, "b d *out"]:
        style = self.style(w) * self.scale
        y = self.blur(self.conv(x * along(style, x)))
        y = torch.addcmul(along(self.bias * GAIN, y), y, along(self.demodulation(style), y))
        if noise is not None:
            y = y + noise.to(y.dtype) * (self.strength * GAIN).to(y.dtype)
        return F.leaky_relu(y, SLOPE)

    def demodulation(self, style: Tensor) -> Tensor:
        """Return √2 · d, (B, outputs)."""
        with torch.autocast(style.device.type, enabled=False):
            squares = self.conv.weight.float().square().flatten(2).sum(2)  # (inputs, outputs) of a transposed convolution
            return GAIN * (style.square() @ (squares if self.up else squares.T) + 1e-8).rsqrt()


class ToImage(nn.Module):
    """Convolve by 1 pixel with modulation, without demodulation: x (B, inputs, *S), w (B, latent) -> (B, channels, *S) float32.

    Each image has its own weight, in one matrix product an image: x is read once and never copied. `gain` scales the initial output.

    Source: Karras et al. 2020 (arXiv 1912.04958), appendix B.
    """

    def __init__(self, inputs: int, channels: int, latent: int, *, gain: float = 1.0) -> None:
        super().__init__()
        self.style = EqualizedLinear(latent, inputs, bias=1.0)
        self.weight, self.bias = nn.Parameter(torch.randn(channels, inputs)), nn.Parameter(torch.zeros(channels))
        self.scale = gain / math.sqrt(inputs)

    def forward(self, x: Float[Tensor, "b c *space"], w: Float[Tensor, "b latent"]) -> Float[Tensor, "b channels *space"]:
        weight = self.weight * (self.style(w) * self.scale).unsqueeze(1)  # (B, channels, inputs)
        pixels = x.movedim(1, -1).flatten(1, -2)  # (B, pixels, inputs), a view in either layout
        image = torch.bmm(pixels, weight.mT.to(x.dtype)).float() + self.bias
        return image.mT.reshape(len(x), -1, *x.shape[2:])


def minibatch_deviation(x: Float[Tensor, "b c *space"]) -> Float[Tensor, "b 1 *space"]:
    """Return how much the images of a group differ: the standard deviation over the group at each place and channel, averaged, as a map.

    The batch is cut in order into ceil(B / 4) groups of nearly equal size; B a multiple of 4 gives fours. A batch accumulated in parts of
    a multiple of 4 images has the same groups as the whole batch; in other parts it has other groups with the same statistics.
    A group of one has the deviation 1e-4, the root of the constant that keeps the gradient finite.

    Source: Karras et al. 2018 (arXiv 1710.10196), section 3, over the whole batch; groups of 4 as in arXiv 2006.06676, there strided.
    """
    groups = -(-len(x) // GROUP)
    rows = x.float().flatten(1)
    if len(x) == groups * GROUP:
        spread = spread_within(rows.unflatten(0, (groups, GROUP))).repeat_interleave(GROUP)
    else:
        spread = torch.cat([spread_within(part.unsqueeze(0)).expand(len(part)) for part in rows.tensor_split(groups)])
    return spread.to(x.dtype).view(-1, 1, *[1] * (x.ndim - 2)).expand(-1, 1, *x.shape[2:])


def spread_within(groups: Float[Tensor, "groups images features"]) -> Float[Tensor, " groups"]:
    """Return the standard deviation over the images of each group, averaged over features; `var` is slower for so few images."""
    variance = (groups - groups.mean(1, keepdim=True)).square().mean(1)
    return (variance + 1e-8).sqrt().mean(1)
