"""Synthesis with a discriminator that also reconstructs its input (Liu et al. 2021, arXiv 2101.04775)."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from medgan_pl.core.batch import Batch
from medgan_pl.models.games.base import Losses
from medgan_pl.models.games.synthesis import Synthesis
from medgan_pl.models.games.unpaired import distance
from medgan_pl.models.losses.adversarial import accuracy


class Reconstruction(Synthesis):
    """Synthesis whose D also learns to decode the real image from its features, so that it cannot rely on one detail of few images.

    D: objective + `weight` · Σ E|decoded - T(x)| over two views of an augmented real x: the whole, and a part at a place drawn each step
    (networks/fastgan.py), without their padding. G has only the objective. Raise ValueError if the weight is not above 0.

    Source: section 3.2, with the mean absolute error as its norm; the authors' code has a pretrained perceptual distance. `model=fastgan`
    has the paper's hinge loss; their code draws its margin at random, from 0.8 to 1.
    """

    reads: ClassVar[frozenset[str]] = Synthesis.reads | {"inside"}

    def __init__(self, *, weight: float = 1.0, **shared: Any) -> None:
        super().__init__(**shared)
        if weight <= 0:
            raise ValueError(f"`weight` must be above 0, got {weight}; without reconstruction use game=synthesis and another model")
        self.weight = weight

    def draw(self, batch: Batch) -> Batch:
        batch = super().draw(batch)
        if "image" in batch and "place" not in batch:
            image = batch["image"]
            batch = {**batch, "place": torch.rand(len(image), image.ndim - 2, device=image.device)}
        return batch

    def discriminator_losses(self, d: nn.Module, batch: Batch, fake: Tensor) -> Losses:
        critic, real = self.judge(d, batch), self.real(batch)
        known = {}
        if "inside" in batch:  # as -1 and 1, which augmentations of gray values keep; what they cut out, 0, is to be decoded
            known["inside"] = (self.augmented(2 * batch["inside"] - 1, batch) >= 0).to(real.dtype)
        real_logits, views = d(self.augmented(real, batch), self.condition(batch), batch["place"], **known)
        fake_logits = critic(fake)
        terms = self.verdict_terms(critic, batch, real, fake, real_logits, fake_logits)
        terms |= {name: self.weight * distance(made.float(), *of) for name, (made, *of) in views.items()}
        return Losses(
            terms, logged={"real": real_logits.mean(), "fake": fake_logits.mean(), "accuracy": accuracy(real_logits, fake_logits)}
        )
