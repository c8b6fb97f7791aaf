"""The generator's losses between each fake and its own real.

Each is called as `term(fake, real, features)`: images (B, C, *S) in [-1, 1], 2-D or 3-D; `features`, images to D's feature maps, is asked
by `FeatureMatching` alone and may be left out elsewhere. A scalar comes back, already weighted. Half precision is widened to float32 first.
All raise ValueError for a weight that is not above 0 and for fake and real of unequal shapes.

Content and structure together, or Dice with cross-entropy, are two entries under `extras`: there is no class for a sum.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from medgan_pl.data.masks import as_share
from medgan_pl.models.losses.structure import WEIGHTS, WINDOW, scale_means, scale_weights, scales_within

Features = Callable[[Tensor], Sequence[Tensor]]
Fake = Float[Tensor, "fake_count ..."]
Real = Float[Tensor, "real_count ..."]
Term = Float[Tensor, ""]

MIN_SIMILARITY = 0.01  # of one scale's mean; below it the loss is linear
SMOOTH = 1.0  # pixels, added above and below the line of Dice
TEACHERS = "an extractor whose features have a gradient and need no fit: random, lpips, radimagenet, swav, dinov2, file or torchscript"
MAX_CERTAIN = 1 - torch.finfo(torch.float32).eps  # of a fake, as a mask: a logit of 16.6


class ImageLoss(nn.Module, ABC):
    """The base of these losses: the weight, the widening to float32, the refusal of images that are no pair. `value` is the term without
    its weight.

    `of_critic`: whether it is taken from what D has learned, and so says nothing where no D plays.
    """

    of_critic: ClassVar[bool] = False

    def __init__(self, *, weight: float) -> None:
        super().__init__()
        if not 0 < weight < float("inf"):
            raise ValueError(f"`weight` must be above 0, got {weight}; to do without, leave the term out of extras")
        self.weight = weight

    def forward(self, fake: Fake, real: Real, features: Features | None = None) -> Term:
        if fake.shape != real.shape:  # it would broadcast, to a number that means nothing
            raise ValueError(f"fake and real must be of one shape (B, C, *S), got fake {tuple(fake.shape)} and real {tuple(real.shape)}")
        return self.weight * self.value(_wide(fake), _wide(real), features)

    @abstractmethod
    def value(self, fake: Tensor, real: Tensor, features: Features | None) -> Tensor: ...


class L1(ImageLoss):
    """weight · E|fake - real|, over all pixels and channels (pix2pix: Isola et al. 2017, arXiv 1611.07004, eq. 3, with weight 100)."""

    def value(self, fake: Tensor, real: Tensor, features: Features | None) -> Tensor:
        return F.l1_loss(fake, real)


class MSE(ImageLoss):
    """weight · E(fake - real)², over all pixels and channels: what PSNR is made of, and blurs more than `L1`."""

    def value(self, fake: Tensor, real: Tensor, features: Features | None) -> Tensor:
        return F.mse_loss(fake, real)


class StructuralSimilarity(ImageLoss):
    """weight · E(1 - SSIM), or with `scales` 2 to 5 weight · E(1 - MS-SSIM): 0 for equal images, about `weight` for unlike ones.

    Images are brought to [0, 1]; l, cs, the window and its exponents stand in structure.py, and the values are those of the metrics `ssim`
    and `ms_ssim`, the latter with as many scales as have room. A power of a mean similarity m has no finite slope at 0 and no value below.
    So below 0.01 the power stays that of 0.01, and the scale's weight times 0.01 - m is added: a G that is far off learns too, where the
    metric is 0 and flat. One scale has no power.

    Raise ValueError for scales outside 1 to 5, for other than 2 or 3 axes, and for images with a side under 11 · 2^(scales - 1).

    Source: Wang et al. 2004 (doi 10.1109/TIP.2003.819861) and 2003 (doi 10.1109/ACSSC.2003.1292216), eq. 7; as a loss: Zhao et al. 2017
    (arXiv 1511.08861), section III, who keep the size and widen the window in place of halving the image.
    """

    def __init__(self, *, weight: float, scales: int = 1) -> None:
        super().__init__(weight=weight)
        if scales not in range(1, len(WEIGHTS) + 1):
            raise ValueError(f"`scales` must be 1 (SSIM) to {len(WEIGHTS)} (MS-SSIM), got {scales}")
        self.scales = scales

    def value(self, fake: Tensor, real: Tensor, features: Features | None) -> Tensor:
        sides, needed = tuple(fake.shape[2:]), WINDOW << self.scales - 1
        if len(sides) not in (2, 3) or min(sides) < needed:
            room = scales_within(sides) if len(sides) in (2, 3) else 0
            remedy = f"use scales={room}" if room else f"use images of 2 or 3 sides of {WINDOW} or more"
            raise ValueError(f"structural similarity with scales={self.scales} needs sides of {needed} or more, got {sides}; {remedy}")
        means = scale_means((fake + 1) / 2, (real + 1) / 2, self.scales)
        if self.scales == 1:
            return 1 - means.mean()
        below = (MIN_SIMILARITY - means).clamp(min=0)
        weights, logarithms = scale_weights(self.scales), means.clamp(min=MIN_SIMILARITY).log()
        power = sum(weight * scale for weight, scale in zip(weights, logarithms.unbind(1), strict=True)).exp()
        return 1 - power.mean() + sum(weight * scale.mean() for weight, scale in zip(weights, below.unbind(1), strict=True))


class Gradient(ImageLoss):
    """weight · Σ over axes of E|Δfake - Δreal|, Δ the difference of a pixel and the next along the axis: edges in place and as steep.

    ValueError for a side under 2.

    Source: Mathieu et al. 2016 (arXiv 1511.05440), eq. 6 with α = 1. They compare |Δ|, to which bright beside dark is dark beside bright;
    we compare with the sign, and take means where they take sums.
    """

    def value(self, fake: Tensor, real: Tensor, features: Features | None) -> Tensor:
        if fake.ndim < 3 or min(fake.shape[2:]) < 2:
            raise ValueError(f"a gradient needs images (B, C, *S) with sides of 2 or more, got {tuple(fake.shape)}")
        error = fake - real
        return torch.stack([error.diff(dim=axis).abs().mean() for axis in range(2, fake.ndim)]).sum()


class FeatureMatching(ImageLoss):
    """weight · mean over D's layers of E|D_i(fake) - D_i(real)|, each over all numbers of the layer's map; no gradient to the real's.

    D runs as its caller has it, autocast and all; only its maps are widened. ValueError without `features`, and for none.

    Source: Wang et al. 2018 (pix2pixHD, arXiv 1711.11585), eq. 3, with weight 10. They sum over layers and discriminators, we take the
    mean, so that the weight means the same for any number of them.
    """

    of_critic = True

    def value(self, fake: Tensor, real: Tensor, features: Features | None) -> Tensor:
        if features is None:
            raise ValueError("feature matching needs the discriminator's features; use a game that hands them on, such as translation")
        made = features(fake)
        with torch.no_grad():
            aims = features(real)
        if not made:
            raise ValueError("feature matching needs a discriminator with one feature map or more, got none")
        return torch.stack([F.l1_loss(_wide(a), _wide(b)) for a, b in zip(made, aims, strict=True)]).mean()


class Perceptual(ImageLoss):
    """weight · E‖φ(fake) - φ(real)‖²: φ the `extractor`, images (B, C, *S) in [-1, 1] to features (B, …), summed over, images averaged.

    The extractor is frozen here, stays in evaluation mode and runs in float32. Of conf/extractor these serve: random, lpips, radimagenet,
    swav, dinov2, file and torchscript, whose file is a program; no checkpoint holds the weights of any, and its generator is used without
    them. inception rounds the images, radiomics counts gray levels, and domain is fitted to judge.
    Features averaged over space tell what is there and not where: pay `L1` beside them, or take lpips with a grid. A distance in a space
    that G was trained in says little of G: judge it in another.
    ValueError for those that do not serve, and for another whose features turn out to have no gradient to the images.

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
            raise ValueError(f"a perceptual loss needs {TEACHERS}; these have none")
        return (_wide(made) - _wide(aim)).square().flatten(1).sum(1).mean()


