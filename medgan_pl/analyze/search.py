"""Search for the style whose image is nearest to a given one, by gradient descent."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medgan_pl.models.networks.layers import AVERAGE_POOL
from medgan_pl.models.networks.stylegan2 import StyleGAN2Generator


class Search:
    """Adam on w, starting at the average `center`, with noise that decays, for images near `targets` (B, C, *S) in [-1, 1].

    - Distance: between pixels at each halving of the image and, with weight `features`, between the features (B, F) of each of
      `extractors`; squared, in units of the distance of the average image, so that each image and each distance has equal weight.
    - `each_layer`: a w for each layer (W+) instead of one for all; `w` is (B, 1 or layers, latent).
    - `spread`: σ = √E‖w - w̄‖² of the generator's w. Noise on w: N(0, (0.05 σ t²)²) a number, t from 1 to 0 over the first three quarters.

    Source: Karras et al. 2020 (arXiv 1912.04958), appendix D, where the distance is LPIPS and the noise of the layers is searched for too;
    here it is left out, so that w has to explain the image. A w for each layer: Abdal et al. 2019 (arXiv 1904.03189).
    """

    def __init__(
        self, network: StyleGAN2Generator, targets: Float[Tensor, "b c *space"], extractors: Sequence[nn.Module],
        center: Float[Tensor, " latent"], spread: float, *, each_layer: bool = False, features: float = 1.0,
    ) -> None:  # fmt: skip
        self.network, self.extractors, self.spread = network, extractors, spread
        self.w = center.expand(len(targets), network.layers if each_layer else 1, -1).clone().requires_grad_()
        self.adam = torch.optim.Adam([self.w])
        self.weights = torch.tensor([1.0, *[features / max(1, len(extractors))] * len(extractors)], device=targets.device)
        with torch.no_grad():
            self.wanted = self.looks(targets)
            self.units = self.apart(self.draw(self.w)).clamp(min=1e-8)

    def draw(self, w: Float[Tensor, "b layers latent"]) -> Float[Tensor, "b c *space"]:
        return self.network.synthesis(w.expand(-1, self.network.layers, -1))

    def looks(self, images: Float[Tensor, "b c *space"]) -> list[Tensor]:
        """Return the compared values, (B, F) each: the pixels at every halving down to 8 a side, then the features of each extractor."""
        levels, halve = [images], AVERAGE_POOL[images.ndim - 2](2)
        while min(levels[-1].shape[2:]) >= 16:
            levels.append(halve(levels[-1]))
        pixels = torch.cat([level.flatten(1) / math.sqrt(level[0].numel() * len(levels)) for level in levels], 1)
        return [pixels, *(extractor(images) for extractor in self.extractors)]

    def apart(self, images: Float[Tensor, "b c *space"]) -> Float[Tensor, "b kinds"]:
        """Return the squared distances to the targets."""
        return torch.stack([(a - b).square().sum(1) for a, b in zip(self.looks(images), self.wanted, strict=True)], 1)

    def step(self, done: float, rate: float) -> None:
        """Take one step at the share `done` of the search: the rate rises over the first twentieth and falls over the last quarter."""
        self.adam.param_groups[0]["lr"] = rate * min(1, done / 0.05) * (1 - math.cos(math.pi * min(1, (1 - done) / 0.25))) / 2
        # The same noise for all images, so that the result for one does not depend on the others.
        noise = 0.05 * self.spread * max(0, 1 - done / 0.75) ** 2 * torch.randn_like(self.w[:1])
        (self.apart(self.draw(self.w + noise)) / self.units @ self.weights).sum().backward()
        self.adam.step()
        self.adam.zero_grad()

    @torch.no_grad()
    def images(self) -> Float[Tensor, "b c *space"]:
        """Return the images of the styles found so far."""
        return self.draw(self.w)

    @torch.no_grad()
    def left(self) -> Float[Tensor, "b kinds"]:
        """Return each remaining distance as a share of that of the average image."""
        return self.apart(self.images()) / self.units
