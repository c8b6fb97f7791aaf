"""The generator's losses between each fake and its own real.

Each is called as `term(fake, real, features, inside)`: images (B, C, *S) in [-1, 1], 2-D or 3-D; only `FeatureMatching` needs `features`,
a function from images to D's feature maps. `inside` (B, 1, *S) is 0 in padding, which is no image, and 1 elsewhere; None if nothing is
padded. A loss of voxels takes the mean of each image over what is image; the others see the truth in its padding.
It returns a weighted scalar. Half precision is converted to float32 first. All raise ValueError if the weight is not above 0 or if fake and
real differ in shape.

A sum, such as L1 with SSIM or Dice with cross-entropy, is two entries under `extras`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from medgan_pl.data.masks import as_share
from medgan_pl.models.losses.structure import WEIGHTS, WINDOW, mean_inside, scale_means, scale_weights, scales_within

Features = Callable[[Tensor], Sequence[Tensor]]
Fake = Float[Tensor, "fake_count ..."]
Real = Float[Tensor, "real_count ..."]
Term = Float[Tensor, ""]

MIN_SIMILARITY = 0.01  # mean of one scale below which the loss is linear
SMOOTH = 1.0  # pixels, added to numerator and denominator of Dice
TEACHERS = "an extractor whose features have a gradient and need no fit: random, lpips, radimagenet, swav, dinov2, file or torchscript"
MAX_CERTAIN = 1 - torch.finfo(torch.float32).eps  # largest value of a fake mask: a logit of 16.6


class ImageLoss(nn.Module, ABC):
    """The base of these losses: it applies the weight, converts to float32 and refuses unequal shapes. `value` is the unweighted term.

    `of_critic`: true if the loss uses D, so that it cannot be used without D.
    """

    of_critic: ClassVar[bool] = False

    def __init__(self, *, weight: float) -> None:
        super().__init__()
        if not 0 < weight < float("inf"):
            raise ValueError(f"`weight` must be above 0, got {weight}; to switch it off, leave the term out of extras")
        self.weight = weight

    def forward(self, fake: Fake, real: Real, features: Features | None = None, inside: Real | None = None) -> Term:
        if fake.shape != real.shape:  # it would broadcast to a meaningless number
            raise ValueError(f"fake and real must be of one shape (B, C, *S), got fake {tuple(fake.shape)} and real {tuple(real.shape)}")
        if inside is None:
            return self.weight * self.value(_wide(fake), _wide(real), features)
        return self.weight * self.value_inside(_wide(fake), _wide(real), features, inside)

    @abstractmethod
    def value(self, fake: Tensor, real: Tensor, features: Features | None) -> Tensor: ...

    def value_inside(self, fake: Tensor, real: Tensor, features: Features | None, inside: Tensor) -> Tensor:
        """Return the term of images with padding, where `inside` is 0. Here the fake has the truth there; means over voxels override it."""
        return self.value(torch.where(inside > 0, fake, real), real, features)


class L1(ImageLoss):
    """weight · E|fake - real|, over all pixels and channels (pix2pix: Isola et al. 2017, arXiv 1611.07004, eq. 3, with weight 100)."""

    def value(self, fake: Tensor, real: Tensor, features: Features | None) -> Tensor:
        return F.l1_loss(fake, real)

    def value_inside(self, fake: Tensor, real: Tensor, features: Features | None, inside: Tensor) -> Tensor:
        return mean_inside((fake - real).abs(), inside, empty=0.0).mean()


class MSE(ImageLoss):
    """weight · E(fake - real)², over all pixels and channels, as in PSNR; it blurs more than `L1`."""

    def value(self, fake: Tensor, real: Tensor, features: Features | None) -> Tensor:
        return F.mse_loss(fake, real)

    def value_inside(self, fake: Tensor, real: Tensor, features: Features | None, inside: Tensor) -> Tensor:
        return mean_inside((fake - real).square(), inside, empty=0.0).mean()


class StructuralSimilarity(ImageLoss):
    """weight · E(1 - SSIM), or with `scales` 2 to 5 weight · E(1 - MS-SSIM): 0 for equal images, about `weight` for unlike ones.

    Images are scaled to [0, 1]; structure.py has l, cs, the window and the exponents. The values are those of the metrics `ssim` and
    `ms_ssim`, the latter with as many scales as fit. A power of a mean similarity m has an infinite slope at 0 and no value below. So below
    0.01 the power stays that of 0.01, and the scale's weight times 0.01 - m is added: a poor G also gets a gradient, where the metric is 0
    and flat. One scale has no power.

    Raise ValueError for scales outside 1 to 5, for other than 2 or 3 axes, and for images with a side under 11 · 2^(scales - 1).

    Source: Wang et al. 2004 (doi 10.1109/TIP.2003.819861) and 2003 (doi 10.1109/ACSSC.2003.1292216), eq. 7; as a loss: Zhao et al. 2017
    (arXiv 1511.08861), section III, who widen the window instead of halving the image.
    """

    def __init__(self, *, weight: float, scales: int = 1) -> None:
        super().__init__(weight=weight)
        if scales not in range(1, len(WEIGHTS) + 1):
            raise ValueError(f"`scales` must be 1 (SSIM) to {len(WEIGHTS)} (MS-SSIM), got {scales}")
        self.scales = scales

    def value(self, fake: Tensor, real: Tensor, features: Features | None) -> Tensor:
        return self.value_inside(fake, real, features, None)

    def value_inside(self, fake: Tensor, real: Tensor, features: Features | None, inside: Tensor | None) -> Tensor:
        sides, needed = tuple(fake.shape[2:]), WINDOW << self.scales - 1
        if len(sides) not in (2, 3) or min(sides) < needed:
            room = scales_within(sides) if len(sides) in (2, 3) else 0
            remedy = f"use scales={room}" if room else f"use images of 2 or 3 sides of {WINDOW} or more"
            raise ValueError(f"structural similarity with scales={self.scales} needs sides of {needed} or more, got {sides}; {remedy}")
        means = scale_means((fake + 1) / 2, (real + 1) / 2, self.scales, inside)
        if self.scales == 1:
            return 1 - means.mean()
        below = (MIN_SIMILARITY - means).clamp(min=0)
        weights, logarithms = scale_weights(self.scales), means.clamp(min=MIN_SIMILARITY).log()
        power = sum(weight * scale for weight, scale in zip(weights, logarithms.unbind(1), strict=True)).exp()
        return 1 - power.mean() + sum(weight * scale.mean() for weight, scale in zip(weights, below.unbind(1), strict=True))


class Gradient(ImageLoss):
    """weight · Σ over axes of E|Δfake - Δreal|, Δ the difference between neighboring pixels along the axis: same edges, equally steep.

    Raise ValueError for a side under 2.

    Source: Mathieu et al. 2016 (arXiv 1511.05440), eq. 6 with α = 1. They compare |Δ|, which ignores an edge's direction; we keep the sign,
    and take means where they take sums.
    """

    def value(self, fake: Tensor, real: Tensor, features: Features | None) -> Tensor:
        if fake.ndim < 3 or min(fake.shape[2:]) < 2:
            raise ValueError(f"a gradient needs images (B, C, *S) with sides of 2 or more, got {tuple(fake.shape)}")
        error = fake - real
        return torch.stack([error.diff(dim=axis).abs().mean() for axis in range(2, fake.ndim)]).sum()

    def value_inside(self, fake: Tensor, real: Tensor, features: Features | None, inside: Tensor) -> Tensor:
        error, terms = fake - real, []
        for axis in range(2, fake.ndim):
            both = inside.unfold(axis, 2, 1).amin(-1)  # neighbors that are both image
            terms.append(mean_inside(error.diff(dim=axis).abs(), both, empty=0.0).mean())
        return torch.stack(terms).sum()


class FeatureMatching(ImageLoss):
    """weight · mean over D's layers of E|D_i(fake) - D_i(real)|, each over the layer's map; no gradient flows to the reals' maps.

    D runs under its caller's autocast; its maps are converted to float32. Raise ValueError without `features`, or if it returns none.

    Source: Wang et al. 2018 (pix2pixHD, arXiv 1711.11585), eq. 3, with weight 10. They sum over layers and discriminators; we take the
    mean, so that the weight means the same for any number of them.
    """

    of_critic = True

    def value(self, fake: Tensor, real: Tensor, features: Features | None) -> Tensor:
        if features is None:
            raise ValueError("feature matching needs the discriminator's features; use a game that provides them, such as translation")
        made = features(fake)
        with torch.no_grad():
            aims = features(real)
        if not made:
            raise ValueError("feature matching needs a discriminator with at least one feature map, got none")
        return torch.stack([F.l1_loss(_wide(a), _wide(b)) for a, b in zip(made, aims, strict=True)]).mean()


class Perceptual(ImageLoss):
    """weight · E‖φ(fake) - φ(real)‖²: φ, the `extractor`, maps images (B, C, *S) in [-1, 1] to features (B, …); sum over features.

    The extractor is frozen, stays in evaluation mode and runs in float32. These of conf/extractor can be used: random, lpips, radimagenet,
    swav, dinov2, file and torchscript (its file is a program). A checkpoint does not hold their weights; its generator does not need them.
    inception rounds the images, radiomics counts gray levels, and domain is fitted for evaluation.
    Features averaged over space have no position: add `L1`, or use lpips with a grid. A distance in the space that G was trained in says
    little about G: evaluate in another.
    Raise ValueError for the other extractors, and if the features have no gradient to the images.

    Source: Johnson et al. 2016 (arXiv 1603.08155), eq. 2, with φ a layer of VGG-16; they divide by the number of features, we do not, so
    that `lpips` has the scale of LPIPS.
    """

    def __init__(self, *, weight: float, extractor: nn.Module) -> None:
        super().__init__(weight=weight)
        if not getattr(extractor, "teaches", True):  # a plain network does
            raise ValueError(f"a perceptual loss needs {TEACHERS}, got {extractor.name}")
        for parameter in extractor.parameters():  # a ScriptModule has no requires_grad_
            parameter.requires_grad_(False)
        self.extractor = extractor.eval()

    def train(self, mode: bool = True) -> "Perceptual":
        super().train(mode)
        self.extractor.eval()
        return self

    def value(self, fake: Tensor, real: Tensor, features: Features | None) -> Tensor:
        with torch.autocast(device_type=fake.device.type, enabled=False):
            made = self.extractor(fake)
            with torch.no_grad():
                aim = self.extractor(real)
        if fake.requires_grad and torch.is_grad_enabled() and not made.requires_grad:
            raise ValueError(f"a perceptual loss needs {TEACHERS}; got features without a gradient")
        return (_wide(made) - _wide(aim)).square().flatten(1).sum(1).mean()


class SoftDice(ImageLoss):
    """weight · E(1 - (2 Σ p m + 1) / (Σ p² + Σ m² + 1)), sums over pixels, mean over images and channels; p = (fake + 1) / 2, m of real.

    Every channel is one structure, with equal weight whatever its size. The 1 is one pixel: if both are empty the loss is 0, and it still
    has a gradient. Where the mask is empty that gradient is small, so add `CrossEntropy`.

    Source: Milletari et al. 2016 (arXiv 1606.04797), section 3, without the 1.
    """

    def value(self, fake: Tensor, real: Tensor, features: Features | None) -> Tensor:
        p, mask = (as_share(images.flatten(2)) for images in (fake, real))  # (B, C, pixels)
        total = p.square().sum(2) + mask.square().sum(2)
        return 1 - ((2 * (p * mask).sum(2) + SMOOTH) / (total + SMOOTH)).mean()

    def value_inside(self, fake: Tensor, real: Tensor, features: Features | None, inside: Tensor) -> Tensor:
        return self.value(*(torch.where(inside > 0, images, -1.0) for images in (fake, real)), features)


class CrossEntropy(ImageLoss):
    """weight · E(-m log p - (1 - m) log(1 - p)) for each channel; p = (fake + 1) / 2, m likewise of the real: 0, 1 or a share.

    It is computed from the logit of p, 2 artanh(fake). The fake is clamped to ±(1 - 2⁻²³), a logit of 16.6, also a pixel's largest loss.
    Beyond that there is no gradient, nor at a tanh that has reached 1.
    """

    def value(self, fake: Tensor, real: Tensor, features: Features | None) -> Tensor:
        logits = 2 * fake.clamp(-MAX_CERTAIN, MAX_CERTAIN).atanh()
        return F.binary_cross_entropy_with_logits(logits, as_share(real))

    def value_inside(self, fake: Tensor, real: Tensor, features: Features | None, inside: Tensor) -> Tensor:
        logits = 2 * fake.clamp(-MAX_CERTAIN, MAX_CERTAIN).atanh()
        each = F.binary_cross_entropy_with_logits(logits, as_share(real), reduction="none")
        return mean_inside(each, inside, empty=0.0).mean()


def _wide(images: Tensor) -> Tensor:
    return images.float() if images.dtype in (torch.float16, torch.bfloat16) else images