class SoftDice(ImageLoss):
    """weight · E(1 - (2 Σ p m + 1) / (Σ p² + Σ m² + 1)), sums over pixels, mean over images and channels; p = (fake + 1) / 2, m of real.

    Every channel is a structure of its own and weighs alike, however small. The 1 is a pixel: both empty pay nothing, and a structure
    that is rightly absent still has a slope; where nothing is marked that slope is small, so pay `CrossEntropy` beside it.

    Source: Milletari et al. 2016 (arXiv 1606.04797), section 3, without the 1.
    """

    def value(self, fake: Tensor, real: Tensor, features: Features | None) -> Tensor:
        p, mask = (as_share(images.flatten(2)) for images in (fake, real))  # (B, C, pixels)
        total = p.square().sum(2) + mask.square().sum(2)
        return 1 - ((2 * (p * mask).sum(2) + SMOOTH) / (total + SMOOTH)).mean()


class CrossEntropy(ImageLoss):
    """weight · E(-m log p - (1 - m) log(1 - p)), of each channel by itself; p = (fake + 1) / 2, m of the real, 0, 1 or a share.

    By the logit of p, which is 2 artanh(fake). The fake is held within ±(1 - 2⁻²³), a logit of 16.6, which is also the most a pixel pays;
    beyond it there is no gradient, nor is there through a tanh that has reached 1.
    """

    def value(self, fake: Tensor, real: Tensor, features: Features | None) -> Tensor:
        logits = 2 * fake.clamp(-MAX_CERTAIN, MAX_CERTAIN).atanh()
        return F.binary_cross_entropy_with_logits(logits, as_share(real))


def _wide(images: Tensor) -> Tensor:
    return images.float() if images.dtype in (torch.float16, torch.bfloat16) else images
