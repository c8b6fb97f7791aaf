"""Adversarial objectives on logits: what the discriminator pays, what the generator pays. A logit is higher the more real the image looks.

Each has the same two verbs, `discriminator(real_logits, fake_logits)` and `generator(fake_logits, real_logits)`, takes logits of
any shape (B,) or (B, *) and averages over all of them. `paired` is True where the generator's verb needs the real logits too. Logits in
half precision are widened to float32 first: a squared logit of 300 is already infinite in float16.
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
    """The share of all pairs of one real and one fake that D orders rightly, ties half: 0.5 is chance, 1 is perfect.

    Of an image its mean logit counts. It needs no threshold, so it means the same under every objective; it is the area under the ROC curve
    (Hanley & McNeil 1982). NaN if a logit is not finite.
    """
    real, fake = (_wide(logits.detach()).reshape(len(logits), -1).mean(1) for logits in (real_logits, fake_logits))
    nothing = 0 * (real.sum() + fake.sum())  # NaN if a logit is not finite: the sign of NaN is 0, which would count as chance
    return ((real[:, None] - fake).sign().mean() + 1) / 2 + nothing


@dataclass(frozen=True)
class NonSaturating:
    """The game of the first GAN, with the generator's loss that does not vanish.

    D: E[softplus(-D(x))] + E[softplus(D(G(z)))] = -E[log s(D(x))] - E[log(1 - s(D(G(z))))], with s the sigmoid
    G: E[softplus(-D(G(z)))] = -E[log s(D(G(z)))]

    Source: Goodfellow et al. 2014 (arXiv 1406.2661), eq. 1 and the end of section 3; written with softplus so that no logit overflows.
    """

    paired: ClassVar[bool] = False

    def discriminator(self, real_logits: RealLogits, fake_logits: FakeLogits) -> Loss:
        return softplus(-_wide(real_logits)).mean() + softplus(_wide(fake_logits)).mean()

    def generator(self, fake_logits: FakeLogits, real_logits: RealLogits | None = None) -> Loss:
        return softplus(-_wide(fake_logits)).mean()


@dataclass(frozen=True)
class Saturating:
    """The minimax game as it was first written; its generator learns nothing while the discriminator is sure (to show why, not to use).

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
    """LSGAN: the logits are regressed on a target for real (b) and one for fake (a).

    D: 1/2 E[(D(x) - b)²] + 1/2 E[(D(G(z)) - a)²]
    G: 1/2 E[(D(G(z)) - b)²]

    Source: Mao et al. 2017 (arXiv 1611.04076), eq. 2 with c = b, the 0-1 coding of eq. 9. pix2pix and CycleGAN leave out the halves in G.
    """

    real_target: float = 1.0
    fake_target: float = 0.0
    paired: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.real_target == self.fake_target:
            raise ValueError(f"`real_target` and `fake_target` must differ, or there is nothing to tell apart; both are {self.real_target}")

    def discriminator(self, real_logits: RealLogits, fake_logits: FakeLogits) -> Loss:
        real = (_wide(real_logits) - self.real_target).square().mean()
        fake = (_wide(fake_logits) - self.fake_target).square().mean()
        return (real + fake) / 2

    def generator(self, fake_logits: FakeLogits, real_logits: RealLogits | None = None) -> Loss:
        return (_wide(fake_logits) - self.real_target).square().mean() / 2


@dataclass(frozen=True)
class Hinge:
    """The discriminator only works on images inside its margin of 1; the generator raises the logit of its images.

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
    """The earth mover's distance by its dual; has no lower bound without a penalty that keeps D smooth (`wgan_gp`).

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
    """Kind A: D judges real and fake each by itself, and the two verdicts are added: what `base`, and every classical objective, does."""

    base: "NonSaturating | Saturating | LeastSquares | Hinge | Wasserstein"
    paired: ClassVar[bool] = False

    def discriminator(self, real_logits: RealLogits, fake_logits: FakeLogits) -> Loss:
        return self.base.discriminator(real_logits, fake_logits)

    def generator(self, fake_logits: FakeLogits, real_logits: RealLogits | None = None) -> Loss:
        return self.base.generator(fake_logits)


@dataclass(frozen=True)
class Relative:
    """Kind B: D judges each fake against the real image of the same row, so that no mode of the data can be left out for good.

    With a = D(x) - D(G(z)), by how much the real beats its fake, and L_D, L_G the losses of `base`:
    D: L_D(a, -a) / 2
    G: L_G(-a)
    Of a base that treats the two sides alike the half leaves one of two equal terms. `NonSaturating` so is RpSGAN, the game of R3GAN, D:
    E[softplus(-a)], G: E[softplus(a)]; `Hinge` is E[max(0, 1 - a)] and E[a], `Wasserstein` itself. `LeastSquares` is symmetric with the
    targets 1 and -1 (RpLSGAN).

    `real_logits` and `fake_logits` must have the same shape. Converges with R1 and R2 together (`r1r2`).
    Raises ValueError for unequal shapes and for a generator's loss without real logits.

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
            raise ValueError("a relative objective must be given `real_logits`: it compares each fake with a real; got None")
        return self.base.generator(-_advantage(real_logits, fake_logits))


@dataclass(frozen=True)
class Hybrid:
    """Both kinds: `separate` × kind A + (1 - `separate`) × kind B, for D and for G, on the same logits.

    Raises ValueError unless 0 < separate < 1, and as `Relative`.
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
    """By how much each real beats the fake of its row."""
    if real_logits.shape != fake_logits.shape:
        raise ValueError(
            f"a relative objective pairs each real with one fake: the shapes must be equal, got real_logits {tuple(real_logits.shape)} "
            f"and fake_logits {tuple(fake_logits.shape)}; draw as many fakes as there are reals"
        )
    return _wide(real_logits) - _wide(fake_logits)


def _wide(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
