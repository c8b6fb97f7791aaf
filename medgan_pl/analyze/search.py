"""The style whose image is nearest to a given one, by gradient descent."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medgan_pl.models.networks.layers import AVERAGE_POOL
from medgan_pl.models.networks.stylegan2 import StyleGAN2Generator


class Search:
    """Adam on w, from the average `centre` on, with noise that fades, for images near `targets` (B, C, *S) in [-1, 1].

    - Distance: of pixels at each halving of the image, and at weight `features` of what the `extractors` make of it, (B, F) each; squared,
      and in units of what it is for the average image, so that each image and each distance counts alike.
    - `each_layer`: a w for each layer (W+) in place of one for all; `w` is (B, 1 or layers, latent).
    - `spread`: σ = √E‖w - w̄‖² of the generator's w. Noise on w: N(0, (0.05 σ t²)²) a number, t from 1 to 0 over the first three quarters.

    Source: Karras et al. 2020 (arXiv 1912.04958), appendix D, where the distance is LPIPS and the noise of the layers is searched for too;
    here it is left out, so that w has to explain the image. A w for each layer: Abdal et al. 2019 (arXiv 1904.03189).
    """

    def __init__(
        self, network: StyleGAN2Generator, targets: Float[Tensor, "b c *space"], extractors: Sequence[nn.Module],
        centre: Float[Tensor, " latent"], spread: float, *, each_layer: bool = False, features: float = 1.0,
    ) -> None:  # fmt: skip
        self.network, self.extractors, self.spread = network, extractors, spread
        self.w = centre.expand(len(targets), network.layers if each_layer else 1, -1).clone().requires_grad_()
        self.adam = torch.optim.Adam([self.w])
        self.weights = torch.tensor([1.0, *[features / max(1, len(extractors))] * len(extractors)], device=targets.device)
        with torch.no_grad():
            self.wanted = self.looks(targets)
            self.units = self.apart(self.draw(self.w)).clamp(min=1e-8)

    def draw(self, w: Float[Tensor, "b layers latent"]) -> Float[Tensor, "b c *space"]:
        return self.network.synthesis(w.expand(-1, self.network.layers, -1))

    def looks(self, images: Float[Tensor, "b c *space"]) -> list[Tensor]:
        """Return what is compared, (B, F) each: the pixels at every halving down to 8 a side, then the features of each extractor."""
        levels, halve = [images], AVERAGE_POOL[images.ndim - 2](2)
        while min(levels[-1].shape[2:]) >= 16:
            levels.append(halve(levels[-1]))
        pixels = torch.cat([level.flatten(1) / math.sqrt(level[0].numel() * len(levels)) for level in levels], 1)
        return [pixels, *(extractor(images) for extractor in self.extractors)]

    def apart(self, images: Float[Tensor, "b c *space"]) -> Float[Tensor, "b kinds"]:
        """Squared distances to the targets."""
        return torch.stack([(a - b).square().sum(1) for a, b in zip(self.looks(images), self.wanted, strict=True)], 1)

    def step(self, done: float, rate: float) -> None:
        """One step at the share `done` of the search: the rate rises over the first twentieth and falls over the last quarter."""
        self.adam.param_groups[0]["lr"] = rate * min(1, done / 0.05) * (1 - math.cos(math.pi * min(1, (1 - done) / 0.25))) / 2
        # The same for all images, so that what is found for one does not depend on those beside it.
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
        """Return each distance that is left, as a share of that of the average image."""
        return self.apart(self.images()) / self.units
