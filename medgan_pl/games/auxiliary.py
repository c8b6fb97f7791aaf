"""Conditional synthesis by a discriminator that names the condition (AC-GAN: Odena et al. 2017, arXiv 1610.09585)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medgan_pl.batch import Batch
from medgan_pl.games.base import Critic, Losses, accuracy
from medgan_pl.games.synthesis import Synthesis


class AuxiliaryClassifier(Synthesis):
    """Synthesis whose D is not told the condition but names it; both players pay for a condition that D does not find.

    D's last layer is `networks.layers.Auxiliary`: a logit, class logits, covariates. Each pays `weight` × (cross-entropy of the class +
    mean squared error of the standardised covariates), over what is known: D on the reals, G on the fakes; D on the fakes too, at
    `fake_weight` of that. The paper has 1 there; 0 keeps D from agreeing with G on caricatures that name themselves well.
    """

    def __init__(self, *, weight: float = 1.0, fake_weight: float = 0.0, **shared: Any) -> None:
        super().__init__(**shared)
        if weight <= 0 or fake_weight < 0:
            raise ValueError(f"`weight` must be above 0 and `fake_weight` at least 0, got {weight} and {fake_weight}")
        self.weight, self.fake_weight = weight, fake_weight

    def critic(self, d: nn.Module, batch: Batch) -> Critic:
        return lambda image: d(image)[:, 0]

    def naming(self, d: nn.Module, batch: Batch) -> Critic:
        """D whole, behind the augmentation: images to (B, 1 + classes + covariates)."""
        augment = self.augment
        if augment is None or not augment.numbers:
            return d
        return lambda image: d(augment(image, batch["augment"]))

    def discriminator_losses(self, d: nn.Module, batch: Batch, fake: Tensor) -> Losses:
        naming, real = self.naming(d, batch), self.real(batch)
        told_real, told_fake = naming(real), naming(fake)
        real_logits, fake_logits = told_real[:, 0], told_fake[:, 0]
        terms = self.verdict_terms(self.judge(d, batch), real, fake, real_logits, fake_logits)
        terms["naming"] = self.weight * (self.misnamed(told_real, batch) + self.fake_weight * self.misnamed(told_fake, batch))
        return Losses(terms, watch={"real": real_logits.mean(), "fake": fake_logits.mean(), "accuracy": accuracy(real_logits, fake_logits)})

    def generator_losses(self, d: nn.Module, batch: Batch, fake: Tensor) -> Losses:
        naming = self.naming(d, batch)
        told = naming(fake)
        real_logits = naming(self.real(batch))[:, 0] if self.objective.paired else None
        terms = {"adversarial": self.objective.generator(told[:, 0], real_logits)}
        return Losses(terms | {"naming": self.weight * self.misnamed(told, batch)})

    def misnamed(self, told: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of the known classes plus mean squared error of the known covariates; 0 where nothing is known."""
        told = told.float()
        loss = told.new_zeros(()) + 0 * told.sum()  # the graph, also where a batch knows nothing
        if self.classes:
            known = batch["label"] >= 0
            if known.any():
                loss = loss + F.cross_entropy(told[known, 1 : 1 + self.classes], batch["label"][known])
        if self.covariates:
            values = batch["covariates"]
            known = values.isfinite()
            error = torch.where(known, told[:, 1 + self.classes :] - values.nan_to_num(), 0.0)
            loss = loss + error.square().sum() / known.sum().clamp(min=1)
        return loss
