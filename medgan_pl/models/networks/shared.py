"""Layers whose tensors G and D share, and a pair for it: a U-shaped G whose encoder is D's trunk."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from medgan_pl.models.networks.dcgan import init_weights
from medgan_pl.models.networks.layers import BATCH_NORM, CONV, CONV_TRANSPOSE, Condition, ProjectionHead, halve, space
from medgan_pl.models.networks.resnet import channels_at


class Share(Protocol):
    """Share layers between two players: the optimizer of `owner` steps them, with `both` in the turns of `borrower` too."""

    owner: str
    borrower: str
    both: bool

    def __call__(self, networks: Mapping[str, nn.Module]) -> None: ...


@dataclass(frozen=True)
class SharedTrunk:
    """Replace the `trunk` of the borrower (G) by that of the owner (D).

    The owner's optimizer steps it in the owner's turns, with `both` in the borrower's turns too. In G's turn the trunk learns as a part of
    G; as a part of D it is frozen, like the rest of D. Raise ValueError for players without a `trunk`, or with trunks of different shapes.
    """

    both: bool = False
    owner: str = "d"
    borrower: str = "g"

    def __call__(self, networks: Mapping[str, nn.Module]) -> None:
        borrower, owner = networks[self.borrower], networks[self.owner]
        trunks = [getattr(network, "trunk", None) for network in (borrower, owner)]
        if not all(isinstance(trunk, nn.Module) for trunk in trunks):
            raise ValueError("layers can be shared between players that both have a `trunk`, such as those of model=shared_trunk")
        shapes = [{name: weight.shape for name, weight in trunk.state_dict().items()} for trunk in trunks]
        if shapes[0] != shapes[1]:
            raise ValueError("a shared trunk must be the same in both players; give both one width, size and number of channels")
        owner.trunk = borrower.trunk


def common(generator: nn.Module, discriminator: nn.Module) -> list[nn.Parameter]:
    """Return the weights that are in both networks."""
    own = {id(weight) for weight in generator.parameters()}
    return [weight for weight in discriminator.parameters() if id(weight) in own]


class Trunk(nn.Module):
    """Map an image (B, channels, *S) to features at the full size and after each halving: [(B, width, *S), (B, 2 × width, *S/2), …].

    A 3×3 convolution, then one of 4×4 and stride 2 for each halving, each with LeakyReLU; channels as `channels_at`.
    The trunk sees reals, fakes and G's first images. Batch norm would mix their statistics, in evaluation to a mixture that no batch has.
    So each image is normalized by itself, over channels and pixels (layer norm, Ba et al. 2016, arXiv 1607.06450; for convolutions group
    norm of one group, Wu & He 2018); gradient penalties then still concern single images. The first two layers have no norm, so that D can
    see an image's brightness.
    """

    def __init__(self, spatial_dims: int, channels: int, width: int, halvings: int) -> None:
        super().__init__()
        conv = CONV[spatial_dims]
        stages = [nn.Sequential(conv(channels, width, 3, padding=1), nn.LeakyReLU(0.2))]
        for level in range(1, halvings + 1):
            before, after = channels_at(level - 1, width), channels_at(level, width)
            norm = nn.Identity() if level == 1 else nn.GroupNorm(1, after)
            stages.append(nn.Sequential(conv(before, after, 4, 2, 1), norm, nn.LeakyReLU(0.2)))
        self.stages = nn.ModuleList(stages)

    def forward(self, image: Float[Tensor, "b c *space"]) -> list[Tensor]:
        features = [image]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return features[1:]


class SharedGenerator(nn.Module):
    """Map z (B, latent) to an image (B, channels, *size) in [-1, 1]: a first image from noise, the trunk as encoder, and a decoder.

    The decoder has transposed convolutions and skips from the trunk (a U-Net, Ronneberger et al. 2015, arXiv 1505.04597). One layer makes
    the first image from (z, condition) at half the size, and it is doubled. z and condition also enter the middle, since the trunk, which
    D trains to classify images, may lose them. The decoder sees only fakes and has batch norm.
    """

    def __init__(
        self,
        *,
        spatial_dims: int,
        channels: int,
        size: int | Sequence[int],
        width: int = 32,
        latent: int = 128,
        classes: int = 0,
        covariates: Sequence[str] = (),
    ) -> None:
        super().__init__()
        sizes = space(size, spatial_dims)
        halvings, base = halve(sizes)
        half, deep = [axis // 2 for axis in sizes], channels_at(halvings, width)
        self.condition = Condition(latent, classes, covariates)
        inputs = self.condition.features
        self.first = nn.Sequential(nn.Linear(inputs, channels * math.prod(half)), nn.Unflatten(1, (channels, *half)), nn.Tanh())
        self.middle = nn.Sequential(nn.Linear(inputs, deep * math.prod(base)), nn.Unflatten(1, (deep, *base)))
        self.mode = {2: "bilinear", 3: "trilinear"}[spatial_dims]
        transpose, norm = CONV_TRANSPOSE[spatial_dims], BATCH_NORM[spatial_dims]
        self.ups = nn.ModuleList()
        for level in range(halvings, 0, -1):
            before, after = channels_at(level, width), channels_at(level - 1, width)
            self.ups.append(nn.Sequential(transpose(2 * before, after, 4, 2, 1, bias=False), norm(after), nn.ReLU()))
        self.to_image = nn.Sequential(CONV[spatial_dims](2 * width, channels, 3, padding=1), nn.Tanh())
        init_weights(self)  # before the trunk, which has no batch norm to compensate weights as small as DCGAN's
        self.trunk = Trunk(spatial_dims, channels, width, halvings)

    def forward(self, z: Float[Tensor, "b latent"], condition: Float[Tensor, "b k"] | None = None) -> Float[Tensor, "b c *space"]:
        given = self.condition(z, condition)
        features = self.trunk(F.interpolate(self.first(given), scale_factor=2, mode=self.mode))
        h = torch.cat([self.middle(given), features.pop()], 1)
        for up in self.ups:
            h = torch.cat([up(h), features.pop()], 1)
        return self.to_image(h)


class SharedDiscriminator(nn.Module):
    """Map an image (B, channels, *size) in [-1, 1] to logits (B,) by the trunk and one layer."""

    def __init__(
        self,
        *,
        spatial_dims: int,
        channels: int,
        size: int | Sequence[int],
        width: int = 32,
        classes: int = 0,
        covariates: Sequence[str] = (),
        head: Callable[..., nn.Module] = ProjectionHead,
    ) -> None:
        super().__init__()
        halvings, base = halve(space(size, spatial_dims))
        self.trunk = Trunk(spatial_dims, channels, width, halvings)
        self.verdict = head(channels_at(halvings, width) * math.prod(base), classes, covariates)

    def forward(self, image: Float[Tensor, "b c *space"], condition: Float[Tensor, "b k"] | None = None) -> Float[Tensor, "b ..."]:
        return self.verdict(self.trunk(image)[-1].flatten(1), condition)
