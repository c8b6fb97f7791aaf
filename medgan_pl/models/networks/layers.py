"""Layers and functions that the networks share: 2-D or 3-D layers, sizes, conditional heads, spectral norm, freezing, memory layout."""

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
MAX_POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}


def space(size: int | Sequence[int], spatial_dims: int) -> tuple[int, ...]:
    """Return `size` in pixels as one number an axis: 64 in 2-D is (64, 64). Raise ValueError if that is impossible."""
    if spatial_dims not in CONV:
        raise ValueError(f"`spatial_dims` must be 2 or 3, got {spatial_dims}")
    sizes = (size,) * spatial_dims if isinstance(size, int) else tuple(size)
    if len(sizes) != spatial_dims:
        raise ValueError(f"`size` must be one number or {spatial_dims} for spatial_dims={spatial_dims}, got {list(sizes)}")
    if min(sizes) < 8:
        raise ValueError(f"`size` must be at least 8 pixels an axis, got {list(sizes)}")
    return sizes


def halve(sizes: Sequence[int], smallest: int = 4) -> tuple[int, tuple[int, ...]]:
    """Return how often the shortest axis halves and stays at least `smallest`, and the sizes then: (64, 48) gives 3, (8, 6).

    Raise ValueError if an axis is not a multiple of 2 ** halvings.
    """
    halvings = int(math.log2(min(sizes) / smallest))
    step = 2**halvings
    for axis in sizes:
        if axis % step:
            below, above = axis // step * step, (axis // step + 1) * step
            raise ValueError(f"`size` must be a multiple of {step} for {halvings} halvings, got {axis}; use {below} or {above}")
    return halvings, tuple(axis // step for axis in sizes)


def window(x: Float[Tensor, "b ..."], axis: int, first: Int[Tensor, " b"], length: int) -> Float[Tensor, "b ..."]:
    """Cut from each image its own `length` places along `axis`, from its `first` one on: (B, …, n, …) -> (B, …, length, …)."""
    places = first[:, None] + torch.arange(length, device=x.device)
    rows = torch.arange(len(x), device=x.device)[:, None]
    return x.movedim(axis, 1)[rows, places].movedim(1, axis)


def conditions(classes: int, covariates: Sequence[str]) -> int:
    """Return how many numbers a condition has: one a class, and two a covariate, its value and its unknown flag (games/synthesis.py)."""
    return classes + 2 * len(covariates)


class Embedding(nn.Module):
    """Map a condition (B, K) linearly, without a bias, to (B, features); the weight (K, features) starts from N(0, `spread`²).

    A one-hot class selects one row of the weight. An unknown class is all zeros and gives the zero vector.
    """

    def __init__(self, inputs: int, features: int, spread: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, features) * spread)

    def forward(self, condition: Float[Tensor, "b k"]) -> Float[Tensor, "b features"]:
        return condition.to(self.weight.dtype) @ self.weight


class Condition(nn.Module):
    """Join a condition to the noise: (z, condition) -> (z, e(condition)). Without a condition it returns z.

    z (B, latent), condition (B, K) -> (B, `features`), where `features` is `latent`, or twice that with a condition.
    e(condition) starts with length 1, z has length √latent. If both were as long, the class would dominate batch norm within some hundred
    steps, and G would draw one image of each class.
    """

    def __init__(self, latent: int, classes: int, covariates: Sequence[str] = ()) -> None:
        super().__init__()
        inputs = conditions(classes, covariates)
        self.embedding = Embedding(inputs, latent, latent**-0.5) if inputs else None
        self.features = latent * (2 if inputs else 1)

    def forward(self, z: Float[Tensor, "b latent"], condition: Float[Tensor, "b k"] | None = None) -> Float[Tensor, "b features"]:
        return z if self.embedding is None else torch.cat([z, self.embedding(condition)], 1)


class ProjectionHead(nn.Module):
    """Map features to one logit, with the projection of the condition: D's last layer (Miyato & Koyama 2018, eq. 3).

    logit = w · h + e(condition) · h; h (B, features) -> (B,), unbounded, higher = more real. Raise ValueError if the condition is missing.
    """

    def __init__(self, features: int, classes: int, covariates: Sequence[str] = ()) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 1)
        inputs = conditions(classes, covariates)
        # As small as a linear layer's weights: at N(0, 1) the projection takes nearly all of D's gradient, and R1 keeps D flat.
        self.projection = Embedding(inputs, features, features**-0.5) if inputs else None

    def forward(self, h: Float[Tensor, "b features"], condition: Float[Tensor, "b k"] | None = None) -> Float[Tensor, " b"]:
        logits = self.linear(h).squeeze(1)
        if self.projection is None:
            return logits
        if condition is None:
            raise ValueError("a conditional discriminator needs the condition, got none; game=auxiliary gives none and needs model=acgan")
        return logits + (self.projection(condition) * h).sum(1)


class AuxiliaryHead(nn.Module):
    """Predict the condition instead of receiving it: D's last layer in AC-GAN (Odena et al. 2017, arXiv 1610.09585, section 3).

    h (B, features) -> (B, 1 + classes + covariates): the logit, a logit for each class, an estimate of each standardized covariate. The
    game `auxiliary` (games/auxiliary.py) splits them. Raise ValueError without classes and covariates, and for a given condition.
    """

    def __init__(self, features: int, classes: int, covariates: Sequence[str] = ()) -> None:
        super().__init__()
        if not classes and not covariates:
            raise ValueError("an auxiliary classifier needs a condition to predict: set model.classes or model.covariates")
        self.linear = nn.Linear(features, 1 + classes + len(covariates))

    def forward(self, h: Float[Tensor, "b features"], condition: Float[Tensor, "b k"] | None = None) -> Float[Tensor, "b outputs"]:
        if condition is not None:
            raise ValueError("a discriminator that predicts the condition must not receive it; model=acgan needs game=auxiliary")
        return self.linear(h)


def apply_spectral_norm(network: nn.Module) -> None:
    """Divide the weight of every convolution, linear layer and embedding by its largest singular value (Miyato et al. 2018)."""
    for layer in list(network.modules()):
        if isinstance(layer, (*CONV.values(), nn.Linear, Embedding)):
            spectral_norm(layer)


@contextmanager
def frozen(network: nn.Module, but: Sequence[nn.Parameter] = ()) -> Iterator[None]:
    """Freeze the network's weights inside the context, except those in `but`.

    Frozen weights also stay out of autocast's cache, which would otherwise give G the discriminator from before its step.
    """
    awake = {id(weight) for weight in but}
    learning = [weight for weight in network.parameters() if weight.requires_grad and id(weight) not in awake]
    for weight in learning:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in learning:
            weight.requires_grad_(True)


def to_channels_last(network: nn.Module) -> None:
    """Store the weights of convolutions channels last, which the CPU and tensor cores read faster; values and shapes stay."""
    for layer in network.modules():
        for dims, layout in ((2, torch.channels_last), (3, torch.channels_last_3d)):
            if isinstance(layer, (CONV[dims], CONV_TRANSPOSE[dims])):
                layer.to(memory_format=layout)
