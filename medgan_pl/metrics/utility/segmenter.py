"""The small segmenter that measures whether masks and images fit together."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from medgan_pl.metrics.utility.classifier import GROUP, Halving, stem
from medgan_pl.metrics.utility.teaching import (
    MIN_IMAGES,
    READ_AT_ONCE,
    Masked,
    SlightAugmentation,
    Training,
    same_kind,
    shares,
    small,
    some,
    train_frozen,
    weights_from,
)
from medgan_pl.models.networks.layers import CONV, CONV_TRANSPOSE

LINEAR = {2: "bilinear", 3: "trilinear"}


class Joining(nn.Module):
    """One level of the decoder: (B, `inner`, *ceil(S / 2)) and (B, `outer`, *S) -> (B, `outer`, *S)."""

    def __init__(self, inner: int, outer: int, spatial_dims: int) -> None:
        super().__init__()
        self.project = CONV[spatial_dims](inner, outer, 1, bias=False)
        self.join = nn.Sequential(
            CONV[spatial_dims](outer, outer, 3, padding=1, bias=False), nn.GroupNorm(outer // GROUP, outer), nn.ReLU()
        )

    def forward(self, inner: Float[Tensor, "b c *half"], outer: Float[Tensor, "b d *space"]) -> Float[Tensor, "b d *space"]:
        # Nearest neighbor: the gradient of linear interpolation is not deterministic on a GPU.
        return self.join(F.interpolate(self.project(inner), size=outer.shape[2:]) + outer)


class Segmenter(nn.Module):
    """A small U-Net: images (B, `channels`, *S) in [-1, 1], each side 16 or more, to logits (B, 1, *S).

    Source: Ronneberger et al. 2015 (arXiv 1505.04597). Where we differ, for speed: the first convolution halves and the last, transposed,
    doubles, so that none runs at full size; three levels, whose maps are added and not concatenated; group normalization. The encoder is
    the classifier's.
    """

    def __init__(self, *, spatial_dims: int = 2, channels: int = 1, width: int = 8) -> None:
        super().__init__()
        self.stem = stem(channels, width, spatial_dims)
        self.down = nn.ModuleList([Halving(width, 2 * width, spatial_dims), Halving(2 * width, 4 * width, spatial_dims)])
        self.up = nn.ModuleList([Joining(4 * width, 2 * width, spatial_dims), Joining(2 * width, width, spatial_dims)])
        self.last = CONV_TRANSPOSE[spatial_dims](width, 1, 2, stride=2)

    def forward(self, images: Float[Tensor, "b c *space"]) -> Float[Tensor, "b 1 *space"]:
        half = self.stem(images)
        quarter = self.down[0](half)
        x = self.up[0](self.down[1](quarter), quarter)
        x = self.last(self.up[1](x, half))
        return x[(..., *[slice(side) for side in images.shape[2:]])]  # odd sides are one longer here


def pairs(data: Masked, rows: Int[Tensor, " rows"], what: str) -> tuple[Tensor, Tensor]:
    """Return images and masks of these rows, averaged down, in memory; a small pixel of a mask is the share that lies inside.

    Raises ValueError as `small`, and for unequal numbers or sizes and masks outside 0 to 1.
    """
    if len(data.images) != len(data.masks) or (data.groups is not None and len(data.groups) != len(data.images)):
        raise ValueError(f"the {what} must have one mask and one group an image, got {len(data.masks)} masks of {len(data.images)}")
    images, masks = small(data.images, rows), small(data.masks, rows)
    if masks.shape != (len(images), 1, *images.shape[2:]):
        raise ValueError(f"masks must be (B, 1, *S) with the size of the images, got {tuple(masks.shape)} for {tuple(images.shape)}")
    if masks.min() < 0 or masks.max() > 1:
        raise ValueError(f"the masks of the {what} must be 0 and 1, got {float(masks.min()):g} to {float(masks.max()):g}")
    return images, masks


def masked(data: Masked, max_images: int, what: str) -> tuple[Tensor, Tensor]:
    """Return at most `max_images` `pairs` to train on. Raises ValueError as `pairs`, for fewer than 20, and if all masks are empty."""
    rows = some(len(data.images), max_images)
    if len(rows) < MIN_IMAGES:
        raise ValueError(f"the {what} must have {MIN_IMAGES} images or more to train on, got {len(rows)}")
    images, masks = pairs(data, rows, what)
    if not masks.any():
        raise ValueError(f"the masks of the {what} must mark something, got {len(masks)} empty ones")
    return images, masks


@torch.inference_mode(False)
@torch.enable_grad()
def fit_segmenter(parts: Sequence[Masked], settings: Training, seed: int, device: torch.device | str = "cpu") -> Segmenter:
    """Return a segmenter trained on all `parts`, each of which gives an equal share of every batch; sizes, seeds and errors as
    `fit_classifier`."""
    ready = [masked(part, settings.max_images, "training set") for part in parts]
    same_kind({f"part {place}": images for place, (images, _) in enumerate(ready)})
    first = ready[0][0]
    with weights_from(seed):
        network = Segmenter(spatial_dims=first.ndim - 2, channels=first.shape[1], width=settings.width)
    generator = torch.Generator().manual_seed(seed)

    def batch() -> tuple[Tensor, Tensor]:
        counts = shares(settings.batch_size, ready)
        rows = [torch.randint(len(images), (count,), generator=generator) for (images, _), count in zip(ready, counts, strict=True)]
        images, masks = (torch.cat([part[kind][r] for part, r in zip(ready, rows, strict=True)]) for kind in (0, 1))
        change = SlightAugmentation(images, generator)
        return change(images), change.moved(masks)

    train_frozen(network, batch, dice_and_entropy, settings.steps, torch.device(device))
    return network


def dice_and_entropy(logits: Float[Tensor, "b 1 *space"], masks: Float[Tensor, "b 1 *space"]) -> Float[Tensor, ""]:
    """Return 1 - 2 Σ p m / (Σ p + Σ m), over the whole batch so that images without the structure count too, plus the mean cross-entropy.

    Source: Milletari et al. 2016 (arXiv 1606.04797), eq. for D; they square the terms in the denominator.
    """
    inside = logits.sigmoid()
    overlap = 2 * (inside * masks).sum() / (inside.sum() + masks.sum())
    return 1 - overlap + F.binary_cross_entropy_with_logits(logits, masks)


@torch.no_grad()
def dice_scores(network: Segmenter, data: Masked) -> Float[Tensor, " n"]:
    """Return the Dice 2 |P ∩ M| / (|P| + |M|) of each image, float64 on the CPU; 1 if prediction and mask are both empty.

    Masks are used at full size, inside from 0.5 on; the logits are interpolated linearly to that size.
    Raises ValueError for logits with NaN or infinity: the training diverged.
    """
    device, scores = network.last.weight.device, []
    images = small(data.images)
    for rows in torch.arange(len(images)).split(READ_AT_ONCE):
        masks = data.masks[rows].to(device) >= 0.5
        logits = network(images[rows].to(device))
        if not torch.isfinite(logits).all():
            raise ValueError("the segmenter's logits contain NaN or infinity: the training diverged; use fewer or smaller steps")
        found = F.interpolate(logits, size=masks.shape[2:], mode=LINEAR[masks.ndim - 2], align_corners=False) > 0
        both, either = ((found & masks).flatten(1).sum(1), found.flatten(1).sum(1) + masks.flatten(1).sum(1))
        scores.append(torch.where(either == 0, 1.0, 2 * both.double() / either).cpu())
    return torch.cat(scores)
