"""The small classifier that measures what can be learned from a set of images."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from medgan_pl.metrics.extractors.features import Images
from medgan_pl.metrics.utility.teaching import (
    PREDICTED_AT_ONCE,
    Balanced,
    Labeled,
    SlightAugmentation,
    Training,
    labeled,
    same_kind,
    shares,
    small,
    train_frozen,
    weights_from,
)
from medgan_pl.models.networks.layers import CONV

GROUP = 4  # channels normalized together


def stem(channels: int, width: int, spatial_dims: int) -> nn.Sequential:
    """Return the first layer: images (B, `channels`, *S) -> (B, `width`, *ceil(S / 2))."""
    conv = CONV[spatial_dims](channels, width, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(conv, nn.GroupNorm(width // GROUP, width), nn.ReLU())


class Halving(nn.Module):
    """A residual block of two convolutions and a shortcut: (B, `inputs`, *S) -> (B, `outputs`, *ceil(S / 2))."""

    def __init__(self, inputs: int, outputs: int, spatial_dims: int) -> None:
        super().__init__()
        conv = CONV[spatial_dims]
        self.first = conv(inputs, outputs, 3, stride=2, padding=1, bias=False)
        self.second = conv(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut = conv(inputs, outputs, 1, stride=2, bias=False)
        self.norms = nn.ModuleList([nn.GroupNorm(outputs // GROUP, outputs) for _ in range(2)])

    def forward(self, x: Float[Tensor, "b c *space"]) -> Float[Tensor, "b d *half"]:
        inner = self.norms[1](self.second(self.norms[0](self.first(x)).relu()))
        return (inner + self.shortcut(x)).relu()


class Classifier(nn.Module):
    """A residual network of seven convolutions (without shortcuts): images (B, `channels`, *S) in [-1, 1], each side 16 or more, to logits
    (B, `classes`).

    Source: He et al. 2016 (arXiv 1512.03385), with group normalization (Wu & He 2018, arXiv 1803.08494) instead of batch normalization,
    with which the generated images of a batch would influence what is learned from its reals. The first convolution and each block halve
    the size; the mean over space goes to one linear layer.
    """

    def __init__(self, *, classes: int, spatial_dims: int = 2, channels: int = 1, width: int = 8) -> None:
        super().__init__()
        self.stem = stem(channels, width, spatial_dims)
        widths = [width, 2 * width, 4 * width, 8 * width]
        self.blocks = nn.Sequential(*[Halving(*widths[level : level + 2], spatial_dims) for level in range(3)])
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, images: Float[Tensor, "b c *space"]) -> Float[Tensor, "b classes"]:
        return self.head(self.blocks(self.stem(images)).flatten(2).mean(2))


@torch.inference_mode(False)
@torch.enable_grad()
def fit_classifier(parts: Sequence[Labeled], classes: int, settings: Training, seed: int, device: torch.device | str = "cpu") -> Classifier:
    """Return a classifier trained on all `parts`, each of which gives an equal share of every batch, its classes equally often.

    Images above 64 pixels a side (32 in 3-D) are first averaged down to that, so the cost does not grow with their size, and finer detail
    is not judged. Weights, batches and augmentation come from `seed` alone, and torch's global generators are restored; the same machine
    gives the same network. Raises ValueError as `labeled`, and for parts that differ in channels or size.
    """
    ready = [labeled(part, classes, settings.max_images, "training set") for part in parts]
    same_kind({f"part {place}": part.images for place, part in enumerate(ready)})
    first = ready[0].images
    with weights_from(seed):
        network = Classifier(classes=classes, spatial_dims=first.ndim - 2, channels=first.shape[1], width=settings.width)
    generator = torch.Generator().manual_seed(seed)
    draws = [Balanced(part.labels, classes, generator) for part in ready]

    def batch() -> tuple[Tensor, Tensor]:
        rows = [draw.rows(count) for draw, count in zip(draws, shares(settings.batch_size, ready), strict=True)]
        images, labels = (torch.cat([getattr(p, name)[r] for p, r in zip(ready, rows, strict=True)]) for name in ("images", "labels"))
        return SlightAugmentation(images, generator)(images), labels

    train_frozen(network, batch, F.cross_entropy, settings.steps, torch.device(device))
    return network


@torch.no_grad()
def predict(network: Classifier, images: Images) -> Float[Tensor, "n classes"]:
    """Return the class probabilities, float64 on the CPU: in float32 certain cases would tie at 1, and ties count half in an AUC."""
    device = network.head.weight.device
    parts = [network(part.to(device)).double().softmax(1).cpu() for part in small(images).split(PREDICTED_AT_ONCE)]
    return torch.cat(parts)
