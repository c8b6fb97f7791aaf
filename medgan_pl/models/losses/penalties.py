"""Penalties on the discriminator's gradient with respect to its input.

Each is called as `penalty(critic, real, fake, t)`, with `critic` from images (B, C, *S) to logits (B, *), and returns a weighted scalar:
weight × every × value. A lazy penalty, added only if `due(step)`, so has the same mean strength as one added each step (Karras et al. 2020,
arXiv 1912.04958, appendix B). `t` (B,) in [0, 1) gives the point between real and fake for a `mixed` penalty; the game draws it, so that a
batch accumulated in parts has the same points as the whole.

D(x) of one image is the mean of its logits, as in the objective, so that `weight` means the same for one logit and for a map of patches
(a sum would penalize h × w patches up to (h w)² times as much). Everything runs in float32 outside autocast, and the graph is kept for the
second derivative. The images are detached: a penalty concerns only the discriminator.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from medgan_pl.core.counts import whole_number

Critic = Callable[[Tensor], Tensor]
Real = Float[Tensor, "real_count channels *space"]
Fake = Float[Tensor, "fake_count ..."]
Places = Float[Tensor, "fake_count"]
Penalty = Float[Tensor, ""]


@dataclass(frozen=True)
class NoPenalty:
    """No penalty: 0, and never due."""

    mixed: ClassVar[bool] = False

    def due(self, step: int) -> bool:
        return False

    def __call__(self, critic: Critic, real: Real, fake: Fake, t: Places | None = None) -> Penalty:
        return torch.zeros((), device=real.device)


@dataclass(frozen=True)
class R1:
    """weight/2 · E‖∇D(x)‖² on real images: D must be flat around the data.

    Raise ValueError for weight <= 0, every < 1, or a critic that does not depend on its input.

    Source: Mescheder et al. 2018 (arXiv 1801.04406), eq. 9.
    """

    mixed: ClassVar[bool] = False
    weight: float
    every: int = 1

    def __post_init__(self) -> None:
        _validate(self.weight, self.every)

    def due(self, step: int) -> bool:
        return step % self.every == 0

    def __call__(self, critic: Critic, real: Real, fake: Fake, t: Places | None = None) -> Penalty:
        return self.weight * self.every / 2 * _squared_norms(critic, real).mean()


@dataclass(frozen=True)
class R1R2:
    """weight/2 · (E‖∇D(x)‖² + E‖∇D(G(z))‖²): on the real images and on the fakes.

    `reference`: the numbers of an image (channels × pixels) for which `weight` holds; images of n numbers get weight · n/reference.
    The same images in n numbers are √n times as far apart, so a D with the same logits is 1/√n times as steep. Its squared gradient falls
    as 1/n, and the weight must grow as n for the same effect. A D of one channel so has three times the squared gradient of one with the
    same logits on three equal channels (and a third, if each channel has the same slope). None: `weight` for every image size.

    Raise ValueError for weight <= 0, every < 1, reference < 1, or a critic that does not depend on its input.

    Source: Mescheder et al. 2018 (arXiv 1801.04406), eq. 9 and 10; both together: Huang et al. 2025 (arXiv 2501.05441), section 2.2. They
    set the weight by hand for each size; the rule is ours, in the form of Karras et al. 2020 (arXiv 2006.06676, appendix C).
    """

    mixed: ClassVar[bool] = False
    weight: float
    every: int = 1
    reference: int | None = None

    def __post_init__(self) -> None:
        _validate(self.weight, self.every)
        if self.reference is not None:
            whole_number("reference", self.reference, 1, "null is none")

    def due(self, step: int) -> bool:
        return step % self.every == 0

    def __call__(self, critic: Critic, real: Real, fake: Fake, t: Places | None = None) -> Penalty:
        weight = self.weight if self.reference is None else self.weight * real[0].numel() / self.reference
        # Two passes and not one joint pass: the critic holds the condition of one batch.
        return weight * self.every / 2 * (_squared_norms(critic, real).mean() + _squared_norms(critic, fake).mean())


@dataclass(frozen=True)
class WassersteinPenalty:
    """weight · E(‖∇D(x̂)‖ - 1)², x̂ = t x + (1 - t) G(z), one t for each image, uniform on [0, 1): D has slope 1.

    A missing `t` is drawn from the global generator.
    Raise ValueError for weight <= 0, every < 1, real and fake of unequal shapes, or a critic that does not depend on its input.

    Source: Gulrajani et al. 2017 (arXiv 1704.00028), eq. 3, with their weight of 10.
    """

    mixed: ClassVar[bool] = True
    weight: float = 10.0
    every: int = 1

    def __post_init__(self) -> None:
        _validate(self.weight, self.every)

    def due(self, step: int) -> bool:
        return step % self.every == 0

    def __call__(self, critic: Critic, real: Real, fake: Fake, t: Places | None = None) -> Penalty:
        if real.shape != fake.shape:
            raise ValueError(
                f"WassersteinPenalty mixes each real with one fake and needs equal shapes, got real {tuple(real.shape)} "
                f"and fake {tuple(fake.shape)}; draw as many fakes as there are reals"
            )
        real, fake = real.detach().float(), fake.detach().float()
        t = (torch.rand(len(real), device=real.device) if t is None else t).view(-1, *[1] * (real.ndim - 1))  # (B, 1, ..., 1)
        # The slope of the square root at 0 is infinite: 1e-12 keeps it finite where the critic is flat and is negligible elsewhere.
        norms = (_squared_norms(critic, t * real + (1 - t) * fake) + 1e-12).sqrt()
        return self.weight * self.every * (norms - 1).square().mean()


def _squared_norms(critic: Critic, images: Tensor) -> Tensor:
    """Return ‖∇D(x)‖² of each image, (B,), with the graph to the critic's weights."""
    with torch.autocast(device_type=images.device.type, enabled=False):
        images = images.detach().float().requires_grad_()
        logits = critic(images)
        # Each logit sees its own image only (batch normalization in D breaks this), so the gradient of the sum holds all of them.
        total = logits.reshape(len(images), -1).mean(1).sum()
        gradient = torch.autograd.grad(total, images, create_graph=True, allow_unused=True)[0] if total.requires_grad else None
        if gradient is None:
            raise ValueError(
                "a gradient penalty needs a critic whose logits depend on the images; there is no path from them to the logits: "
                "does the critic ignore or detach its input, or run under no_grad?"
            )
        return gradient.flatten(1).square().sum(1)


def _validate(weight: float, every: int) -> None:
    if weight <= 0:
        raise ValueError(f"`weight` must be above 0, got {weight}; for no penalty use penalty=none")
    whole_number("every", every, 1, "1 is each step")
