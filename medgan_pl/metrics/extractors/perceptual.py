"""Perceptual features: the layers of AlexNet with channels normalized to unit length, so that distances resemble human perception."""

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from medgan_pl.metrics.extractors.pretrained import IMAGENET_MEAN, IMAGENET_SD, ResizedFeatures
from medgan_pl.metrics.extractors.weights import find_weights, fingerprint, load_weights, read_weights

TAPS = (1, 4, 7, 9, 11)  # the ReLUs of AlexNet's `features`, after each of its five convolutions
CHANNELS = (64, 192, 384, 256, 256)
EPSILON = 1e-10  # added to a squared length, so that a place without activation stays 0


class PerceptualFeatures(ResizedFeatures):
    """The five layers of AlexNet, at each place divided by their length over channels, averaged over `grid` × `grid` cells: F = 1152 grid².

    The squared distance of two images is Σ over layers and cells of ‖mean ŷ₀ - mean ŷ‖² / grid². It is at most LPIPS and approaches it as
    the grid grows: LPIPS keeps every place, 193,600 numbers an image at the first layer alone. `linear`: a file with LPIPS' weights of
    channels, by whose square roots the features are multiplied; without it all channels count alike.
    `weights`, `published`, `size_px` and volumes as in `ResizedFeatures`; the means and deviations of ImageNet are also LPIPS' own.
    Raises ValueError for a grid below 1 or above 13, the places of the last layer at 224 px, and for weights of channels below 0.

    Source: Zhang et al. 2018 (arXiv 1801.03924), eq. 1.
    """

    def __init__(
        self, *, name: str, weights: str, published: str, linear: str | None = None, grid: int = 1, size_px: int = 224,
        spatial_dims: int = 2, slices: int = 5,
    ) -> None:  # fmt: skip
        if not 1 <= grid <= 13:
            raise ValueError(f"`grid` must be 1 to 13 cells a side, got {grid}")
        path = find_weights(weights, name=name, published=published)
        network, mean, sd = _alexnet(path), IMAGENET_MEAN, IMAGENET_SD
        super().__init__(name=name, network=network, path=path, size_px=size_px, mean=mean, sd=sd, spatial_dims=spatial_dims, slices=slices)
        self.grid, how = grid, "all channels alike"
        scales = [torch.ones(channels) for channels in CHANNELS]
        if linear is not None:
            where = "lpips/weights/v0.1/alex.pth of https://github.com/richzhang/PerceptualSimilarity"
            file = find_weights(linear, name=name, published=where, setting="linear")
            scales, how = _scales(read_weights(file), str(file)), f"channels weighted, {fingerprint(file)}"
        for layer, scale in enumerate(scales):
            self.register_buffer(f"scale{layer}", scale.view(-1, 1, 1), persistent=False)
        self.rules |= {"network": "torchvision alexnet", "features": f"5 layers, unit length, mean over {grid} × {grid} cells, {how}"}

    def embed(self, rgb: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n features"]:
        x, features = self.prepared(rgb), []
        for place, part in enumerate(self.frozen.network):
            x = part(x)
            if place in TAPS:
                unit = x / (x.square().sum(1, keepdim=True) + EPSILON).sqrt() * self.get_buffer(f"scale{len(features)}")
                features.append(F.adaptive_avg_pool2d(unit, self.grid).flatten(1) / self.grid)
        return torch.cat(features, 1)


def _alexnet(path: Path) -> nn.Module:
    from torchvision import models

    with torch.device("meta"):  # the classifier, nine tenths of the weights, is never allocated
        network = models.alexnet(weights=None)
    network.classifier = nn.Identity()
    network.to_empty(device="cpu")
    load_weights(network, path)
    return network.features[: TAPS[-1] + 1]


def _scales(state: Mapping[str, Tensor], file: str) -> list[Tensor]:
    """Return the square roots of the channel weights of each layer, which LPIPS' release names lin0.model.1.weight to
    lin4.model.1.weight."""
    found = [state.get(f"lin{layer}.model.1.weight", torch.empty(0)).flatten() for layer in range(len(CHANNELS))]
    if [len(weights) for weights in found] != list(CHANNELS) or min(weights.min() for weights in found) < 0:
        raise ValueError(
            f"{file} must hold lin0.model.1.weight to lin4.model.1.weight for {', '.join(map(str, CHANNELS))} channels, none below 0; "
            f"it holds {', '.join(f'{name} {tuple(value.shape)}' for name, value in list(state.items())[:3])}, …"
        )
    return [weights.float().sqrt() for weights in found]
