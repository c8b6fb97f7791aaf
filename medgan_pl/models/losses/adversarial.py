"""Adversarial objectives on logits: the loss of the discriminator and that of the generator. A higher logit means a more real image.

Each has two methods, `discriminator(real_logits, fake_logits)` and `generator(fake_logits, real_logits)`, takes logits of shape (B,) or
(B, *) and averages over all of them. `paired` is True if the generator's loss needs the real logits too. Logits in half precision are
converted to float32 first, as a squared logit of 300 is infinite in float16.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

RealLogits = Float[Tensor, "real_count ..."]
FakeLogits = Float[Tensor, "fake_count ..."]
Loss = Float[Tensor, ""]


def accuracy(real_logits: RealLogits, fake_logits: FakeLogits) -> Loss:
    """Return the share of all pairs of one real and one fake that D orders correctly, ties half: 0.5 is chance, 1 is perfect.

    An image counts by its mean logit. It is the area under the ROC curve (Hanley & McNeil 1982); it needs no threshold and means the same
    under every objective. NaN if a logit is not finite.
    """
    real, fake = (_wide(logits.detach()).reshape(len(logits), -1).mean(1) for logits in (real_logits, fake_logits))
    nothing = 0 * (real.sum() + fake.sum())  # NaN if a logit is not finite: the sign of NaN is 0, which would count as chance
    return ((real[:, None] - fake).sign().mean() + 1) / 2 + nothing


@dataclass(frozen=True)
class NonSaturating:
    """The loss of the first GAN, in the generator's form that does not vanish.

    D: E[softplus(-D(x))] + E[softplus(D(G(z)))] = -E[log s(D(x))] - E[log(1 - s(D(G(z))))], with s the sigmoid
    G: E[softplus(-D(G(z)))] = -E[log s(D(G(z)))]

    Source: Goodfellow et al. 2014 (arXiv 1406.2661), eq. 1 and the end of section 3; softplus prevents overflow.
    """

    paired: ClassVar[bool] = False

    def discriminator(self, real_logits: RealLogits, fake_logits: FakeLogits) -> Loss:
        return softplus(-_wide(real_logits)).mean() + softplus(_wide(fake_logits)).mean()

    def generator(self, fake_logits: FakeLogits, real_logits: RealLogits | None = None) -> Loss:
        return softplus(-_wide(fake_logits)).mean()


@dataclass(frozen=True)
class Saturating:
    """The first minimax loss; its generator learns nothing while the discriminator is certain. It is for demonstration only.

    D: as `NonSaturating`
    G: E[log(1 - s(D(G(z))))] = -E[softplus(D(G(z)))], which is below zero

    Source: Goodfellow et al. 2014 (arXiv 1406.2661), eq. 1.
    """

    paired: ClassVar[bool] = False

    def discriminator(self, real_logits: RealLogits, fake_logits: FakeLogits) -> Loss:
        return NonSaturating().discriminator(real_logits, fake_logits)

    def generator(self, fake_logits: FakeLogits, real_logits: RealLogits | None = None) -> Loss:
        return -softplus(_wide(fake_logits)).mean()


@dataclass(frozen=True)
class LeastSquares:
    """LSGAN: regress the logits on a target for reals (b) and one for fakes (a).

    D: 1/2 E[(D(x) - b)²] + 1/2 E[(D(G(z)) - a)²]
    G: 1/2 E[(D(G(z)) - b)²]

    Source: Mao et al. 2017 (arXiv 1611.04076), eq. 2 with c = b, the 0-1 coding of eq. 9. pix2pix and CycleGAN leave out the halves in G.
    """

    real_target: float = 1.0
    fake_target: float = 0.0
    paired: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.real_target == self.fake_target:
            raise ValueError(f"`real_target` and `fake_target` must differ, got {self.real_target} for both")

    def discriminator(self, real_logits: RealLogits, fake_logits: FakeLogits) -> Loss:
        real = (_wide(real_logits) - self.real_target).square().mean()
        fake = (_wide(fake_logits) - self.fake_target).square().mean()
        return (real + fake) / 2

    def generator(self, fake_logits: FakeLogits, real_logits: RealLogits | None = None) -> Loss:
        return (_wide(fake_logits) - self.real_target).square().mean() / 2


@dataclass(frozen=True)
class Hinge:
    """The discriminator learns only from logits inside its margin of 1; the generator raises the logits of its images.

    D: E[max(0, 1 - D(x))] + E[max(0, 1 + D(G(z)))]
    G: -E[D(G(z))]

    Source: Lim & Ye 2017 (arXiv 1705.02894), section 3; Miyato et al. 2018 (arXiv 1802.05957), eq. 16 and 17.
    """

    paired: ClassVar[bool] = False

    def discriminator(self, real_logits: RealLogits, fake_logits: FakeLogits) -> Loss:
        return (1 - _wide(real_logits)).relu().mean() + (1 + _wide(fake_logits)).relu().mean()

    def generator(self, fake_logits: FakeLogits, real_logits: RealLogits | None = None) -> Loss:
        return -_wide(fake_logits).mean()


@dataclass(frozen=True)
class Wasserstein:
    """The dual of the earth mover's distance; it has no lower bound without a penalty that keeps D smooth (`wgan_gp`).

    D: E[D(G(z))] - E[D(x)]
    G: -E[D(G(z))]

    Source: Arjovsky et al. 2017 (arXiv 1701.07875), eq. 2 and algorithm 1; we add no clipping of weights.
    """

    paired: ClassVar[bool] = False

    def discriminator(self, real_logits: RealLogits, fake_logits: FakeLogits) -> Loss:
        return _wide(fake_logits).mean() - _wide(real_logits).mean()

    def generator(self, fake_logits: FakeLogits, real_logits: RealLogits | None = None) -> Loss:
        return -_wide(fake_logits).mean()


@dataclass(frozen=True)
class Separate:
    """Kind A: D judges reals and fakes separately, and their losses are added, as in `base` and every classical objective."""

    base: "NonSaturating | Saturating | LeastSquares | Hinge | Wasserstein"
    paired: ClassVar[bool] = False

    def discriminator(self, real_logits: RealLogits, fake_logits: FakeLogits) -> Loss:
        return self.base.discriminator(real_logits, fake_logits)

    def generator(self, fake_logits: FakeLogits, real_logits: RealLogits | None = None) -> Loss:
        return self.base.generator(fake_logits)


@dataclass(frozen=True)
class Relative:
    """Kind B: D judges each fake against the real image of the same row, so that G cannot drop a mode of the data for good.

    With the margin a = D(x) - D(G(z)) and L_D, L_G the losses of `base`:
    D: L_D(a, -a) / 2
    G: L_G(-a)
    If a base treats both sides alike, the half leaves one of two equal terms. `NonSaturating` becomes RpSGAN, the loss of R3GAN, with D:
    E[softplus(-a)], G: E[softplus(a)]; `Hinge` becomes E[max(0, 1 - a)] and E[a]; `Wasserstein` stays. `LeastSquares` is symmetric with
    the targets 1 and -1 (RpLSGAN). Training converges with R1 and R2 together (`r1r2`).

    Raise ValueError if `real_logits` and `fake_logits` differ in shape, or if the generator's loss gets no real logits.

    Source: Jolicoeur-Martineau 2019 (arXiv 1807.00734), section 3.1; Huang et al. 2025 (arXiv 2501.05441), eq. 2 with
    f(t) = -log(1 + exp(-t)), the generator in its non-saturating form as in their code.
    """

    base: "NonSaturating | Saturating | LeastSquares | Hinge | Wasserstein"
    paired: ClassVar[bool] = True

    def discriminator(self, real_logits: RealLogits, fake_logits: FakeLogits) -> Loss:
        advantage = _advantage(real_logits, fake_logits)
        return self.base.discriminator(advantage, -advantage) / 2

    def generator(self, fake_logits: FakeLogits, real_logits: RealLogits | None = None) -> Loss:
        if real_logits is None:
            raise ValueError("a relative objective compares each fake with a real and needs `real_logits`, got None")
        return self.base.generator(-_advantage(real_logits, fake_logits))


@dataclass(frozen=True)
class Hybrid:
    """Both kinds: `separate` × kind A + (1 - `separate`) × kind B, for D and for G, on the same logits.

    Raise ValueError unless 0 < separate < 1, and as `Relative`.
    """

    base: "NonSaturating | Saturating | LeastSquares | Hinge | Wasserstein"
    separate: float = 0.5
    paired: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.separate < 1:
            raise ValueError(
                f"`separate` must be between 0 and 1, got {self.separate}; for 1 use objective=separate, for 0 objective=relative"
            )

    def discriminator(self, real_logits: RealLogits, fake_logits: FakeLogits) -> Loss:
        apart, against = (kind(self.base).discriminator(real_logits, fake_logits) for kind in (Separate, Relative))
        return self.separate * apart + (1 - self.separate) * against

    def generator(self, fake_logits: FakeLogits, real_logits: RealLogits | None = None) -> Loss:
        apart, against = (kind(self.base).generator(fake_logits, real_logits) for kind in (Separate, Relative))
        return self.separate * apart + (1 - self.separate) * against


def _advantage(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return each real's logit minus that of the fake in its row."""
    if real_logits.shape != fake_logits.shape:
        raise ValueError(
            f"a relative objective pairs each real with one fake and needs equal shapes, got real_logits {tuple(real_logits.shape)} "
            f"and fake_logits {tuple(fake_logits.shape)}; draw as many fakes as there are reals"
        )
    return _wide(real_logits) - _wide(fake_logits)


def _wide(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
