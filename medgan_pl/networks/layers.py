"""What the families share: choosing the dimension, checking sizes, the conditional head, spectral norm, freezing, memory layout."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

CONV = {2: nn.Conv2d, 3: nn.Conv3d}
CONV_TRANSPOSE = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
BATCH_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
AVERAGE_POOL = {2: nn.AvgPool2d, 3: nn.AvgPool3d}


def space(size: int | Sequence[int], spatial_dims: int) -> tuple[int, ...]:
    """`size` in pixels as one number an axis: 64 in 2-D is (64, 64). ValueError if it cannot be."""
    if spatial_dims not in CONV:
        raise ValueError(f"`spatial_dims` must be 2 or 3, got {spatial_dims}")
    sizes = (size,) * spatial_dims if isinstance(size, int) else tuple(size)
    if len(sizes) != spatial_dims:
        raise ValueError(f"`size` must be one number or {spatial_dims} for spatial_dims={spatial_dims}, got {list(sizes)}")
    if min(sizes) < 8:
        raise ValueError(f"`size` must be at least 8 pixels an axis, got {list(sizes)}")
    return sizes


def halve(sizes: Sequence[int], smallest: int = 4) -> tuple[int, tuple[int, ...]]:
    """How often the shortest axis halves before it is under `smallest`, and the sizes that are left: (64, 48) gives 3, (8, 6).

    ValueError if an axis is not a multiple of 2 ** halvings.
    """
    halvings = int(math.log2(min(sizes) / smallest))
    step = 2**halvings
    for axis in sizes:
        if axis % step:
            below, above = axis // step * step, (axis // step + 1) * step
            raise ValueError(f"`size` must be a multiple of {step} for {halvings} halvings, got {axis}; use {below} or {above}")
    return halvings, tuple(axis // step for axis in sizes)


class Condition(nn.Module):
    """Joins a class to the noise: (z, label) -> (z, e(label)); without classes it passes z on.

    Shapes: z (B, latent), label (B,) in [0, classes) -> (B, `features`), where `features` is `latent`, or twice that with classes.
    """

    def __init__(self, latent: int, classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(classes, latent) if classes else None
        self.features = latent * (2 if classes else 1)

    def forward(self, z: Float[Tensor, "b latent"], label: Int[Tensor, " b"] | None = None) -> Float[Tensor, "b features"]:
        return z if self.embedding is None else torch.cat([z, self.embedding(label)], 1)


class Verdict(nn.Module):
    """The last layer of a discriminator: features to one logit, with the projection of the class (Miyato & Koyama 2018, eq. 3).

    logit = w · h + e(label) · h; h (B, features) -> (B,), unbounded, higher = more real.
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 1)
        self.projection = nn.Embedding(classes, features) if classes else None

    def forward(self, h: Float[Tensor, "b features"], label: Int[Tensor, " b"] | None = None) -> Float[Tensor, " b"]:
        logits = self.linear(h).squeeze(1)
        return logits if self.projection is None else logits + (self.projection(label) * h).sum(1)


def normalise_spectrum(network: nn.Module) -> None:
    """Divides the weight of every convolution, linear layer and embedding by its largest singular value (Miyato et al. 2018)."""
    for layer in list(network.modules()):
        if isinstance(layer, (*CONV.values(), nn.Linear, nn.Embedding)):
            spectral_norm(layer)


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Inside, the network's weights ask for no gradient: it judges, it does not learn.

    Frozen weights also stay out of autocast's cache, which would otherwise show G the discriminator from before its step.
    """
    learning = [weight for weight in network.parameters() if weight.requires_grad]
    for weight in learning:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in learning:
            weight.requires_grad_(True)


def to_channels_last(network: nn.Module) -> None:
    """Stores the weights of convolutions channels last, which the CPU and tensor cores read faster; values and shapes stay."""
    for layer in network.modules():
        for dims, layout in ((2, torch.channels_last), (3, torch.channels_last_3d)):
            if isinstance(layer, (CONV[dims], CONV_TRANSPOSE[dims])):
                layer.to(memory_format=layout)
