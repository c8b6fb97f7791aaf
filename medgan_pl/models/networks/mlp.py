"""The plain pair: two hidden layers of 1024 LeakyReLU units each (the shape of Goodfellow et al. 2014)."""

import math
from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor, nn

from medgan_pl.models.networks.layers import Condition, ProjectionHead, apply_spectral_norm, space


class MLPGenerator(nn.Module):
    """Map z (B, latent) to an image (B, channels, *size) in [-1, 1]."""

    def __init__(
        self,
        *,
        spatial_dims: int,
        channels: int,
        size: int | Sequence[int],
        width: int = 1024,
        latent: int = 128,
        classes: int = 0,
        covariates: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.shape = (channels, *space(size, spatial_dims))
        self.condition = Condition(latent, classes, covariates)
        self.body = nn.Sequential(
            nn.Linear(self.condition.features, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, math.prod(self.shape)),
            nn.Tanh(),
        )

    def forward(self, z: Float[Tensor, "b latent"], condition: Float[Tensor, "b k"] | None = None) -> Float[Tensor, "b c *space"]:
        return self.body(self.condition(z, condition)).unflatten(1, self.shape)


class MLPDiscriminator(nn.Module):
    """Map an image (B, channels, *size) in [-1, 1] to logits (B,)."""

    def __init__(
        self,
        *,
        spatial_dims: int,
        channels: int,
        size: int | Sequence[int],
        width: int = 1024,
        classes: int = 0,
        covariates: Sequence[str] = (),
        head: Callable[..., nn.Module] = ProjectionHead,
        spectral_norm: bool = False,
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * math.prod(space(size, spatial_dims)), width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, width),
            nn.LeakyReLU(0.2),
        )
        self.verdict = head(width, classes, covariates)
        if spectral_norm:
            apply_spectral_norm(self)

    def forward(self, image: Float[Tensor, "b c *space"], condition: Float[Tensor, "b k"] | None = None) -> Float[Tensor, "b ..."]:
        return self.verdict(self.body(image), condition)
