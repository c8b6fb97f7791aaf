"""The transposed-convolution pair of DCGAN (Radford et al. 2016, sec. 3), at any size that halves down to 4 to 7 pixels."""

import math
from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor, nn

from medgan_pl.models.networks.layers import BATCH_NORM, CONV, CONV_TRANSPOSE, Condition, ProjectionHead, apply_spectral_norm, halve, space


def init_weights(network: nn.Module) -> None:
    """Draw weights from N(0, 0.02) and batch-norm gains from N(1, 0.02); set biases to 0 (Radford et al. 2016, sec. 4)."""
    for layer in network.modules():
        if isinstance(layer, (*CONV.values(), *CONV_TRANSPOSE.values(), nn.Linear)):
            nn.init.normal_(layer.weight, 0.0, 0.02)
        elif isinstance(layer, tuple(BATCH_NORM.values())):
            nn.init.normal_(layer.weight, 1.0, 0.02)
        if getattr(layer, "bias", None) is not None:
            nn.init.zeros_(layer.bias)


def doubling(spatial_dims: int, channels: int, steps: int) -> list[nn.Module]:
    """Return transposed convolutions of stride 2, each with batch norm and ReLU; each halves the number of channels."""
    layers: list[nn.Module] = []
    for step in range(steps):
        here = channels // 2**step
        transpose, norm = CONV_TRANSPOSE[spatial_dims], BATCH_NORM[spatial_dims]
        layers += [transpose(here, here // 2, 4, 2, 1, bias=False), norm(here // 2), nn.ReLU(inplace=True)]
    return layers


def last(spatial_dims: int, width: int, channels: int) -> list[nn.Module]:
    """Return the transposed convolution to the image, and its tanh."""
    return [CONV_TRANSPOSE[spatial_dims](width, channels, 4, 2, 1), nn.Tanh()]


def halving(spatial_dims: int, channels: int, width: int, steps: int, *, batch_norm: bool) -> list[nn.Module]:
    """Return convolutions of stride 2 with LeakyReLU, from the image's `channels` to `width`, which doubles at each further step.

    `batch_norm`: use it in all but the first.
    """
    conv, norm = CONV[spatial_dims], BATCH_NORM[spatial_dims]
    layers: list[nn.Module] = [conv(channels, width, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
    for step in range(steps - 1):
        here = width * 2**step
        layers.append(conv(here, here * 2, 4, 2, 1, bias=not batch_norm))
        layers += [norm(here * 2)] if batch_norm else []
        layers.append(nn.LeakyReLU(0.2, inplace=True))
    return layers


class DCGANGenerator(nn.Module):
    """Map z (B, latent) to an image (B, channels, *size) in [-1, 1]; channels double at each halving, from `width` at half the size."""

    def __init__(
        self,
        *,
        spatial_dims: int,
        channels: int,
        size: int | Sequence[int],
        width: int = 64,
        latent: int = 128,
        classes: int = 0,
        covariates: Sequence[str] = (),
    ) -> None:
        super().__init__()
        halvings, base = halve(space(size, spatial_dims))
        deep = width * 2 ** (halvings - 1)
        self.condition = Condition(latent, classes, covariates)
        self.start = nn.Sequential(nn.Linear(self.condition.features, deep * math.prod(base)), nn.Unflatten(1, (deep, *base)))
        first = (BATCH_NORM[spatial_dims](deep), nn.ReLU(inplace=True))
        self.body = nn.Sequential(*first, *doubling(spatial_dims, deep, halvings - 1), *last(spatial_dims, width, channels))
        init_weights(self)

    def forward(self, z: Float[Tensor, "b latent"], condition: Float[Tensor, "b k"] | None = None) -> Float[Tensor, "b c *space"]:
        return self.body(self.start(self.condition(z, condition)))


class DCGANDiscriminator(nn.Module):
    """Map an image (B, channels, *size) in [-1, 1] to logits (B,); mirrors the generator, with batch norm in all but the first layer."""

    def __init__(
        self,
        *,
        spatial_dims: int,
        channels: int,
        size: int | Sequence[int],
        width: int = 64,
        classes: int = 0,
        covariates: Sequence[str] = (),
        head: Callable[..., nn.Module] = ProjectionHead,
        batch_norm: bool = True,
        spectral_norm: bool = False,
    ) -> None:
        super().__init__()
        halvings, base = halve(space(size, spatial_dims))
        self.body = nn.Sequential(*halving(spatial_dims, channels, width, halvings, batch_norm=batch_norm), nn.Flatten())
        self.verdict = head(width * 2 ** (halvings - 1) * math.prod(base), classes, covariates)
        init_weights(self)
        if spectral_norm:
            apply_spectral_norm(self)

    def forward(self, image: Float[Tensor, "b c *space"], condition: Float[Tensor, "b k"] | None = None) -> Float[Tensor, "b ..."]:
        return self.verdict(self.body(image), condition)
