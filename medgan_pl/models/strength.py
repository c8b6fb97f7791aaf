"""The probability of an augmentation: fixed, ramped or adaptive."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from medgan_pl.core.counts import whole_number

Ask = Callable[[], Tensor]


class Strength(Protocol):
    """The probability `p` of each operation, a scalar on the images' device, so that no step waits for it."""

    p: Tensor

    def adapt(self, accuracy: Ask, images: int, new_images: int, total_images: int) -> None: ...


class Fixed(nn.Module):
    """A constant probability `p`. Raise ValueError outside [0, 1]."""

    p: Tensor

    def __init__(self, p: float) -> None:
        super().__init__()
        self.register_buffer("p", torch.tensor(probability("p", p)), persistent=False)

    def adapt(self, accuracy: Ask, images: int, new_images: int, total_images: int) -> None:
        """Do nothing: there is nothing to adapt."""


class Ramped(nn.Module):
    """A probability that changes with the images shown: `ramp`, (images, total_images) -> p, such as `Ramp` of schedules.py.

    R3GAN does this (Huang et al. 2025, arXiv 2501.05441). Raise ValueError if it begins or ends outside [0, 1].
    """

    p: Tensor

    def __init__(self, ramp: Callable[[int, int], float]) -> None:
        super().__init__()
        self.ramp = ramp
        probability("ramp.end", ramp(2**53, 1))
        self.register_buffer("p", torch.tensor(probability("ramp.start", ramp(0, 1))))

    def adapt(self, accuracy: Ask, images: int, new_images: int, total_images: int) -> None:
        self.p.fill_(self.ramp(images, total_images))


class Adaptive(nn.Module):
    """ADA: a probability that rises while D's accuracy is above `target` and falls while it is below, within [0, `max_p`].

    After each `every` turns of D: p <- clamp(p + sign(a - target) · images of these turns / full_images, 0, max_p), with a their mean
    accuracy (losses/adversarial.py: the share of pairs of a real and a fake that D orders correctly), the same on all ranks.

    The paper uses r = E[sign D(x)] on reals with a target of 0.6; that needs logits with a meaningful 0, unlike those of Wasserstein and
    relativistic objectives. If the logits of reals and of fakes are normal about ±m with equal variance, r = 0.6 is an accuracy of 0.88.
    The paper has `every` = 4, `full_images` = 500,000 (in which p can rise from 0 to 1) and no bound; it finds that operations leak above
    about 0.8, hence `max_p`. State, saved with the run: `p`, and the turns, accuracies and images since it last changed.
    Raise ValueError for a target outside (0.5, 1), a `max_p` or `start` outside [0, 1], or counts below 1.

    Source: Karras et al. 2020 (arXiv 2006.06676), section 3.
    """

    p: Tensor

    def __init__(self, *, target: float, full_images: int, max_p: float = 0.8, every: int = 4, start: float = 0.0) -> None:
        super().__init__()
        if not 0.5 < target < 1:
            raise ValueError(f"`target` must be an accuracy between 0.5 (chance) and 1 (perfect), got {target}")
        whole_number("full_images", full_images, 1)
        whole_number("every", every, 1)
        if probability("start", start) > probability("max_p", max_p):
            raise ValueError(f"`start` must be at most `max_p`, got {start} and {max_p}")
        self.target, self.full_images, self.max_p, self.every = target, full_images, max_p, every
        self.register_buffer("p", torch.tensor(float(start)))
        # Since p last changed: turns, sum of accuracies, images. Checkpoints hold this name.
        self.register_buffer("told", torch.zeros(3))

    def adapt(self, accuracy: Ask, images: int, new_images: int, total_images: int) -> None:
        # All on the device: copying a number to the host would delay the next step.
        one = torch.ones_like(self.p)
        sums = self.told + torch.stack([one, accuracy().to(one), one * new_images])
        turns, right, shown = sums
        # NaN, from a step that was not finite, changes nothing.
        step = (right / turns - self.target).sign().nan_to_num() * shown / self.full_images
        due = turns >= self.every
        self.p.copy_(torch.where(due, (self.p + step).clamp(0, self.max_p), self.p))
        self.told.copy_(torch.where(due, 0.0, sums))


def probability(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"`{name}` must be a probability, in [0, 1], got {value}")
    return float(value)
